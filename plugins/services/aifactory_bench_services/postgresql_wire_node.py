"""PostgreSQL's protocol, version 3: messages, the login by SCRAM-SHA-256, and a small blocking client for simple queries.

Passwords go over the network by SCRAM only: a server that asks for one in clear or by MD5 is refused.
"""

import base64
import hashlib
import hmac
import os
import socket
import struct
from functools import lru_cache
from typing import Callable, Dict, Iterable, List, Optional, Tuple, TypeVar, Union

_VERSION = 3 << 16
_READ_BYTES = 1 << 16
_MOST_BYTES = 64 << 20
"""No message that is expected is longer."""
_MECHANISM = "SCRAM-SHA-256"
_MOST_ITERATIONS = 10_000_000
_WELL, _SASL, _SASL_CONTINUE, _SASL_FINAL = 0, 10, 11, 12
_UNSAFE = {3: "in clear", 5: "by MD5"}
_SEVERITY, _CODE, _MESSAGE = "S", "C", "M"

_Text = TypeVar("_Text", str, Optional[str])
Row = Dict[str, Optional[str]]
Message = Tuple[bytes, bytes]
"""Type and body."""


class WireError(Exception):
    """What came is not PostgreSQL's protocol, or not what we speak of it."""


class ServerError(Exception):
    """The server refuses; `code` is its five characters (SQLSTATE)."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


def message(kind: bytes, body: bytes) -> bytes:
    """Return a message as it is sent."""
    return kind + struct.pack(">i", len(body) + 4) + body


def query(sql: str) -> bytes:
    """Return a simple query; several statements may be in it."""
    return message(b"Q", sql.encode() + b"\0")


def split(data: "Union[bytes, bytearray]", most: int = 1 << 30) -> "Tuple[List[Message], int]":
    """Return the messages that are there as a whole, `most` of them, and where they end.

    Raises:
        WireError: a length makes no sense.
    """
    found: "List[Message]" = []
    at, end = 0, len(data)
    while end - at >= 5 and len(found) < most:
        (length,) = struct.unpack_from(">i", data, at + 1)
        if not 4 <= length <= _MOST_BYTES:
            raise WireError(f"a message of {length} bytes: this is no PostgreSQL server")
        if end - at <= length:
            break
        found.append((bytes(data[at : at + 1]), bytes(data[at + 5 : at + 1 + length])))
        at += 1 + length
    return found, at


def error_of(body: bytes) -> ServerError:
    """Return what an ErrorResponse says."""
    fields = {part[:1].decode("latin-1"): part[1:].decode("utf-8", "replace") for part in body.split(b"\0") if part}
    text = f"{fields.get(_SEVERITY, 'ERROR')}: {fields.get(_MESSAGE, 'no text')}"
    return ServerError(fields.get(_CODE, "XX000")[:5], text)


@lru_cache(maxsize=16)
def _salted(password: str, salt: bytes, iterations: int) -> bytes:
    """Thousands of hashes: kept, as every connection of a load has the same."""
    return hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)


def _mac(key: bytes, text: bytes) -> bytes:
    return hmac.new(key, text, hashlib.sha256).digest()


def verifier(password: str) -> str:
    """Return what a server keeps of a password, for `CREATE ROLE ... PASSWORD`: the password itself is in no statement."""
    salt, iterations = os.urandom(16), 4096
    salted = _salted(password, salt, iterations)
    stored = hashlib.sha256(_mac(salted, b"Client Key")).digest()
    keys = [base64.b64encode(key).decode() for key in (salt, stored, _mac(salted, b"Server Key"))]
    return f"{_MECHANISM}${iterations}:{keys[0]}${keys[1]}:{keys[2]}"


class Scram:
    """One exchange of SCRAM-SHA-256, the client's side (RFC 5802)."""

    def __init__(self, password: str, nonce: str = "") -> None:
        self._password = password
        self._nonce = nonce or base64.b64encode(os.urandom(18)).decode()
        self._bare = f"n=,r={self._nonce}"
        self._server_signature = b""

    def first(self) -> bytes:
        """Return the client's first message."""
        return f"n,,{self._bare}".encode()

    def final(self, server_first: bytes) -> bytes:
        """Return the client's answer to the server's first message.

        Raises:
            WireError: that message makes no sense.
        """
        try:
            fields = dict(part.split("=", 1) for part in server_first.decode("ascii").split(","))
            nonce, salt, iterations = fields["r"], base64.b64decode(fields["s"], validate=True), int(fields["i"])
        except (ValueError, KeyError):
            raise WireError("the server's part of the login makes no sense") from None
        if not nonce.startswith(self._nonce) or nonce == self._nonce or not 1 <= iterations <= _MOST_ITERATIONS:
            raise WireError("the server's part of the login does not fit to ours")
        salted = _salted(self._password, salt, iterations)
        without_proof = f"c=biws,r={nonce}"
        signed = b",".join((self._bare.encode(), server_first, without_proof.encode()))
        client_key = _mac(salted, b"Client Key")
        signature = _mac(hashlib.sha256(client_key).digest(), signed)
        proof = bytes(one ^ other for one, other in zip(client_key, signature))
        self._server_signature = _mac(_mac(salted, b"Server Key"), signed)
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()

    def check(self, server_final: bytes) -> None:
        """Make sure that the server knows the password too.

        Raises:
            WireError: it does not.
        """
        expected = b"v=" + base64.b64encode(self._server_signature)
        if not self._server_signature or not hmac.compare_digest(server_final, expected):
            raise WireError("the server does not prove that it knows the password")


