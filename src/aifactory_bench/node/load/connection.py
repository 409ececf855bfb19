"""One non-blocking TCP connection with the requests outstanding on it."""

import errno
import os
import socket
from collections import deque
from typing import TYPE_CHECKING, Any, Callable, Deque, NamedTuple, Optional, Tuple

from .driver import Batch, Driver, Outcomes
from .recorder import Slice

if TYPE_CHECKING:
    Flight = Tuple[int, int, Batch, Slice]
    """Sent, due (closed loop: sent), what, and the slice it belongs to."""

CLOSED, CONNECTING, GREETING, READY = range(4)
_FIRST_BACKOFF_NS = 10_000_000
_LONGEST_BACKOFF_NS = 1_000_000_000
_LASTED_NS = 1_000_000_000
"""A connection that held so long was a good one: the next backoff starts anew."""
_RESET = frozenset((errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED))


class Address(NamedTuple):
    """Where to connect, resolved."""

    number: int
    """Of the driver's addresses."""
    family: int
    sockaddr: Tuple[Any, ...]
    text: str
    """`host:port`, for messages."""


def resolve(host: str, port: int, number: int) -> Address:
    """Return the address of a host.

    Raises:
        OSError: the name is not known.
    """
    family, _, _, _, sockaddr = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    return Address(number, family, sockaddr, f"{host}:{port}")


class Connection:
    """A place for one connection at a time to one server; it outlives the sockets that fill it."""

    __slots__ = (
        "_backoff_ns",
        "_driver",
        "address",
        "answered",
        "ended_well",
        "feed",
        "fileno",
        "flights",
        "free_ns",
        "in_free",
        "protocol",
        "recv",
        "request",
        "retry_ns",
        "send",
        "since_ns",
        "sock",
        "state",
        "unsent",
    )

    recv: Callable[[int], bytes]
    send: Callable[[Any], int]
    feed: Callable[[bytes, int], Outcomes]
    request: Callable[[int], Tuple[bytes, Batch]]

    def __init__(self, driver: Driver, address: Address) -> None:
        self._driver = driver
        self.address = address
        self.sock: Optional[socket.socket] = None
        self.fileno = -1
        self.state = CLOSED
        self.flights: "Deque[Flight]" = deque()
        """Outstanding batches, the oldest first."""
        self.answered = 0
        """Requests of the oldest batch that were answered already."""
        self.unsent: Optional[memoryview] = None
        """Bytes that the socket has not taken yet."""
        self.since_ns = 0
        """When the present state began."""
        self.retry_ns = 0
        self.ended_well = False
        """The server closed it to complete an answer, and nothing was left outstanding."""
        """When a closed one may be opened again."""
        self._backoff_ns = _FIRST_BACKOFF_NS
        self.free_ns = 0
        """Open loop: since when a request could have been sent on it."""
        self.in_free = False

    def open(self, now_ns: int) -> None:
        """Begin to connect.

        Raises:
            OSError: it failed at once.
        """
        sock = socket.socket(self.address.family, socket.SOCK_STREAM)
        self.sock, self.fileno = sock, sock.fileno()
        self.state, self.since_ns = CONNECTING, now_ns
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = sock.connect_ex(self.address.sockaddr)
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))
        self.recv, self.send = sock.recv, sock.send
        self.protocol = self._driver.protocol(self.address.number)
        self.feed, self.request = self.protocol.feed, self.protocol.request

    def check(self) -> None:
        """Find out how connecting ended.

        Raises:
            OSError: it failed.
        """
        if self.sock is not None:
            code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, os.strerror(code))

    def enter(self, state: int, now_ns: int) -> None:
        """Go to a later state."""
        self.state, self.since_ns = state, now_ns

    def close(self, now_ns: int) -> None:
        """Close the socket, forget what was outstanding, and set the time of the next attempt."""
        if self.sock is not None:
            self.sock.close()
            self.sock = None
        lasted = self.state == READY and now_ns - self.since_ns > _LASTED_NS
        self._backoff_ns = _FIRST_BACKOFF_NS if lasted or self.ended_well else min(2 * self._backoff_ns, _LONGEST_BACKOFF_NS)
        self.retry_ns = now_ns + (0 if self.ended_well else self._backoff_ns)
        self.ended_well = False
        self.enter(CLOSED, now_ns)
        self.flights.clear()
        self.answered = 0
        self.unsent = None

    def outstanding(self) -> int:
        """Return the number of requests without an answer."""
        return sum(len(flight[2].operations) for flight in self.flights) - self.answered


def class_of(error: OSError) -> str:
    """Return the error class of a failed read or write."""
    if error.errno in _RESET:
        return "reset"
    name = errno.errorcode.get(error.errno or 0, "")
    return f"os:{name}" if name else "os"
