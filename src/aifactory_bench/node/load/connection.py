"""One non-blocking TCP connection with the requests outstanding on it."""

import errno
import os
import socket
import struct
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Callable, Deque, List, NamedTuple, Optional, Tuple

from .driver import Batch, Driver, Onward, Outcomes
from .recorder import Slice

if TYPE_CHECKING:
    Flight = Tuple[int, int, Batch, Slice]
    """Sent, due (closed loop: sent), what, and the slice it belongs to."""

CLOSED, CONNECTING, SECURING, GREETING, READY = range(5)
_FIRST_BACKOFF_NS = 10_000_000
_LONGEST_BACKOFF_NS = 1_000_000_000
_LASTED_NS = 1_000_000_000
"""A connection that held so long was a good one: the next backoff starts anew."""
_RESET = frozenset((errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED))
_OWN = {
    errno.EADDRNOTAVAIL: "client:ports",
    errno.EMFILE: "client:files",
    errno.ENFILE: "client:files",
    errno.ENOBUFS: "client:memory",
}
"""What the generator's own machine has run out of; no server's doing."""
_SO_TIMESTAMPING = 37
_RX_SOFTWARE = 1 << 3 | 1 << 4
"""SOF_TIMESTAMPING_RX_SOFTWARE and SOF_TIMESTAMPING_SOFTWARE: the kernel stamps what arrives, and tells."""
_STAMP = struct.Struct("=qq")
_ANCILLARY_BYTES = 128


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
        "_ages",
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
        "onward",
        "owner",
        "partner",
        "protocol",
        "recv",
        "request",
        "retry_ns",
        "secured",
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

    def __init__(self, driver: Driver, address: Address, ages: "Optional[Callable[[int], None]]" = None) -> None:
        """Make a place that is empty yet.

        Args:
            driver: of the product.
            address: of the server.
            ages: where the ages (ns) of what is read are to be told: the time from the kernel's having it to our reading it.
        """
        self._driver = driver
        self._ages = ages
        self.address = address
        self.sock: Optional[socket.socket] = None
        self.secured = False
        """It speaks TLS."""
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
        """When a closed one may be opened again."""
        self.ended_well = False
        """The server closed it to complete an answer, and nothing was left outstanding."""
        self._backoff_ns = _FIRST_BACKOFF_NS
        self.free_ns = 0
        """Open loop: since when a request could have been sent on it."""
        self.in_free = False
        self.partner: Optional[Connection] = None
        """Where requests of this one go on, see `chain`."""
        self.owner: Optional[Connection] = None
        """Of a partner: whose requests go on here; it has none of its own."""
        self.onward: Optional[Onward] = None
        """Of a partner: how the owner's request goes on, until that is answered."""

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
        secure = self._driver.secure(self.address.number)
        self.secured = secure is not None
        self.recv, self.send = sock.recv, sock.send
        if secure is not None:
            from .secure import receiver, sender  # most measurements need no TLS

            context, name = secure
            self.sock = context.wrap_socket(sock, server_hostname=name, do_handshake_on_connect=False)
            self.recv, self.send = receiver(self.sock), sender(self.sock)
        elif self._ages is not None:
            self.recv = _stamped(sock, self._ages) or sock.recv
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

    def shake_hands(self) -> "Optional[bool]":
        """Go on with the handshake of TLS; return None when it is done, else whether it waits for writing.

        Raises:
            RefusedError: the other side is not who it should be, or wants no TLS of ours.
            OSError: the connection is dead.
        """
        from .secure import shake_hands

        return shake_hands(self.sock)

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
        if not self.goes_on():
            self.flights.clear()
            self.answered = 0
        self.unsent = None

    def tell_lost(self, error: str, now_ns: int) -> None:
        """Tell the protocol that none of the outstanding requests will be answered."""
        answered = self.answered
        for sent_ns, due_ns, batch, _ in self.flights:
            for _ in range(len(batch.operations) - answered):
                self.protocol.lost(error, sent_ns, due_ns, now_ns)
            answered = 0

    def outstanding_by_slice(self) -> "List[Tuple[int, Slice]]":
        """Return number and slice of the requests outstanding, a pair a batch."""
        pairs = [(len(batch.operations), slice) for _, _, batch, slice in self.flights]
        if pairs and self.answered:
            pairs[0] = (pairs[0][0] - self.answered, pairs[0][1])
        return pairs

    def goes_on(self) -> bool:
        """Return whether what is outstanding waits for the partner, and no longer for this connection."""
        return self.partner is not None and self.partner.onward is not None

    def outstanding(self) -> int:
        """Return the number of requests without an answer."""
        return sum(len(flight[2].operations) for flight in self.flights) - self.answered


def class_of(error: OSError) -> str:
    """Return the error class of a failed read or write."""
    if error.errno in _RESET:
        return "reset"
    if error.errno in _OWN:
        return _OWN[error.errno]
    name = errno.errorcode.get(error.errno or 0, "")
    return f"os:{name}" if name else "os"


def _stamped(sock: socket.socket, ages: Callable[[int], None]) -> "Optional[Callable[[int], bytes]]":
    """Return a `recv` that also tells how long what it reads has lain in the kernel; None where the kernel does not stamp."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPING, _RX_SOFTWARE)
    except OSError:
        return None
    receive, now, unpack = sock.recvmsg, time.time_ns, _STAMP.unpack_from

    def recv(size: int) -> bytes:
        data, ancillary, _, _ = receive(size, _ANCILLARY_BYTES)
        if ancillary:
            seconds, nanoseconds = unpack(ancillary[0][2])
            # The kernel's stamp is of the wall clock; one that was set meanwhile makes an age that means nothing.
            ages(max(0, now() - seconds * 1_000_000_000 - nanoseconds))
        return data

    return recv
