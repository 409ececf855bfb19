"""Which vectors a client works with, what it searches for among them, and what an exact search finds."""

from array import array
from random import Random
from typing import Any, Dict, Iterator, List, NamedTuple, Optional

from aifactory_bench.node.contract import Context, PrepareError

from .vectors_exact_node import HAS_NUMPY, TooMuchError, remembered
from .vectors_file_node import FileError, read_vectors
from .vectors_node import Clusters, Vectors

_DIMENSION, _CLUSTERS, _SPREAD = 128, 100, 0.5
_WHAT = ("vectors", "dimension", "clusters", "spread", "data_seed", "file", "queries_file", "queries")
"""Parameters that say which vectors and queries there are."""
_NOISE = 0.01


class Data(NamedTuple):
    """Vectors, queries, and the numbers of each query's nearest vectors, best first."""

    vectors: Vectors
    queries: Vectors
    exact: List[List[int]]
    facts: Dict[str, Any]
    """How the exact neighbours came about."""


_known: Dict[str, Data] = {}
"""The last one of this process: points differ in their load more often than in their data."""


def what_of(context: Context) -> Dict[str, Any]:
    """Return what says which vectors and queries there are."""
    return {name: context.parameters.get(name) for name in _WHAT}


def data_of(context: Context, classes: int = 1) -> Data:
    """Return the data that the parameters ask for.

    Args:
        context: `k` and `space` are read, too.
        classes: as of `vectors_exact_node.nearest`.

    Raises:
        PrepareError: a file cannot be used, or exact neighbours are out of reach.
    """
    what, k, space = what_of(context), int(context.parameters["k"]), str(context.parameters["space"])
    key = repr((what, k, space, classes))
    if key not in _known:
        try:
            vectors, queries = _from_file(what) if what["file"] else _seeded(what)
            folder = context.folder.parent  # of all points of this rank
            exact, was_there = remembered(folder, what, vectors, queries, k=k, space=space, classes=classes)
        except (FileError, TooMuchError) as error:
            raise PrepareError(str(error)) from None
        except OSError as error:
            raise PrepareError(f"the exact neighbours cannot be written down: {error.strerror or error}") from None
        by = "numpy" if HAS_NUMPY else "python"
        _known.clear()
        _known[key] = Data(vectors, queries, exact, {"exact_neighbours": "known" if was_there else by})
    return _known[key]


def fresh(context: Context, data: Data, part: int) -> "Iterator[array[float]]":
    """Yield new vectors like those that are there, of a generator's own."""
    what = what_of(context)
    if not what["file"]:
        centres, block = _centres(what), 0
        while True:
            yield from centres.draw(256, f"new-{context.point}-{part}", block)
            block += 1
    random = Random(f"{what['data_seed']}:{context.point}:{part}")
    while True:
        like = data.vectors[random.randrange(len(data.vectors))]
        width = _NOISE * max(map(abs, like))
        yield array("f", [value + random.uniform(-width, width) for value in like])


def _seeded(what: Dict[str, Any]) -> "tuple[Vectors, Vectors]":
    centres = _centres(what)
    return centres.draw(int(what["vectors"]), "vectors"), centres.draw(int(what["queries"]), "queries")


def _centres(what: Dict[str, Any]) -> Clusters:
    return Clusters(
        dimension=int(what["dimension"] or _DIMENSION),
        clusters=int(what["clusters"] or _CLUSTERS),
        spread=float(what["spread"] or _SPREAD),
        seed=int(what["data_seed"]),
    )


def _from_file(what: Dict[str, Any]) -> "tuple[Vectors, Vectors]":
    most, asked = int(what["vectors"]), int(what["queries"])
    found = read_vectors(what["file"], most + asked)
    queries: Optional[Vectors] = found.queries
    vectors = found.vectors
    if what["queries_file"]:
        other = read_vectors(what["queries_file"], asked)
        queries = other.queries or other.vectors
    if queries is None:
        left = len(vectors) - asked
        if left < 1:
            raise FileError(f"{what['file']}: {len(vectors)} vectors are too few to leave {asked} of them out as queries")
        queries, vectors = vectors.part(left, left + asked), vectors.part(0, left)
    if queries.dimension != vectors.dimension:
        raise FileError(f"the queries have {queries.dimension} numbers each, the vectors {vectors.dimension}")
    return vectors.part(0, min(most, len(vectors))), queries.part(0, min(asked, len(queries)))
