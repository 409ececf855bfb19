"""The protocol of MySQL and MariaDB by hand: one connection, one question at a time, answers as text.

Handshake version 10, `mysql_native_password` and `caching_sha2_password` over a plain connection, `COM_QUERY`. Small and
strict: whatever else a server sends is an error.
"""

import socket
import struct
import time
from typing import Dict, List, Optional, Tuple

from .mysql_auth_node import NATIVE, NONCE_BYTES, SHA2, KeyFormatError, encrypted_password, native_proof, sha2_proof

Row = Tuple[Optional[str], ...]
_PROTOCOL = 10
# Capabilities, see "Capabilities Flags" of the protocol's documentation.
_LONG_PASSWORD, _PROTOCOL_41, _TRANSACTIONS, _SECURE, _PLUGIN_AUTH = 0x1, 0x200, 0x2000, 0x8000, 0x80000
_OURS = _LONG_PASSWORD | _PROTOCOL_41 | _TRANSACTIONS | _SECURE | _PLUGIN_AUTH
_UTF8MB4 = 45
_QUIT, _QUERY = b"\x01", b"\x03"
_OK, _MORE, _NULL, _FILE, _EOF, _ERROR = 0x00, 0x01, 0xFB, 0xFB, 0xFE, 0xFF
_FAST_OK, _FULL, _ASK_KEY = b"\x03", b"\x04", b"\x02"
_EOF_BYTES = 9
"""What begins as an end of rows and is longer is a row."""
_MOST_BYTES = (1 << 24) - 1
"""A packet of this length is continued in the next one; nothing that is asked here has an answer so long."""
_MOST_COLUMNS = 4096
_LENGTHS = {0xFC: 2, 0xFD: 3, 0xFE: 8}
_REPLICATION_PREFIX = "5.5.5-"
"""MariaDB puts it before its version in the handshake, for old replicas."""


class WireError(Exception):
    """The other side does not speak the protocol, or a part of it that is not spoken here."""


