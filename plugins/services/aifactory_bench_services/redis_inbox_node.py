"""One connection that receives messages: a subscriber of a channel, or a consumer of a stream.

A message begins with the time of its sending, 20 digits of CLOCK_MONOTONIC ns.
"""

import contextlib
import socket
import struct
import time
from abc import ABC, abstractmethod
from typing import Any, List, Optional, Sequence, Tuple

from .redis_resp_node import INCOMPLETE, Client, ErrorReply, RespError, encode, parse

STAMP_DIGITS = 20
GONE = "the server closed the connection"
_TIMEOUT_S = 10.0
_LEAVE_S = 1.0
_BLOCK_MS = 1000
_NODE_ENTRIES = 100
"""Of a stream, as Redis has it where nobody says otherwise."""
_NODE_ENTRIES_BY_BYTES = 4096
"""At most, of nodes that are bound by their size alone."""
_SO_TIMESTAMPING = 37
_RX_SOFTWARE = 1 << 3 | 1 << 4
"""SOF_TIMESTAMPING_RX_SOFTWARE and SOF_TIMESTAMPING_SOFTWARE: the kernel stamps what arrives, and tells."""
_STAMP = struct.Struct("=qq")
_ANCILLARY_BYTES = 128


class Inbox(ABC):
    """Opened and read in the listener's process."""

    def __init__(self, address: Tuple[str, int], secret: str) -> None:
        self._address, self._secret = address, secret
        self._client: Optional[Client] = None
        self._buffer = bytearray()
        self._needed = 0
        self.fileno = -1
        self.commands = 0
        """Acknowledgements sent."""

    def open(self) -> None:
        """Connect, and ask for what is sent from now on.

        Raises:
            OSError, ErrorReply, RespError: the server is not there, or refuses.
        """
        self._client = Client(*self._address, self._secret, _TIMEOUT_S)
        self._begin(self._client)
        # Reading never waits, see `recv`; sending may, as half a question would be none.
        self._socket: socket.socket = self._client.detach()
        self._socket.settimeout(None)
        self.fileno = self._socket.fileno()
        with contextlib.suppress(OSError):  # a kernel that does not stamp
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPING, _RX_SOFTWARE)

    def recv(self, size: int) -> "Tuple[bytes, int]":
        """Return what has arrived, and for how many ns the kernel had it by its own clock; -1 where it does not say.

        Raises:
            BlockingIOError: nothing has.
            OSError: the connection is dead.
        """
        data, ancillary, _, _ = self._socket.recvmsg(size, _ANCILLARY_BYTES, socket.MSG_DONTWAIT)
        if not ancillary:
            return data, -1
        seconds, nanoseconds = _STAMP.unpack_from(ancillary[0][2])
        return data, max(0, time.time_ns() - seconds * 1_000_000_000 - nanoseconds)

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()

    def read(self, data: bytes) -> "List[int]":
        """Take bytes and return when the messages in them were sent.

        Raises:
            OSError: the server has closed the connection, or takes nothing more.
            ValueError: it said something else than messages.
        """
        if not data:
            raise ConnectionError(GONE)
        self._buffer += data
        if len(self._buffer) < self._needed:
            return []
        stamps: "List[int]" = []
        buffer, at, self._needed = bytes(self._buffer), 0, 0
        while at < len(buffer):
            try:
                reply, after = parse(buffer, at)
            except RespError as error:
                raise ValueError(str(error)) from None
            if reply is INCOMPLETE:
                self._needed = after - at
                break
            if isinstance(reply, ErrorReply):
                raise ValueError(str(reply))
            stamps += self._stamps(reply)
            at = after
        del self._buffer[:at]
        return stamps

    @abstractmethod
    def _begin(self, client: Client) -> None:
        """Ask for messages."""

    @abstractmethod
    def _stamps(self, reply: Any) -> "List[int]":
        """Return the times in a reply."""


class Subscriber(Inbox):
    """One that is sent every message of one channel."""

    def __init__(self, address: Tuple[str, int], secret: str, channel: str) -> None:
        super().__init__(address, secret)
        self._channel = channel

    def _begin(self, client: Client) -> None:
        client.ask("SUBSCRIBE", self._channel)

    def _stamps(self, reply: Any) -> "List[int]":
        return [int(reply[2][:STAMP_DIGITS])] if reply[0] == b"message" else []


class Consumer(Inbox):
    """One of a group: asks for entries, waiting where there are none, and acknowledges them with the next question."""

    def __init__(self, address: Tuple[str, int], secret: str, stream: str, name: str, count: int) -> None:
        super().__init__(address, secret)
        self._stream = stream
        self._ask = encode("XREADGROUP", "GROUP", GROUP, name, "COUNT", count, "BLOCK", _BLOCK_MS, "STREAMS", stream, ">")

    def _begin(self, client: Client) -> None:
        client.send(self._ask)

    def _stamps(self, reply: Any) -> "List[int]":
        if isinstance(reply, int):
            return []  # how many were acknowledged
        entries = reply[0][1] if reply else []
        request = self._ask
        if entries:
            request = encode("XACK", self._stream, GROUP, *(name for name, _ in entries)) + request
            self.commands += 1
        self._socket.sendall(request)
        return [int(fields[1][:STAMP_DIGITS]) for _, fields in entries if fields]


GROUP = "readers"


def make_streams(address: Tuple[str, int], secret: str, streams: "Sequence[str]") -> int:
    """Begin streams anew, each with a group that reads what is added from now on.

    Returns how many entries more than `MAXLEN ~` asks for a stream may keep: it drops whole nodes.

    Raises:
        OSError, ErrorReply, RespError: the server is not there, or refuses.
    """
    with Client(*address, secret, _TIMEOUT_S) as client:
        for stream in streams:
            client.ask("UNLINK", stream)
            client.ask("XGROUP", "CREATE", stream, GROUP, "$", "MKSTREAM")
        try:
            said = client.ask("CONFIG", "GET", "stream-node-max-entries")
        except ErrorReply:
            return _NODE_ENTRIES  # many that run for others do not let anybody ask
    return (int(said[1]) or _NODE_ENTRIES_BY_BYTES) if said else _NODE_ENTRIES


def remove_streams(address: Tuple[str, int], secret: str, streams: "Sequence[str]") -> None:
    """Remove streams; raises as `make_streams` does. A server that does not answer keeps nobody waiting."""
    with Client(*address, secret, _LEAVE_S) as client:
        for stream in streams:
            client.ask("UNLINK", stream)
