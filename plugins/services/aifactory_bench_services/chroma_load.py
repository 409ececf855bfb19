"""`chroma-load`: searches in and writes to a Chroma server, on the load core."""

from collections.abc import Sequence
from typing import ClassVar

from attrs import field, frozen, validators

from aifactory_bench import BaseJob, Client, hookimpl

from .chroma_parameters import ChromaData

_WEIGHT = validators.ge(0)


@frozen
class ChromaOperations:
    """Weights of the operations in the mix; at least one is above 0."""

    query: int = field(default=0, validator=_WEIGHT)
    """A search for one vector."""
    insert: int = field(default=0, validator=_WEIGHT)
    """A batch of new vectors is added; the collection grows."""
    upsert: int = field(default=0, validator=_WEIGHT)
    """A batch of vectors that are there is written again, with the same numbers."""

    def __attrs_post_init__(self) -> None:
        if self.query + self.insert + self.upsert == 0:
            raise ValueError("one of query, insert, upsert must be above 0")


@frozen(kw_only=True)
class ChromaLoadParameters(ChromaData):
    """What a recipe says about the load."""

    operations: ChromaOperations = field(factory=lambda: ChromaOperations(query=1))
    """The mix, as weights."""
    insert_batch: int = field(default=100, validator=[validators.ge(1), validators.le(100_000)])
    """Vectors of one insert or upsert in the window."""
    filter_classes: int = field(default=1, validator=[validators.ge(1), validators.le(10_000)])
    """Each vector is of one of so many classes, and each query searches in one class (`where`). 1: no filter."""


class ChromaLoadClient(Client):
    """Searches and writes in a mix, on the load core; recall is measured with every search."""

    kind = "chroma-load"
    Parameters = ChromaLoadParameters
    node_module = "aifactory_bench_services.chroma_load_node"
    targets: ClassVar = {"main": ("chroma",)}


@hookimpl
def register_jobs() -> Sequence[type[BaseJob]]:
    """Return the load client."""
    return [ChromaLoadClient]
