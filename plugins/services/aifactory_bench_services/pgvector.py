"""Vector search in PostgreSQL with pgvector, on the load core."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from attrs import field, frozen, validators

from aifactory_bench import BaseJob, Client, Load, Target, hookimpl

from .one_server import refuse_connections
from .postgresql import RESERVED_CONNECTIONS

_MOST_INDEXED = 2000
"""Dimensions that pgvector can put into an index."""
_DEFAULTS: Mapping[str, Mapping[str, int]] = {
    "hnsw": {"m": 16, "ef_construction": 64, "ef_search": 40},
    "ivfflat": {"lists": 100, "probes": 10},
    "none": {},
}
"""Index -> what belongs to it, where a recipe says nothing."""


def _number(default: int, least: int, most: int) -> int:
    made: int = field(default=default, validator=[validators.ge(least), validators.le(most)])
    return made


def _of_index(least: int, most: int) -> int | None:
    made: int | None = field(default=None, validator=validators.optional([validators.ge(least), validators.le(most)]))
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
    m: int | None = _of_index(2, 100)
    """`hnsw` only: connections of a node of the graph. None: 16."""
    ef_construction: int | None = _of_index(4, 1000)
    """`hnsw` only: candidates while the graph is built; at least twice `m`. None: 64."""
    ef_search: int | None = _of_index(1, 1000)
    """`hnsw` only: candidates of a query; below `k` fewer than `k` are found. None: 40."""
    lists: int | None = _of_index(1, 32_768)
    """`ivfflat` only: parts of the index, at most as many as vectors. None: 100, of fewer vectors one each."""
    probes: int | None = _of_index(1, 32_768)
    """`ivfflat` only: parts that a query looks at, at most `lists`. None: 10, of fewer lists all."""
    k: int = _number(10, 1, 1000)
    """Neighbours that are asked for."""
    queries: int = _number(1000, 1, 1_000_000)
    """Different queries, asked in an order by chance; the right neighbours of each are found before the window."""

    def __attrs_post_init__(self) -> None:
        if self.index != "none" and self.dimensions > _MOST_INDEXED:
            raise ValueError(f"dimensions: an index takes at most {_MOST_INDEXED}; found {self.dimensions}")
        for index, options in _DEFAULTS.items():
            for name in options if index != self.index else ():
                if getattr(self, name) is not None:
                    raise ValueError(f"{name}: is for index: {index} only; the index is {self.index}")
        self._fill()
        if self.m is not None and self.ef_construction is not None and self.ef_construction < 2 * self.m:
            raise ValueError(f"ef_construction: must be at least twice m, {2 * self.m}; found {self.ef_construction}")
        if self.lists is not None and self.lists > self.vectors:
            raise ValueError(f"lists: there are only {self.vectors} vectors; found {self.lists}")
        if self.lists is not None and self.probes is not None and self.probes > self.lists:
            raise ValueError(f"probes: there are only {self.lists} lists; found {self.probes}")
        if self.k > self.vectors:
            raise ValueError(f"k: there are only {self.vectors} vectors; found {self.k}")

    def _fill(self) -> None:
        """Fill in what belongs to the index, so that results and the node have it; what does not stays None."""
        most = self.vectors
        for name, default in _DEFAULTS[self.index].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, min(default, most) if self.index == "ivfflat" else default)
            most = getattr(self, name)


class PgvectorClient(Client):
    """Nearest neighbours by SQL, with the share of the right ones that were found."""

    kind = "pgvector-load"
    Parameters = PgvectorParameters
    node_module = "aifactory_bench_services.pgvector_node"
    targets: ClassVar = {"main": ("postgresql",)}

    def check_point(self, load: Load, parameters: PgvectorParameters, targets: Mapping[str, Target]) -> None:  # noqa: ARG002
        """Refuse more connections than the servers leave."""
        refuse_connections(self, load, targets, RESERVED_CONNECTIONS)


@hookimpl
def register_jobs() -> Sequence[type[BaseJob]]:
    """Return the client."""
    return [PgvectorClient]
