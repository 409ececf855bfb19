"""HTTP/1.1 as the truth server speaks it: heads of requests, heads of answers, whole answers."""

import hmac
import json
from http import HTTPStatus
from typing import Any, Dict, NamedTuple, Optional

MOST_HEAD_BYTES = 64 << 10
MOST_BODY_BYTES = 64 << 20
_KNOWN_MOST = 4096
_NAME = b"server: aifactory-bench-truth\r\n"
JSON = "application/json"

STREAM_HEADS = {
    (kind, chunked): b"HTTP/1.1 200 OK\r\n%bcontent-type: %b\r\ncache-control: no-cache\r\n%b\r\n"
    % (_NAME, kind.encode(), b"transfer-encoding: chunked\r\n" if chunked else b"connection: close\r\n")
    for kind in ("text/event-stream; charset=utf-8", "application/x-ndjson")
    for chunked in (True, False)
}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class BadRequest(Exception):
    """The bytes are no request that can be answered; the connection ends with this answer."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Head(NamedTuple):
    """What matters of a request's head."""

    method: str
    path: str
    """Without the query."""
    query: str
    size_bytes: int
    """Of the body."""
    keep: bool
    """The connection stays open after the answer."""
    chunked: bool
    """An answer may be sent in chunks."""
    expects: bool
    """The body is sent only after `100 Continue`."""
    token: str
    """The bearer token, or empty."""


class Heads:
    """Reads heads; those of a client that sends the same bytes again and again are read once."""

    def __init__(self) -> None:
        self._known: "Dict[bytes, Head]" = {}

    def read(self, data: bytes) -> Head:
        """Return the head that the bytes up to the empty line hold.

        Raises:
            BadRequest: they hold none.
        """
        head = self._known.get(data)
        if head is None:
            head = _read(data)
            if len(self._known) >= _KNOWN_MOST:
                self._known.clear()
            self._known[data] = head
        return head


def _read(data: bytes) -> Head:
    try:
        first, *lines = data.decode("latin-1").split("\r\n")
        method, target, version = first.split(" ")
    except ValueError:
        raise BadRequest(400, "not a request of HTTP/1.1") from None
    if version not in {"HTTP/1.1", "HTTP/1.0"}:
        raise BadRequest(505, f"only HTTP/1.1 is spoken here, not {version[:20]!r}")
    fields: "Dict[str, str]" = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise BadRequest(400, f"not a header: {line[:60]!r}")
        fields[name.strip().lower()] = value.strip()
    if "transfer-encoding" in fields:
        raise BadRequest(411, "send the body with Content-Length; chunked bodies are not read")
    size = fields.get("content-length", "0")
    if not size.isdecimal():
        raise BadRequest(400, f"Content-Length is no number: {size[:20]!r}")
    if len(size) > 12 or int(size) > MOST_BODY_BYTES:
        raise BadRequest(413, f"the body may have {MOST_BODY_BYTES} bytes")
    path, _, query = target.partition("?")
    scheme, _, token = fields.get("authorization", "").partition(" ")
    connection = fields.get("connection", "").lower()
    modern = version == "HTTP/1.1"
    return Head(
        method=method,
        path=path,
        query=query,
        size_bytes=int(size),
        keep=modern and "close" not in connection,
        chunked=modern,
        expects=modern and fields.get("expect", "").lower() == "100-continue",
        token=token.strip() if scheme.lower() == "bearer" else "",
    )


def same_secret(one: str, other: str) -> bool:
    """Return whether two secrets are equal, in a time that tells nothing."""
    return hmac.compare_digest(one.encode(), other.encode())


def answer_head(status: int, kind: str, size_bytes: int, *, keep: bool = True) -> bytes:
    """Return the head of an answer of known size, with the empty line."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unknown"
    close = b"" if keep else b"connection: close\r\n"
    head = f"HTTP/1.1 {status} {phrase}\r\ncontent-type: {kind}\r\ncontent-length: {size_bytes}\r\n"
    return head.encode() + _NAME + close + b"\r\n"


def answer(status: int, body: bytes, kind: str = JSON, *, keep: bool = True) -> bytes:
    """Return a whole answer."""
    return answer_head(status, kind, len(body), keep=keep) + body


def json_answer(status: int, value: Any, *, keep: bool = True) -> bytes:
    """Return a whole answer with a JSON body."""
    return answer(status, json.dumps(value).encode(), keep=keep)


def json_body(data: bytes) -> "Optional[Dict[str, Any]]":
    """Return the object that a body holds, or None when it holds none."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
