"""RESP2, the protocol of Redis: a reader of replies, and a blocking connection for everything outside the window."""

import socket
from typing import Any, Iterable, List, Optional, Tuple, Union

Argument = Union[bytes, str, int]


class RespError(Exception):
    """The bytes are not RESP, or the connection ended within a reply."""


class ErrorReply(Exception):
    """The server answered with an error; the text is its own, without the dash."""

    @property
    def code(self) -> str:
        """First word of the text: `ERR`, `NOAUTH`, `LOADING`."""
        return error_code(str(self))


def error_code(text: str) -> str:
    """Return the code of an error text, `ERR` where it has none."""
    word = text.split(" ", 1)[0]
    return word if word.isupper() and word.isalnum() and len(word) <= 24 else "ERR"


def encode(*arguments: Argument) -> bytes:
    """Return one command as bytes."""
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        data = argument if isinstance(argument, bytes) else str(argument).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


INCOMPLETE = object()
"""What `parse` returns while the reply has not arrived as a whole."""


def parse(data: Union[bytes, bytearray], at: int) -> Tuple[Any, int]:
    """Return the reply that begins at a position, and the position after it.

    A reply is bytes, int, None (nil), a list, or an `ErrorReply` (returned, not raised). `INCOMPLETE` comes with the
    position before which nothing more can be known.

    Raises:
        RespError: the bytes are not RESP.
    """
    line_end = data.find(b"\r\n", at)
    if line_end < 0:
        if len(data) - at > 65536:
            raise RespError("a line without an end")
        return INCOMPLETE, len(data) + 1
    kind, line, after = data[at : at + 1], bytes(data[at + 1 : line_end]), line_end + 2
    if kind == b"+":
        return line, after
    if kind == b"-":
        return ErrorReply(line.decode("utf-8", "replace")), after
    if kind not in (b":", b"$", b"*") or not line.lstrip(b"-").isdigit() or len(line) > 20:
        raise RespError(f"not a reply: {bytes(data[at : at + 40])!r}")
    number = int(line)
    if kind == b":":
        return number, after
    if number < 0:
        return None, after
    if kind == b"$":
        end = after + number + 2
        if len(data) < end:
            return INCOMPLETE, end
        if data[end - 2 : end] != b"\r\n":
            raise RespError("a value does not end where it should")
        return bytes(data[after : end - 2]), end
    items: List[Any] = []
    for _ in range(number):
        item, after = parse(data, after)
        if item is INCOMPLETE:
            return INCOMPLETE, after
        items.append(item)
    return items, after


class Client:
    """A blocking connection."""

    def __init__(self, host: str, port: int, secret: str, timeout_s: float) -> None:
        """Connect and log in.

        Raises:
            OSError: nobody answers.
            ErrorReply: the server refuses the password.
            RespError: it does not speak RESP.
        """
        self._socket = socket.create_connection((host, port), timeout=timeout_s)
        self._buffer = bytearray()
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if secret:
                self.ask("AUTH", secret)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def detach(self) -> socket.socket:
        """Return the socket, for one who reads it otherwise from now on; it is still closed by `close`."""
        return self._socket

    def send(self, data: bytes) -> None:
        """Send commands whose replies are read elsewhere.

        Raises:
            OSError: the connection is dead.
        """
        self._socket.sendall(data)

    def ask(self, *arguments: Argument) -> Any:
        """Send one command and return its reply.

        Raises:
            ErrorReply: the server answered with an error.
            OSError: the connection is dead or slow.
            RespError: the answer makes no sense.
        """
        return self.ask_many(encode(*arguments), 1)[0]

    def ask_many(self, data: bytes, replies: int) -> List[Any]:
        """Send commands in one piece and return their replies; raises as `ask` does, for the first error."""
        self._socket.sendall(data)
        found: List[Any] = []
        at, needed = 0, 1
        while len(found) < replies:
            if len(self._buffer) < needed:
                more = self._socket.recv(1 << 18)
                if not more:
                    raise RespError("the server closed the connection")
                self._buffer += more
                continue
            reply, after = parse(self._buffer, at)
            if reply is INCOMPLETE:
                needed = after
                continue
            found.append(reply)
            at, needed = after, after + 1
        del self._buffer[:at]
        # Only now, when all are read: the next question is answered by its own reply.
        for reply in found:
            if isinstance(reply, ErrorReply):
                raise reply
        return found

    def info(self, *sections: str) -> "dict[str, str]":
        """Return the fields of INFO sections; raises as `ask` does."""
        text = b"".join(self.ask("INFO", section) for section in sections or ("default",)).decode("utf-8", "replace")
        return dict(_fields(text.splitlines()))


def _fields(lines: Iterable[str]) -> "Iterable[Tuple[str, str]]":
    for line in lines:
        name, colon, value = line.partition(":")
        if colon and not line.startswith("#"):
            yield name, value.strip()


def number(value: Optional[str]) -> Optional[float]:
    """Return a field of INFO as a number, or None when it is none."""
    try:
        return float(value) if value is not None else None
    except ValueError:
        return None