class Handshake:
    """From a new connection to the first query, without the connection: bytes in, bytes out."""

    def __init__(self, user: str, database: str, password: str, then: bytes = b"") -> None:
        """Begin.

        Args:
            user: role to log in as.
            database: to use.
            password: of the role.
            then: requests to send after the login, which end with one ReadyForQuery; an error in them is one of the login.
        """
        self._names = {"user": user, "database": database, "application_name": "aifactory-bench", "client_encoding": "UTF8"}
        self._password = password
        self._scram: Optional[Scram] = None
        self._proven = False
        self._then = then
        self._buffer = bytearray()

    def hello(self) -> bytes:
        """Return the first bytes to send."""
        names = b"".join(name.encode() + b"\0" + value.encode() + b"\0" for name, value in self._names.items())
        body = struct.pack(">i", _VERSION) + names + b"\0"
        return struct.pack(">i", len(body) + 4) + body

    def take(self, data: bytes) -> "Union[bool, bytes]":
        """Take what came; return True when queries may follow, or what to send; empty: more has to come.

        Raises:
            ServerError: the server does not let us in.
            WireError: what came makes no sense, or asks for a password in a way that would give it away.
        """
        self._buffer += data
        messages, end = split(self._buffer)
        del self._buffer[:end]
        answer = b""
        for kind, body in messages:
            if kind == b"E":
                raise error_of(body)
            if kind == b"R":
                answer += self._authenticate(body)
            elif kind == b"Z":
                if not self._then:
                    return True
                answer, self._then = answer + self._then, b""
        return answer

    def _authenticate(self, body: bytes) -> bytes:
        if len(body) < 4:
            raise WireError("the server's part of the login is cut off")
        (code,) = struct.unpack_from(">i", body)
        if code == _SASL and _MECHANISM.encode() in body[4:].split(b"\0"):
            self._scram = Scram(self._password)
            first = self._scram.first()
            return message(b"p", _MECHANISM.encode() + b"\0" + struct.pack(">i", len(first)) + first)
        if code == _SASL_CONTINUE and self._scram is not None:
            return message(b"p", self._scram.final(body[4:]))
        if code == _SASL_FINAL and self._scram is not None:
            self._scram.check(body[4:])
            self._proven = True
            return b""
        if code == _WELL and (self._scram is None or self._proven):
            return b""
        how = _UNSAFE.get(code, f"in a way that is not known here ({code})")
        raise WireError(f"the server asks for the password {how}; it must be set up for scram-sha-256")


class Client:
    """A blocking connection for few, simple queries; use it in `with`."""

    def __init__(self, host: str, port: int, user: str, database: str, password: str, timeout_s: float) -> None:
        """Connect and log in.

        Raises:
            OSError, ServerError, WireError: that does not succeed.
        """
        self._buffer = bytearray()
        handshake = Handshake(user, database, password)
        self._socket = socket.create_connection((host, port), timeout=timeout_s)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            answer: "Union[bool, bytes]" = handshake.hello()
            while answer is not True:
                if answer:
                    self._socket.sendall(answer)
                answer = handshake.take(self._received())
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._socket.sendall(message(b"X", b""))
        except OSError:
            pass  # it is gone, which is what was asked for
        finally:
            self._socket.close()

    def ask(self, sql: str) -> "List[Row]":
        """Return the rows of a query as text by name of column; of several statements those of all together.

        Raises:
            OSError, ServerError, WireError: it failed.
        """
        self._socket.sendall(query(sql))
        return self._answer()

    def copy(self, sql: str, parts: "Iterable[bytes]") -> None:
        """Run a `COPY ... FROM STDIN` with data that may come in any parts.

        Raises:
            OSError, ServerError, WireError: it failed.
        """
        self._socket.sendall(query(sql))
        while True:
            kind, body = self._next()
            if kind == b"G":
                break
            if kind == b"E":
                self._answer()  # that it is ready again
                raise error_of(body)
        for part in parts:
            self._socket.sendall(message(b"d", part))
        self._socket.sendall(message(b"c", b""))
        self._answer()

    def _answer(self) -> "List[Row]":
        rows: "List[Row]" = []
        names: "List[str]" = []
        failed: Optional[ServerError] = None
        while True:
            kind, body = self._next()
            if kind == b"T":
                names = _read(_names, body)
            elif kind == b"D":
                rows.append(dict(zip(names, _read(_values, body))))
            elif kind == b"E":
                failed = error_of(body)
            elif kind == b"Z":
                if failed is not None:
                    raise failed
                return rows

    def _next(self) -> Message:
        while True:
            found, end = split(self._buffer, 1)
            if found:
                del self._buffer[:end]
                return found[0]
            self._buffer += self._received()

    def _received(self) -> bytes:
        data = self._socket.recv(_READ_BYTES)
        if not data:
            raise ConnectionError("the server closed the connection")
        return data


def _read(how: "Callable[[bytes], List[_Text]]", body: bytes) -> "List[_Text]":
    try:
        return how(body)
    except (struct.error, ValueError):
        raise WireError("a row makes no sense") from None


def _names(body: bytes) -> "List[str]":
    names, at = [], 2
    for _ in range(struct.unpack_from(">h", body)[0]):
        end = body.index(b"\0", at)
        names.append(body[at:end].decode())
        at = end + 19
    return names


def _values(body: bytes) -> "List[Optional[str]]":
    values: "List[Optional[str]]" = []
    at = 2
    for _ in range(struct.unpack_from(">h", body)[0]):
        (length,) = struct.unpack_from(">i", body, at)
        at += 4
        values.append(None if length < 0 else body[at : at + length].decode("utf-8", "replace"))
        at += max(0, length)
    return values
