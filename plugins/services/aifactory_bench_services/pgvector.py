"""Vector search in PostgreSQL with pgvector, on the load core."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from attrs import field, frozen, validators

from aifactory_bench import BaseJob, Client, hookimpl

_MOST_INDEXED = 2000
"""Dimensions that pgvector can put into an index."""


def _number(default: int, least: int, most: int) -> int:
    made: int = field(default=default, validator=[validators.ge(least), validators.le(most)])
    return made


@frozen
class PgvectorParameters:
    """What a recipe says about vectors, index and queries."""

    vectors: int = _number(10_000, 10, 10_000_000)
    """Rows of the table, made by us: clusters of vectors from `load: seed`."""
    dimensions: int = _number(128, 2, 16_000)
    """Of a vector; at most 2000 with an index."""
    clusters: int = _number(100, 1, 100_000)
    """Centres around which vectors and queries lie."""
    metric: Literal["cosine", "l2", "inner_product"] = "cosine"
    """Distance: by angle, Euclidean, or the negative inner product."""
    index: Literal["hnsw", "ivfflat", "none"] = "hnsw"
    """`none`: every query looks at every vector, and finds the right ones."""
    m: int = _number(16, 2, 100)
    """`hnsw`: connections of a node of the graph."""
    ef_construction: int = _number(64, 4, 1000)
    """`hnsw`: candidates while the graph is built; at least twice `m`."""
    ef_search: int = _number(40, 1, 1000)
    """`hnsw`: candidates of a query; below `k` fewer than `k` are found."""
    lists: int = _number(100, 1, 32_768)
    """`ivfflat`: parts of the index."""
    probes: int = _number(10, 1, 32_768)
    """`ivfflat`: parts that a query looks at."""
    k: int = _number(10, 1, 1000)
    """Neighbours that are asked for."""
    queries: int = _number(1000, 1, 1_000_000)
    """Different queries, asked in an order by chance; the right neighbours of each are found before the window."""

    def __attrs_post_init__(self) -> None:
        if self.index != "none" and self.dimensions > _MOST_INDEXED:
            raise ValueError(f"dimensions: an index takes at most {_MOST_INDEXED}; found {self.dimensions}")
        if self.index == "hnsw" and self.ef_construction < 2 * self.m:
            raise ValueError(f"ef_construction: must be at least twice m, {2 * self.m}; found {self.ef_construction}")
        if self.k > self.vectors:
            raise ValueError(f"k: there are only {self.vectors} vectors; found {self.k}")


class PgvectorClient(Client):
    """Nearest neighbours by SQL, with the share of the right ones that were found."""

    kind = "pgvector-load"
    Parameters = PgvectorParameters
    node_module = "aifactory_bench_services.pgvector_node"
    targets: ClassVar = {"main": ("postgresql",)}


@hookimpl
def register_jobs() -> Sequence[type[BaseJob]]:
    """Return the client."""
    return [PgvectorClient]
