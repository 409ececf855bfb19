"""HTTP/1.1 responses as they arrive: kept as reads with their times, and looked at only to see whether they are whole.

Nothing is parsed before the end but the header. The body of a stream is cut into its parts later, see `llm_stream_node`.
"""

import re
from typing import Dict, List, NamedTuple, Optional, Tuple

from aifactory_bench.node.load import ProtocolError

_END = b"\r\n\r\n"
_LAST_CHUNK = b"\n\r\n0\r\n\r\n"
"""The end of a chunked body whose last line was complete. Lines of events are no such thing: their text is JSON, which has no
bare line ends, so only the framing can look like this."""
_LONGEST_HEADER_BYTES = 1 << 16
_LONGEST_SIZE_BYTES = 4096
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-9]\d\d)(?: [^\r\n]*)?\r\n")
SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n")
"""The line before a chunk."""
_LINES = ("text/event-stream", "application/x-ndjson")
_WITHOUT_BODY = frozenset((204, 304))


class Head(NamedTuple):
    """What the header of a response says."""

    status: int
    content_type: str
    """Lower case, without parameters."""
    length: Optional[int]
    """Bytes of the body; None: not said."""
    chunked: bool
    closes: bool
    """The server closes the connection behind the body."""
    at: int
    """Where the body begins in what was read."""
    location: str
    encoding: str
    """`Content-Encoding`, lower case; empty for none."""


class Arrival:
    """One response on its way, from the first byte to the last."""

    __slots__ = ("_left", "_lines", "_rest", "_skip", "_streaming", "_walked", "head", "pieces", "stamps")

    def __init__(self) -> None:
        self.pieces: List[bytes] = []
        """What each read brought."""
        self.stamps: List[int] = []
        """When, CLOCK_MONOTONIC ns; as many."""
        self.head: Optional[Head] = None
        """As soon as the header is there."""
        self._streaming = False
        """The header is there, the body comes in chunks, and the connection stays."""
        self._lines = False
        self._left: Optional[int] = None
        """Bytes of the body to come; None: not known."""
        self._walked = 0
        """Pieces whose chunks have been walked through."""
        self._rest = b""
        """What was walked up to and is not a whole chunk."""
        self._skip = 0
        """Bytes from the begin of `_rest` to the next size line."""

    def take(self, data: bytes, now_ns: int) -> bool:
        """Keep what a read brought; return True when the response is whole.

        Raises:
            ProtocolError: it is no HTTP/1 response, or there is something behind its end.
        """
        self.pieces.append(data)
        self.stamps.append(now_ns)
        if self._streaming:
            if len(data) > 3 and data[-4:] != _END:
                return False
            return self._ends()
        if self.head is None:
            return self._begin()
        if self._left is None or self.head.closes:
            return False
        self._left -= len(data)
        return self._over()

    def whole_at_close(self) -> bool:
        """Return whether it is whole now that the server has closed the connection.

        Raises:
            ProtocolError: the bytes make no sense.
        """
        head = self.head
        if head is None:
            return False
        if head.chunked:
            return self._walk()
        return head.length is None or sum(map(len, self.pieces)) - head.at >= head.length

    def size_bytes(self) -> int:
        """Return about how much memory it takes."""
        return sum(map(len, self.pieces)) + 100 * len(self.pieces)

    def _begin(self) -> bool:
        data = b"".join(self.pieces)
        head = _parse(data, self._skip)
        if head is None:
            return False
        if head.status < 200:
            # An interim response says nothing; the one that counts comes behind it.
            self.pieces, self.stamps = [data[head.at :]], self.stamps[-1:]
            if self.pieces[0]:
                return self._begin()
            self.pieces, self.stamps = [], []
            return False
        self.head = head
        have = len(data) - head.at
        if head.status in _WITHOUT_BODY:
            self._left = -have
        elif head.chunked:
            self._lines = head.content_type in _LINES
            self._skip = head.at
            self._streaming = not head.closes
            return self._streaming and self._ends()
        elif head.length is not None:
            self._left = head.length - have
        else:
            return False
        return not head.closes and self._over()

    def _over(self) -> bool:
        if self._left is not None and self._left < 0:
            raise ProtocolError(f"{-self._left} bytes came behind the end of an answer")
        return self._left == 0

    def _ends(self) -> bool:
        # A read may have brought a single byte.
        tail = self.pieces[-1] if len(self.pieces[-1]) >= len(_LAST_CHUNK) else b"".join(self.pieces[-len(_LAST_CHUNK) :])
        if not tail.endswith(_END):
            return False
        return (self._lines and tail.endswith(_LAST_CHUNK)) or self._walk()

    def _walk(self) -> bool:
        """Go through the chunks that came since the last walk; return True at the end of the last one."""
        data = self._rest + b"".join(self.pieces[self._walked :])
        self._walked = len(self.pieces)
        at = self._skip
        while at <= len(data):
            line = SIZE_LINE.match(data, at)
            if line is None:
                if data.find(b"\r\n", at) >= 0 or len(data) - at > _LONGEST_SIZE_BYTES:
                    raise ProtocolError(f"no size of a chunk: {data[at : at + 40]!r}")
                break
            size = int(line.group(1), 16)
            if size == 0:
                end = data.find(_END, line.end() - 2)  # trailers, usually none
                if end >= 0:
                    if end + len(_END) != len(data):
                        raise ProtocolError(f"{len(data) - end - len(_END)} bytes came behind the end of an answer")
                    return True
                break
            at = line.end() + size + 2
        self._rest, self._skip = data[at:], max(0, at - len(data))
        return False


def _parse(data: bytes, at: int) -> Optional[Head]:
    """Return the header that begins at an offset, or None while it is not whole."""
    if b"HTTP/1."[: len(data) - at] != data[at : at + 7]:
        raise ProtocolError(f"no HTTP/1 response: {data[at : at + 40]!r}")
    end = data.find(_END, at)
    if end < 0:
        if len(data) - at > _LONGEST_HEADER_BYTES:
            raise ProtocolError(f"a header of more than {_LONGEST_HEADER_BYTES} bytes")
        return None
    match = _STATUS.match(data, at)
    if match is None:
        raise ProtocolError(f"no HTTP/1 response: {data[at : at + 40]!r}")
    fields: Dict[str, str] = {}
    for line in data[match.end() : end].decode("latin-1").split("\r\n"):
        name, _, value = line.partition(":")
        fields[name.strip().lower()] = value.strip()
    chunked, length = _framing(fields)
    connection = fields.get("connection", "").lower()
    closes = "close" in connection or (match.group(1) == b"0" and "keep-alive" not in connection)
    status = int(match.group(2))
    return Head(
        status=status,
        content_type=fields.get("content-type", "").partition(";")[0].strip().lower(),
        length=length,
        chunked=chunked,
        closes=closes or (not chunked and length is None and status not in _WITHOUT_BODY),
        at=end + len(_END),
        location=fields.get("location", ""),
        encoding=fields.get("content-encoding", "").lower().replace("identity", ""),
    )


def _framing(fields: Dict[str, str]) -> Tuple[bool, Optional[int]]:
    coding = fields.get("transfer-encoding", "").lower()
    if coding and coding != "identity":
        if coding != "chunked":
            raise ProtocolError(f"transfer encoding {coding!r} is not known; known: chunked")
        return True, None
    length = fields.get("content-length")
    if length is None:
        return False, None
    if not (length.isascii() and length.isdigit()):
        raise ProtocolError(f"a content length of {length[:40]!r}")
    return False, int(length)
