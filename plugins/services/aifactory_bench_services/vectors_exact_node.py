"""Exact nearest neighbours: by numpy where there is one, else by plain Python; both find the same.

Plain Python looks first where a query's neighbours must be: no vector of a cluster is nearer than the cluster's centre
less its radius, so that most clusters need not be looked at. What is found is exact either way.
"""

import hashlib
import heapq
import importlib
import json
import math
from operator import mul
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from aifactory_bench.node.files import read_json, write_json

from .vectors_node import Vectors

try:
    np: Any = importlib.import_module("numpy")  # a node need not have it
except ImportError:
    np = None

HAS_NUMPY = np is not None
_ROWS = 8192
"""Vectors that numpy multiplies at a time."""
_MOST_PRODUCTS = 3_000_000_000
"""Of numbers, that plain Python is asked for: some minutes."""
_dot = getattr(math, "sumprod", lambda one, other: sum(map(mul, one, other)))


class TooMuchError(Exception):
    """Plain Python would take too long; the text says what helps."""


class _Group(NamedTuple):
    centre: List[float]
    radius: float
    members: List[int]


def nearest(
    vectors: Vectors, queries: Vectors, k: int, space: str, *, classes: int = 1, with_numpy: Optional[bool] = None
) -> List[List[int]]:
    """Return the numbers of the nearest vectors of every query, best first; of equally near ones the lower number first.

    Args:
        vectors: among which.
        queries: for which.
        k: how many; fewer where there are fewer.
        space: one of `vectors_node.SPACES`.
        classes: a query finds vectors of its own class only; the class of a vector, and of a query, is its number modulo this.
        with_numpy: None: where it can be imported.

    Raises:
        TooMuchError: there is no numpy, and too much to be done.
    """
    if HAS_NUMPY if with_numpy is None else with_numpy:
        return _by_numpy(vectors, queries, k, space, classes)
    if vectors.clusters is None and len(vectors) * len(queries) * vectors.dimension > _MOST_PRODUCTS:
        raise TooMuchError(
            f"exact neighbours of {len(queries)} queries among {len(vectors)} vectors of {vectors.dimension} numbers take "
            "plain Python too long: use a Python on the nodes that has numpy, or ask for fewer queries"
        )
    search = _Search(vectors, space)
    return [search.nearest(list(query), k, number % classes, classes) for number, query in enumerate(queries)]


def remembered(
    folder: Path, what: Dict[str, Any], vectors: Vectors, queries: Vectors, **options: Any
) -> Tuple[List[List[int]], bool]:
    """Return `nearest(vectors, queries, **options)`, and whether an earlier point had written it into a folder of the run.

    Args:
        folder: exists; the file there is `neighbours-<digest>.json`.
        what: says which vectors and queries these are.
        vectors: as of `nearest`.
        queries: as of `nearest`.
        options: as of `nearest`.

    Raises:
        TooMuchError: as of `nearest`.
        OSError: the file cannot be written.
    """
    text = json.dumps([what, len(vectors), len(queries), options], sort_keys=True)
    path = folder / f"neighbours-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    try:
        known = read_json(path)
    except (OSError, ValueError):
        known = None
    if isinstance(known, list) and len(known) == len(queries):
        return known, True
    found = nearest(vectors, queries, **options)
    write_json(path, found)
    return found, False


def _by_numpy(vectors: Vectors, queries: Vectors, k: int, space: str, classes: int) -> List[List[int]]:
    asked = np.frombuffer(queries.values, np.float32).reshape(len(queries), -1).astype(np.float64)
    stored = np.frombuffer(vectors.values, np.float32).reshape(len(vectors), -1)
    best: List[List[Tuple[float, int]]] = [[] for _ in range(len(queries))]
    for begin in range(0, len(vectors), _ROWS):
        rows = stored[begin : begin + _ROWS].astype(np.float64)
        scores = asked @ rows.T
        squares = np.einsum("ij,ij->i", rows, rows)
        if space == "l2":
            scores = 2 * scores - squares
        elif space == "cosine":
            scores = scores / np.where(squares > 0, np.sqrt(squares), 1)
        numbers = np.arange(begin, begin + len(rows))
        for query, own in enumerate(scores):
            mine = numbers if classes == 1 else numbers[numbers % classes == query % classes]
            values = own[mine - begin]
            if len(mine) > k:
                kept = values >= np.partition(values, -k)[-k]  # equally near ones all of them
                mine, values = mine[kept], values[kept]
            best[query] = heapq.nsmallest(k, [*best[query], *zip((-values).tolist(), mine.tolist())])
    return [[number for _, number in found] for found in best]


class _Search:
    """In plain Python. A score is higher the nearer: of `l2` it is less by the square of the query's length."""

    def __init__(self, vectors: Vectors, space: str) -> None:
        self._space = space
        self._rows = [list(vector) for vector in vectors]
        self._squares = [_dot(row, row) for row in self._rows]
        if space == "cosine":
            lengths = [math.sqrt(square) or 1.0 for square in self._squares]
            self._units = [1 / length for length in lengths]
        else:
            self._units = [1.0] * len(self._rows)
        self._groups = self._grouped(vectors)

    def _grouped(self, vectors: Vectors) -> List[_Group]:
        if vectors.clusters is None:
            return [_Group([0.0] * vectors.dimension, math.inf, list(range(len(self._rows))))]
        members: Dict[int, List[int]] = {}
        for number, cluster in enumerate(vectors.clusters):
            members.setdefault(cluster, []).append(number)
        return [self._group(own) for own in members.values()]

    def _group(self, members: List[int]) -> _Group:
        units = self._units
        columns = zip(*([value * units[number] for value in self._rows[number]] for number in members))
        centre = [sum(column) / len(members) for column in columns]
        own = _dot(centre, centre)
        far = 0.0
        for number in members:
            unit = units[number]
            far = max(far, self._squares[number] * unit * unit - 2 * unit * _dot(centre, self._rows[number]) + own)
        return _Group(centre, math.sqrt(far) * (1 + 1e-9) + 1e-9, members)  # more than rounding can have taken off

    def nearest(self, query: List[float], k: int, own_class: int, classes: int) -> List[int]:
        length = math.sqrt(_dot(query, query))
        bounded = sorted(((self._bound(group, query, length), group) for group in self._groups), key=lambda pair: -pair[0])
        best: List[Tuple[float, int]] = []
        for bound, group in bounded:
            if len(best) == k and bound < -best[-1][0]:
                break
            found = [
                (-self._score(query, number), number)
                for number in group.members
                if classes == 1 or number % classes == own_class
            ]
            best = heapq.nsmallest(k, [*best, *found])
        return [number for _, number in best]

    def _score(self, query: List[float], number: int) -> float:
        product = float(_dot(query, self._rows[number]))
        return 2 * product - self._squares[number] if self._space == "l2" else product * self._units[number]

    def _bound(self, group: _Group, query: List[float], length: float) -> float:
        """Return a score that no member of a group is above."""
        product = float(_dot(query, group.centre))
        if self._space == "l2":
            between = math.sqrt(max(0.0, length * length - 2 * product + _dot(group.centre, group.centre)))
            return float(length * length - max(0.0, between - group.radius) ** 2 + 1e-9 * (1 + length * length))
        return product + length * group.radius
