"""Vectors for searches: seeded ones in clusters, as texts, and how much of the exact answer was found.

All numbers are 32-bit floats, as servers keep them. Seeded vectors are the same on every machine and every Python, with
and without numpy: their numbers are ten-thousandths, so that their texts are short and exact.
"""

import math
import sys
from array import array
from random import Random
from typing import Any, Iterator, List, Optional, Sequence, Tuple

SPACES = ("cosine", "l2", "ip")
"""How near two vectors are: the angle between them, their distance, their inner product."""
_SCALE = 10_000
"""Of seeded numbers; a whole number divided by it."""
_HALF = 1 << 15


class Vectors:
    """Vectors in one array, one behind the other; their number in it is what a vector is called."""

    __slots__ = ("clusters", "dimension", "values")

    def __init__(self, values: "array[float]", dimension: int, clusters: Optional[Sequence[int]] = None) -> None:
        self.values = values
        """Code `f`, `dimension` a vector."""
        self.dimension = dimension
        self.clusters = clusters
        """Of each vector; None: not known. It makes exact search faster and changes nothing of what it finds."""

    def __len__(self) -> int:
        return len(self.values) // self.dimension

    def __getitem__(self, number: int) -> "array[float]":
        if not 0 <= number < len(self):
            raise IndexError(number)
        return self.values[number * self.dimension : (number + 1) * self.dimension]

    def __iter__(self) -> "Iterator[array[float]]":
        return (self[number] for number in range(len(self)))

    def part(self, begin: int, end: int) -> "Vectors":
        """Return the vectors from a number to below another."""
        own = None if self.clusters is None else self.clusters[begin:end]
        return Vectors(self.values[begin * self.dimension : end * self.dimension], self.dimension, own)


class Clusters:
    """Where seeded vectors lie: around centres that are spread evenly over the cube from -1 to 1."""

    def __init__(self, dimension: int, clusters: int, spread: float, seed: int) -> None:
        """Draw the centres.

        Args:
            dimension: numbers a vector.
            clusters: number of centres.
            spread: how far from its centre a number of a vector may be, drawn evenly; 1 makes clusters hard to tell apart.
            seed: of everything drawn.
        """
        self._dimension = dimension
        self._seed = seed
        self._width = max(1, round(spread * _SCALE))
        random = Random(f"{seed}:centres")
        self._centres = [[random.randint(-_SCALE, _SCALE) for _ in range(dimension)] for _ in range(clusters)]

    def draw(self, count: int, stream: str, origin: int = 0) -> Vectors:
        """Return vectors; those of other streams, and of other origins in a stream, are other vectors.

        Args:
            count: how many.
            stream: what they are for, such as `vectors`, `queries`.
            origin: which part of the stream.
        """
        random = Random(f"{self._seed}:{stream}:{origin}")
        dimension, width, centres = self._dimension, self._width, self._centres
        own, clusters = array("f"), []
        for _ in range(count):
            cluster = int(random.random() * len(centres))
            clusters.append(cluster)
            noise = array("h", random.getrandbits(16 * dimension).to_bytes(2 * dimension, "little"))
            if sys.byteorder == "big":
                noise.byteswap()
            own.extend([(middle + noise_of * width // _HALF) / _SCALE for middle, noise_of in zip(centres[cluster], noise)])
        return Vectors(own, dimension, clusters)


def text_of(vector: "array[float]") -> str:
    """Return a vector as JSON, which is also what pgvector reads; reading it as 32-bit floats gives the same numbers."""
    texts = [f"{value:.7g}" for value in vector]
    if array("f", map(float, texts)) != vector:
        texts = [f"{value:.9g}" for value in vector]
    return f"[{','.join(texts)}]"


def hits(found: Sequence[Any], exact: Sequence[Any], k: int) -> Tuple[int, int]:
    """Return how many of the exact neighbours a search has found, and how many there were to be found.

    Vectors that are in `found` as None were not there when `exact` was made: each takes a place, and so there are fewer
    exact neighbours to be found.

    Args:
        found: what the server returned, best first.
        exact: the nearest ones, best first, `k` of them or as many as there are.
        k: how many were asked for.
    """
    others = sum(number is None for number in found)
    wanted = exact[: max(0, min(k, len(exact)) - others)] if len(exact) >= k else exact[: max(0, k - others)]
    return len(set(wanted) & set(found)), len(wanted)


def fifth_percentile(recalls: Sequence[Tuple[float, int]]) -> float:
    """Return the recall that 95 % of the queries reach.

    Args:
        recalls: recall, and how many queries had it.
    """
    rank = max(1, math.ceil(0.05 * sum(count for _, count in recalls)))
    for recall, count in sorted(recalls):
        rank -= count
        if rank <= 0:
            return recall
    return 0.0


def finite(values: "array[float]") -> bool:
    """Return whether all numbers are numbers."""
    try:
        return math.isfinite(math.fsum(values))
    except (ValueError, OverflowError):  # infinities of both signs
        return False


def chunks(total: int, size: int, begin: int = 0) -> List[Tuple[int, int]]:
    """Return begin and end of the pieces that a range of `total` from `begin` falls into."""
    return [(at, min(at + size, begin + total)) for at in range(begin, begin + total, size)]
