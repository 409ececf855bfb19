"""A connection of the truth server, and the answer that is being given on it."""

import contextlib
import socket
import struct
import time
from collections import deque
from typing import Deque, Optional, Tuple

from .truth_api import Job

_SO_TIMESTAMPNS = 35
_ANCILLARY_BYTES = 64
_STAMP_FORMAT = struct.Struct("@qq")
_READ_BYTES = 1 << 16
_SECOND_NS = 1_000_000_000
_RESET = struct.pack("ii", 1, 0)

clock = time.monotonic_ns


class Connection:
    """One client."""

    __slots__ = (
        "answer",
        "buffer",
        "busy",
        "descriptor",
        "keep",
        "pending",
        "read_late_ns",
        "received_ns",
        "socket",
        "told",
        "waiting",
    )

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        with contextlib.suppress(OSError):  # it may have gone already
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self.socket = sock
        self.descriptor = sock.fileno()
        self.buffer = bytearray()
        self.pending = b""
        """What the client has not taken yet."""
        self.busy = False
        """A request is waiting or being answered."""
        self.answer: "Optional[Answer]" = None
        self.received_ns = 0
        """When the kernel had what was read last."""
        self.read_late_ns = 0
        self.told = False
        """The client was told to go on with its body."""
        self.keep = True
        """It stays open after the answer."""
        self.waiting = False
        """The answer is complete, but not all of it has been taken."""

    def receive(self) -> bytes:
        """Read once and take the time; nothing: the client has closed.

        Raises:
            OSError: there is nothing to read now (`BlockingIOError`), or the connection is dead.
        """
        data, ancillary, _, _ = self.socket.recvmsg(_READ_BYTES, _ANCILLARY_BYTES)
        wall_ns = (
            time.time_ns()
        )  # first, as what comes between the two then makes a request late, and never earlier than it was sent
        now_ns = clock()
        self.received_ns, self.read_late_ns = now_ns, 0
        for level, kind, value in ancillary:
            if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS and len(value) >= _STAMP_FORMAT.size:
                seconds, ns = _STAMP_FORMAT.unpack_from(value)
                age_ns = wall_ns - seconds * _SECOND_NS - ns
                # A clock that was set meanwhile says nothing.
                if 0 < age_ns < 10 * _SECOND_NS:
                    self.received_ns, self.read_late_ns = now_ns - age_ns, age_ns
        return data

    def reset_at_close(self) -> None:
        """Let the client see a reset and not an end when the connection is closed."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


class Answer:
    """A request that is being answered."""

    __slots__ = ("connection", "cuts", "due_ns", "gone", "job", "kind", "odd", "parts", "record", "send", "tokens")

    def __init__(self, connection: Connection, job: Job) -> None:
        self.connection = connection
        self.job = job
        self.record = job.record
        self.send = connection.socket.send
        self.odd = job.ask is not None and job.ask.options.segment_bytes > 0
        """What is sent is cut."""
        self.due_ns = 0
        self.kind = ""
        self.tokens = 0
        self.parts: "Tuple[bytes, ...]" = ()
        self.cuts: "Deque[bytes]" = deque()
        """Where sendings are cut: what is left of the current one."""
        self.gone = False
        """The client has closed the connection."""
