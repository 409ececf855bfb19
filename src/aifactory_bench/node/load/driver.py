"""What a product implements to be driven by the load core.

    Driver      one a measurement: which servers, which operations; copied into every worker process
    Protocol    one a connection: makes the bytes of requests, reads the bytes of replies
    Batch       which operations one `send` carries, in order

A product whose replies are cheap to foresee answers `ALL` for a whole batch at once; that is the fast path. Everything
else is a list of outcomes, one a request, in the order of sending.
"""

from abc import ABC, abstractmethod
from functools import lru_cache
from typing import Any, Dict, Mapping, NamedTuple, Optional, Sequence, Tuple, Union


class Outcome(NamedTuple):
    """How one request ended, where "well" alone does not say it; `None` in a list of outcomes is a plain success."""

    error: str = ""
    """Class of the error, few different ones: `reply:ERR`, `http:503`. Empty: it ended well."""
    text: str = ""
    """What the server said; the first text of every class is kept."""
    note: str = ""
    """Something to count about a request that ended well, such as `miss`."""


class All:
    """Type of `ALL`."""

    def __repr__(self) -> str:
        return "ALL"


ALL = All()
"""Every request outstanding on the connection was answered well, by exactly these bytes."""

Outcomes = Union[All, Sequence[Optional[Outcome]]]


class ProtocolError(Exception):
    """The server's bytes make no sense; the connection is given up and what was outstanding on it ends as `protocol`."""


class RefusedError(Exception):
    """The server does not let the connection in; `error` is the class, as in `Outcome`."""

    def __init__(self, error: str, text: str) -> None:
        super().__init__(text)
        self.error = error
        self.text = text


class Tally:
    """How many of each operation; latencies are kept a tally, as all requests of a batch share theirs. Made by `Batch`."""

    __slots__ = ("operations", "total")

    def __init__(self, operations: Tuple[str, ...]) -> None:
        self.operations = operations
        self.total = len(operations)


@lru_cache(maxsize=None)
def _tally(operations: Tuple[str, ...]) -> Tally:
    return Tally(operations)


class Batch:
    """The operations of the requests that go out in one `send`, in order. Make it once and use it often."""

    __slots__ = ("operations", "singles", "tally")

    def __init__(self, operations: Sequence[str]) -> None:
        self.operations = tuple(operations)
        self.tally = _tally(tuple(sorted(self.operations)))
        self.singles = tuple(_tally((operation,)) for operation in self.operations)


class Protocol(ABC):
    """One connection as the product sees it; made anew for every connection, also after one was lost."""

    def hello(self) -> bytes:
        """Return what to send first, e.g. a login; empty: the connection is ready at once."""
        return b""

    def welcome(self, data: bytes) -> bool:
        """Take the server's answer to `hello`; return True as soon as requests may follow.

        Raises:
            RefusedError: the server does not let us in.
            ProtocolError: the bytes make no sense.
        """
        raise ProtocolError(f"{len(data)} bytes came before anything was asked")

    @abstractmethod
    def request(self, count: int) -> Tuple[bytes, Batch]:
        """Return the bytes of the next `count` requests and which operations they are."""

    @abstractmethod
    def feed(self, data: bytes, now_ns: int) -> Outcomes:
        """Take bytes that arrived (read at `now_ns`, CLOCK_MONOTONIC); return the outcomes of the requests they complete.

        The list may be empty. `ALL` stands for: all outstanding ones, all well.

        Raises:
            ProtocolError: the bytes make no sense.
        """

    def end(self) -> Outcomes:
        """Return the outcomes of requests that the server completes by closing the connection; usually none."""
        return ()


class Driver(ABC):
    """A product's load on one or more equal servers."""

    unit: str = "request"
    """What one count is."""
    pipeline: int = 1
    """Requests that may be outstanding on one connection. Closed loop: sent together, the next ones when all are answered."""
    read_bytes: int = 65536
    """How much is read at once; a little more than the answer to a batch is best."""

    @abstractmethod
    def addresses(self) -> Sequence[Tuple[str, int]]:
        """Return host and port of the servers; connections are spread over them in turn."""

    def start(self, seed: int) -> None:
        """Get ready in a worker process, before its connections; `seed` is the worker's own."""

    @abstractmethod
    def protocol(self, index: int) -> Protocol:
        """Return the protocol of a new connection to `addresses()[index]`."""

    def metrics(self, ok: Mapping[str, int], notes: Mapping[str, int]) -> Dict[str, Dict[str, Any]]:
        """Return figures of the product's own, name -> {"value", "unit"}.

        Args:
            ok: requests of the window that ended well, by operation, over all workers.
            notes: how often each note came with one of them.
        """
        return {}
