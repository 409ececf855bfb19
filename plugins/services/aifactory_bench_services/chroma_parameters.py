"""Parameters of clients that search among vectors of a Chroma server."""

from typing import Any, Literal

from attrs import field, frozen, validators

_GENERATED = {"dimension": 128, "clusters": 100, "spread": 0.5}
"""Of vectors that are not read from a file."""
_FILES = (".npy", ".fvecs", ".hdf5", ".h5")


def _check_file(_instance: object, _attribute: object, value: str | None) -> None:
    if value is not None and not (value.startswith("/") and value.isprintable() and value.endswith(_FILES)):
        raise ValueError(f"must be an absolute path on the client's node that ends in {', '.join(_FILES)}; found {value!r}")


def _optional(least: float, most: float) -> Any:
    return validators.optional([validators.ge(least), validators.le(most)])


@frozen(kw_only=True)
class ChromaData:
    """Which vectors there are, how the server finds them, and how they get there."""

    vectors: int = field(default=20_000, validator=[validators.ge(1), validators.le(100_000_000)])
    """In the collection before the load begins; of a file at most so many."""
    dimension: int | None = field(default=None, validator=_optional(2, 65_536))
    """Numbers of a vector; None: 128, or what the file has."""
    clusters: int | None = field(default=None, validator=_optional(1, 1_000_000))
    """Groups that the vectors lie in; None: 100."""
    spread: float | None = field(default=None, validator=_optional(0.0001, 3.0))
    """How far a number of a vector is from its group's centre at most; the centres lie between -1 and 1. None: 0.5."""
    data_seed: int = field(default=1, validator=validators.ge(0))
    """Of vectors and queries: the same seed gives the same ones everywhere."""
    file: str | None = field(default=None, validator=_check_file)
    """Vectors of your own, on the client's node: `.npy`, `.fvecs`, or HDF5 as ann-benchmarks has it. None: seeded ones."""
    queries_file: str | None = field(default=None, validator=_check_file)
    """What is searched for: its first `queries` vectors, of HDF5 those of `test`. None: of HDF5 the first ones of `test` in
    `file` itself; of other files those that follow the first `vectors`, or its last ones where it has not so many. Queries
    are not stored."""
    queries: int = field(default=200, validator=[validators.ge(1), validators.le(10_000)])
    """Different searches; each generator asks them in an order of its own, again and again."""
    k: int = field(default=10, validator=[validators.ge(1), validators.le(1000)])
    """Neighbours that a search asks for."""
    space: Literal["cosine", "l2", "ip"] = "cosine"
    """What is near: by angle, by distance, by inner product."""
    ef_construction: int = field(default=100, validator=[validators.ge(1), validators.le(10_000)])
    """Candidates while the index is built."""
    max_neighbors: int = field(default=16, validator=[validators.ge(2), validators.le(1000)])
    """Links of a vector in the index (`M`)."""
    ef_search: int = field(default=100, validator=[validators.ge(1), validators.le(10_000)])
    """Candidates of a search: more of them find more, and take longer."""
    batch: int = field(default=1000, validator=[validators.ge(1), validators.le(100_000)])
    """Vectors of one request while the collection is filled; the server says how many it takes."""

    def __attrs_post_init__(self) -> None:
        if self.file is not None:
            given = [name for name in _GENERATED if getattr(self, name) is not None]
            if given:
                raise ValueError(f"{', '.join(given)} cannot be chosen with a file: its vectors are as they are")
        elif self.queries_file is not None:
            raise ValueError("queries_file needs file: seeded vectors come with queries of their own")
