"""What a product implements to be driven by the load core.

    Driver      one a measurement: which servers, which operations; copied into every worker process
    Protocol    one a connection: makes the bytes of requests, reads the bytes of replies
    Batch       which operations one `send` carries, in order

A product whose replies are cheap to foresee answers `ALL` for a whole batch at once; that is the fast path. Everything
else is a list of outcomes, one a request, in the order of sending. An answer that takes long to read, such as a stream of
hundreds of events, is an outcome `Later`: it is read when the loop has nothing better to do.
"""

from abc import ABC, abstractmethod
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

if TYPE_CHECKING:
    import ssl


class Outcome(NamedTuple):
    """How one request ended, where "well" alone does not say it; `None` in a list of outcomes is a plain success."""

    error: str = ""
    """Class of the error, few different ones: `reply:ERR`, `http:503`. Empty: it ended well."""
    text: str = ""
    """What the server said; the first text of every class is kept."""
    note: str = ""
    """Something to count about a request that ended well, such as `miss`."""
    ended_ns: int = 0
    """When it ended, CLOCK_MONOTONIC, where that is not when its last bytes were read; 0: it is."""


class Later(ABC):
    """An answer that has arrived whole and has yet to be read."""

    __slots__ = ()

    size_bytes: int = 0
    """What it keeps in memory; where too much waits, the loop reads answers at once."""

    @abstractmethod
    def settle(self, sent_ns: int, due_ns: int) -> Optional[Outcome]:
        """Read it and return how the request ended; called once, at the latest after the drain.

        Args:
            sent_ns: when the request was sent, CLOCK_MONOTONIC.
            due_ns: when it was due; in closed loop the same.
        """


class Onward(Later):
    """An answer that is not the end of its request: that goes on at the partner of its connection, see `Driver.partners`."""

    __slots__ = ()

    @abstractmethod
    def request(self, protocol: "Protocol") -> bytes:
        """Return what is sent to the partner, whose protocol this is; called as soon as it can be sent."""

    def settle(self, sent_ns: int, due_ns: int) -> Optional[Outcome]:
        """Never called: the request has not ended."""
        raise AssertionError(f"{type(self).__name__} is no end of a request")


class All:
    """Type of `ALL`."""

    def __repr__(self) -> str:
        return "ALL"


ALL = All()
"""Every request outstanding on the connection was answered well, by exactly these bytes."""

Outcomes = Union[All, Sequence[Union[Outcome, Later, None]]]


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

    def welcome(self, data: bytes) -> "Union[bool, bytes]":
        """Take the server's answer to `hello`; return True as soon as requests may follow, bytes to send on the way there.

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

    def lost(self, error: str, sent_ns: int, due_ns: int, now_ns: int) -> None:
        """Learn that the oldest request will have no outcome: the connection broke, or the request took too long.

        The loop counts it; what had arrived of its answer is the protocol's own. Called for each request outstanding, the
        oldest first.

        Args:
            error: class of the error, or `timeout`.
            sent_ns: when it was sent, CLOCK_MONOTONIC.
            due_ns: when it was due; in closed loop the same.
            now_ns: when it was given up.
        """

    def end(self) -> Outcomes:
        """Return the outcomes of requests that the server completes by closing the connection; usually none."""
        return ()


class Driver(ABC):
    """A product's load on one or more servers, equal ones unless it is `aimed`."""

    unit: str = "request"
    """What one count is."""
    pipeline: int = 1
    """Requests that may be outstanding on one connection. Closed loop: sent together, the next ones when all are answered."""
    aimed: bool = False
    """Each server answers only what is its own, as a shard does: in open loop `aim` says which one the next request is for."""
    read_bytes: int = 65536
    """How much is read at once; a little more than the answer to a batch is best."""
    folder: Path = Path()
    """For raw files; set before workers are forked."""
    part: int = 0
    """Which generator this is, over all ranks and workers; set in the worker, before `start`."""
    parts: int = 1
    start_ns: int = 0
    """Of the window as planned, CLOCK_MONOTONIC; set as `part`."""
    end_ns: int = 0

    @abstractmethod
    def addresses(self) -> Sequence[Tuple[str, int]]:
        """Return host and port of the servers; connections are spread over them in turn."""

    def partners(self) -> Sequence[Tuple[str, int]]:
        """Return host and port of the servers where requests go on, empty for requests of one stage, which most are.

        Each connection then has a partner, a connection to one of these servers, taken in turn. A request whose answer is
        an `Onward` goes on there, and what the partner's protocol returns is its end. Until then it is outstanding, with one
        time limit and the stamps of its begin. Only with a `pipeline` of 1.
        """
        return ()

    def start(self, seed: int) -> None:
        """Get ready in a worker process, before its connections; `seed` is the worker's own."""

    def aim(self) -> int:
        """Draw the server, a place in `addresses()`, of the request that is due now; asked only where the driver is `aimed`.

        Its protocol's `request` then makes one of that server's own.
        """
        raise NotImplementedError(f"{type(self).__name__} is aimed and has no aim")

    def secure(self, index: int) -> "Optional[Tuple[ssl.SSLContext, str]]":
        """Return the TLS context and the server's name for `addresses()[index]`; None: plain TCP. See `protocol`."""
        return None

    @abstractmethod
    def protocol(self, index: int) -> Protocol:
        """Return the protocol of a new connection to `addresses()[index]`; the numbers of `partners()` go on from there."""

    def results(self, end_ns: int) -> Dict[str, Any]:
        """Return what the driver itself has recorded, as JSON; asked once in every worker, after the drain.

        Args:
            end_ns: of the window as it was, earlier than `self.end_ns` when the measurement was cut.

        Keys, each optional: `distributions`, `sums`, `metrics`, `totals`, `absent`, as in `measurement.Measurement`. See `own`.
        """
        return {}

    def metrics(self, ok: Mapping[str, int], notes: Mapping[str, int]) -> Dict[str, Dict[str, Any]]:
        """Return figures of the product's own, name -> {"value", "unit"}.

        Args:
            ok: requests of the window that ended well, by operation, over all workers.
            notes: how often each note came with one of them.
        """
        return {}
