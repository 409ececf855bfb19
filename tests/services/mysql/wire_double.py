"""A server of the MySQL protocol with a script: what it says, in packets, and what it is told.

Packets as the protocol's documentation has them: "Protocol::HandshakeV10", "Protocol::AuthSwitchRequest",
"Caching_sha2_password information". Written from there and not from the client under test.
"""

import hashlib
import socket
import threading
from collections.abc import Callable

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

NONCE = bytes(range(1, 21))
OK = b"\0\0\0\2\0\0\0"


def greeting(plugin: str, version: str = "8.4.3", nonce: bytes = NONCE, capabilities: int = 0xDFFFFFFF) -> bytes:
    return b"".join(
        [
            b"\x0a",
            version.encode() + b"\0",
            (7).to_bytes(4, "little"),
            nonce[:8] + b"\0",
            (capabilities & 0xFFFF).to_bytes(2, "little"),
            b"\xff\x02\x00",
            (capabilities >> 16).to_bytes(2, "little"),
            bytes([len(nonce) + 1]),
            bytes(10),
            nonce[8:] + b"\0",
            plugin.encode() + b"\0",
        ]
    )


def error(code: int, text: str, state: str = "HY000") -> bytes:
    return b"\xff" + code.to_bytes(2, "little") + (f"#{state}" if state else "").encode() + text.encode()


def sha2(password: bytes, nonce: bytes = NONCE) -> bytes:
    """XOR(SHA256(password), SHA256(SHA256(SHA256(password)), nonce)), word for word from the documentation."""
    once = hashlib.sha256(password).digest()
    other = hashlib.sha256(hashlib.sha256(hashlib.sha256(password).digest()).digest() + nonce).digest()
    return bytes(a ^ b for a, b in zip(once, other, strict=True))


class Talk:
    """One connection, from the server's side."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.sequence = 0

    def say(self, payload: bytes) -> None:
        self._connection.sendall(len(payload).to_bytes(3, "little") + bytes([self.sequence]) + payload)
        self.sequence = (self.sequence + 1) & 0xFF

    def say_raw(self, data: bytes) -> None:
        self._connection.sendall(data)

    def hear(self) -> bytes:
        head = self._exactly(4)
        self.sequence = (head[3] + 1) & 0xFF
        return self._exactly(int.from_bytes(head[:3], "little"))

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self._connection.recv(count - len(data))
            if not piece:
                raise ConnectionError
            data += piece
        return data


class Double:
    """Listens, and plays one script a connection."""

    def __init__(self, script: Callable[[Talk], None]) -> None:
        self.failure: BaseException | None = None
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(10)
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> "Double":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(10)
        self._listener.close()
        if self.failure is not None and not isinstance(self.failure, OSError):
            raise self.failure

    def _serve(self) -> None:
        try:
            connection, _ = self._listener.accept()
            with connection:
                connection.settimeout(10)
                self._script(Talk(connection))
        except BaseException as failure:
            self.failure = failure


class Login:
    """How MySQL logs a user in by `caching_sha2_password`: known already, or under its public key."""

    def __init__(self, password: str, *, cached: bool, bits: int = 2048) -> None:
        self._password = password.encode()
        self.cached = cached
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
        self.user = ""

    @property
    def pem(self) -> bytes:
        return self._key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    def __call__(self, talk: Talk) -> None:
        talk.say(greeting("caching_sha2_password"))
        response = talk.hear()
        assert int.from_bytes(response[:4], "little") & 0x88200 == 0x88200, "protocol 4.1, secure, plug-ins"
        user, _, rest = response[32:].partition(b"\0")
        self.user = user.decode()
        proof = rest[1 : 1 + rest[0]]
        assert rest[1 + rest[0] :] == b"caching_sha2_password\0"
        self.finish(talk, proof, NONCE)

    def finish(self, talk: Talk, proof: bytes, nonce: bytes) -> None:
        if self.cached:
            known = proof == (sha2(self._password, nonce) if self._password else b"")
            if known and proof:
                talk.say(b"\x01\x03")
            talk.say(OK if known else error(1045, "Access denied", "28000"))
            return
        talk.say(b"\x01\x04")
        assert talk.hear() == b"\x02"
        talk.say(b"\x01" + self.pem)
        hidden = self._key.decrypt(
            talk.hear(), padding.OAEP(mgf=padding.MGF1(hashes.SHA1()), algorithm=hashes.SHA1(), label=None)
        )
        plain = bytes(byte ^ nonce[place % len(nonce)] for place, byte in enumerate(hidden))
        talk.say(OK if plain == self._password + b"\0" else error(1045, "Access denied", "28000"))