class ServerError(Exception):
    """The server says no; `code` is its number, 1045 for a wrong password."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{text} (error {code})")
        self.code = code


class Connection:
    """One connection that is logged in; `version` is what the server says of itself."""

    def __init__(self, host: str, port: int, user: str, password: str, timeout_s: float) -> None:
        """Connect and log in.

        Args:
            host: name or address.
            port: of TCP.
            user: to log in as.
            password: of the user.
            timeout_s: for connecting and logging in together, and later for each question.

        Raises:
            OSError: nobody answers, or not in time.
            ServerError: the server refuses.
            WireError: it is no server of this kind, or wants another kind of login.
        """
        self._timeout_s = timeout_s
        self._until = time.monotonic() + timeout_s
        self._sequence = 0
        self._socket = socket.create_connection((host, port), timeout=timeout_s)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._log_in(user, password.encode())
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Say goodbye and hang up."""
        try:
            self._sequence = 0
            self._send(_QUIT)
        except OSError:
            pass
        self._socket.close()

    def ask(self, sql: str) -> "List[Row]":
        """Send one statement and return its rows; none for a statement that has no answer. NULL is None.

        Raises:
            OSError: the connection broke, or the answer was not there in time.
            ServerError: the server refuses the statement.
            WireError: the answer breaks the protocol.
        """
        self._until = time.monotonic() + self._timeout_s
        self._sequence = 0
        self._send(_QUERY + sql.encode())
        first = self._receive()
        if first[0] == _OK:
            return []
        if first[0] == _FILE:
            raise WireError("the server asks for a file of ours")
        columns = _Reader(first).number()
        if not 0 < columns <= _MOST_COLUMNS:
            raise WireError(f"an answer with {columns} columns")
        for _ in range(columns):
            self._receive()
        if not _ends(self._receive()):
            raise WireError("the columns of an answer have no end")
        rows: List[Row] = []
        while True:
            packet = self._receive()
            if _ends(packet):
                return rows
            reader = _Reader(packet)
            rows.append(tuple(reader.text() for _ in range(columns)))

    def pairs(self, sql: str) -> "Dict[str, str]":
        """Return the answer of a statement with two columns, such as SHOW VARIABLES; NULL is the empty text."""
        rows = self.ask(sql)
        if any(len(row) != 2 for row in rows):
            raise WireError(f"two columns expected: {sql}")
        return {row[0] or "": row[1] or "" for row in rows}

    def _log_in(self, user: str, password: bytes) -> None:
        greeting = _Reader(self._receive())
        protocol = greeting.whole(1)
        if protocol != _PROTOCOL:
            raise WireError(f"protocol {protocol}, expected {_PROTOCOL}")
        self.version = greeting.until_zero().decode("utf-8", "replace")
        if self.version.startswith(_REPLICATION_PREFIX) and "MariaDB" in self.version:
            self.version = self.version[len(_REPLICATION_PREFIX) :]
        greeting.take(4)  # number of the connection
        nonce = greeting.take(8)
        greeting.take(1)
        capabilities = greeting.whole(2)
        greeting.take(3)  # character set, status
        capabilities |= greeting.whole(2) << 16
        if capabilities & _OURS & ~_LONG_PASSWORD != _OURS & ~_LONG_PASSWORD:
            raise WireError(f"the server is too old: its capabilities are {capabilities:#x}")
        length = greeting.whole(1)
        greeting.take(10)
        nonce = (nonce + greeting.take(max(13, length - 8)))[:NONCE_BYTES]
        plugin = greeting.until_zero().decode("ascii", "replace")
        known = plugin if plugin in {NATIVE, SHA2} else NATIVE
        proof = _proof(known, password, nonce)
        head = struct.pack("<IIB23x", _OURS, _MOST_BYTES, _UTF8MB4)
        self._send(head + user.encode() + b"\0" + bytes([len(proof)]) + proof + known.encode() + b"\0")
        self._prove(known, password, nonce)

    def _prove(self, plugin: str, password: bytes, nonce: bytes) -> None:
        """Answer what the server asks until it lets us in."""
        for _ in range(8):
            packet = self._receive()
            if packet[0] == _OK:
                return
            if packet[0] == _EOF:
                reader = _Reader(packet[1:])
                plugin = reader.until_zero().decode("ascii", "replace")
                if plugin not in {NATIVE, SHA2}:
                    raise WireError(f"the user logs in by {plugin!r}; known here: {NATIVE}, {SHA2}")
                nonce = reader.rest()[:NONCE_BYTES]
                if len(nonce) < NONCE_BYTES:
                    raise WireError("the server sent too short a nonce")
                self._send(_proof(plugin, password, nonce))
            elif packet[0] == _MORE and plugin == SHA2:
                self._prove_sha2(packet[1:], password, nonce)
            else:
                raise WireError(f"an unknown step of the login: {packet[:8].hex()}")
        raise WireError("the login has no end")

    def _prove_sha2(self, step: bytes, password: bytes, nonce: bytes) -> None:
        """The server knows the proof already (nothing to do), or wants the password under its public key."""
        if step == _FAST_OK:
            return
        if step != _FULL:
            raise WireError(f"an unknown step of {SHA2}: {step[:8].hex()}")
        self._send(_ASK_KEY)
        packet = self._receive()
        if packet[0] != _MORE:
            raise WireError("the server gave no public key")
        try:
            self._send(encrypted_password(password, nonce, packet[1:]))
        except KeyFormatError as error:
            raise WireError(str(error)) from None

    def _send(self, payload: bytes) -> None:
        if len(payload) >= _MOST_BYTES:
            raise WireError(f"a statement of {len(payload)} bytes; the most is {_MOST_BYTES - 1}")
        self._wait_no_longer()
        self._socket.sendall(len(payload).to_bytes(3, "little") + bytes([self._sequence]) + payload)
        self._sequence = (self._sequence + 1) & 0xFF

    def _receive(self) -> bytes:
        """Return the next packet, never empty.

        Raises:
            ServerError: it is a refusal.
        """
        head = self._read(4)
        length = int.from_bytes(head[:3], "little")
        if head[3] != self._sequence:
            raise WireError(f"packet {head[3]} where {self._sequence} was due")
        if not 0 < length < _MOST_BYTES:
            raise WireError(f"a packet of {length} bytes")
        self._sequence = (self._sequence + 1) & 0xFF
        payload = self._read(length)
        if payload[0] == _ERROR:
            raise _error(payload)
        return payload

    def _read(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            self._wait_no_longer()
            piece = self._socket.recv(min(count - len(data), 1 << 16))
            if not piece:
                raise ConnectionError("the server hung up")
            data += piece
        return bytes(data)

    def _wait_no_longer(self) -> None:
        left_s = self._until - time.monotonic()
        if left_s <= 0:
            raise TimeoutError(f"no answer within {self._timeout_s:g} s")
        self._socket.settimeout(left_s)


class _Reader:
    """Takes a packet apart."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._at = 0

    def take(self, count: int) -> bytes:
        part = self._payload[self._at : self._at + count]
        if len(part) < count:
            raise WireError("a packet is shorter than it says")
        self._at += count
        return part

    def whole(self, count: int) -> int:
        return int.from_bytes(self.take(count), "little")

    def until_zero(self) -> bytes:
        """Return the bytes before the next zero; without one, all that is left."""
        end = self._payload.find(b"\0", self._at)
        part = self._payload[self._at :] if end < 0 else self._payload[self._at : end]
        self._at = len(self._payload) if end < 0 else end + 1
        return part

    def rest(self) -> bytes:
        return self.take(len(self._payload) - self._at)

    def number(self) -> int:
        """Return a number in the form that carries its own length."""
        first = self.whole(1)
        if first < _NULL:
            return first
        if first not in _LENGTHS:
            raise WireError(f"a length that begins with {first:#x}")
        return self.whole(_LENGTHS[first])

    def text(self) -> "Optional[str]":
        if self._payload[self._at : self._at + 1] == bytes([_NULL]):
            self._at += 1
            return None
        return self.take(self.number()).decode("utf-8", "replace")


def _proof(plugin: str, password: bytes, nonce: bytes) -> bytes:
    return native_proof(password, nonce) if plugin == NATIVE else sha2_proof(password, nonce)


def _ends(packet: bytes) -> bool:
    return packet[0] == _EOF and len(packet) < _EOF_BYTES


def _error(payload: bytes) -> ServerError:
    reader = _Reader(payload[1:])
    code = reader.whole(2)
    text = reader.rest().decode("utf-8", "replace")
    # '#' and five characters of state, which are not there before the login.
    return ServerError(code, text[6:] if text.startswith("#") else text)
