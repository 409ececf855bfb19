"""How a client of MySQL and MariaDB proves that it knows the password: `mysql_native_password` and `caching_sha2_password`.

Over a plain connection the second needs RSA once for each user and start of the server: the password is encrypted with the
server's public key. The standard library has no RSA, but whole numbers of any size, and that is all that encryption takes.
"""

import base64
import binascii
import hashlib
import os
from typing import Iterator, Tuple

NATIVE = "mysql_native_password"
SHA2 = "caching_sha2_password"
NONCE_BYTES = 20
_SHA1_BYTES = 20
_LEAST_BITS, _MOST_BITS = 1024, 16384
_SEQUENCE, _INTEGER, _BIT_STRING = 0x30, 0x02, 0x03


class KeyFormatError(ValueError):
    """What the server sent as its public key is none."""


def native_proof(password: bytes, nonce: bytes) -> bytes:
    """Return `SHA1(password) xor SHA1(nonce + SHA1(SHA1(password)))`; empty for an empty password."""
    if not password:
        return b""
    once = _sha1(password)
    return _xor(once, _sha1(nonce + _sha1(once)))


def sha2_proof(password: bytes, nonce: bytes) -> bytes:
    """Return `SHA256(password) xor SHA256(SHA256(SHA256(password)) + nonce)`; empty for an empty password."""
    if not password:
        return b""
    once = hashlib.sha256(password).digest()
    thrice = hashlib.sha256(hashlib.sha256(once).digest() + nonce).digest()
    return _xor(once, thrice)


def encrypted_password(password: bytes, nonce: bytes, pem: bytes) -> bytes:
    """Return what full authentication sends over a plain connection: RSA-OAEP (SHA-1) of the password, xored with the nonce.

    Raises:
        KeyFormatError: the key is not a public RSA key in PEM, or too short for the password.
    """
    modulus, exponent = public_key(pem)
    plain = password + b"\0"
    hidden = bytes(byte ^ nonce[place % len(nonce)] for place, byte in enumerate(plain))
    return _oaep(hidden, modulus, exponent, os.urandom(_SHA1_BYTES))


def public_key(pem: bytes) -> Tuple[int, int]:
    """Return modulus and exponent of a `PUBLIC KEY` in PEM.

    Raises:
        KeyFormatError: it is none.
    """
    lines = pem.strip(b"\0 \r\n").split(b"\n")
    if len(lines) < 3 or lines[0].strip() != b"-----BEGIN PUBLIC KEY-----" or lines[-1].strip() != b"-----END PUBLIC KEY-----":
        raise KeyFormatError("the server's public key is not in PEM")
    try:
        der = base64.b64decode(b"".join(line.strip() for line in lines[1:-1]), validate=True)
        (_, info), *_ = _parts(der)
        _, (tag, bits) = _parts(info)
        if tag != _BIT_STRING or bits[:1] != b"\0":
            raise KeyFormatError("the server's public key has no bits")
        (_, key), *_ = _parts(bits[1:])
        (first, modulus), (second, exponent) = _parts(key)
    except (binascii.Error, ValueError) as error:
        raise KeyFormatError(f"the server's public key cannot be read: {error}") from None
    numbers = int.from_bytes(modulus, "big"), int.from_bytes(exponent, "big")
    if (first, second) != (_INTEGER, _INTEGER) or not _LEAST_BITS <= numbers[0].bit_length() <= _MOST_BITS or numbers[1] < 3:
        raise KeyFormatError("the server's public key is not one of RSA")
    return numbers


def _parts(der: bytes) -> "Iterator[Tuple[int, bytes]]":
    """Yield tag and content of each element, one after another."""
    at = 0
    while at < len(der):
        if at + 2 > len(der):
            raise KeyFormatError("an element has no length")
        tag, length = der[at], der[at + 1]
        at += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(der[at : at + size], "big")
            at += size
        if not length or at + length > len(der):
            raise KeyFormatError("an element is longer than the key")
        yield tag, der[at : at + length]
        at += length


def _oaep(message: bytes, modulus: int, exponent: int, seed: bytes) -> bytes:
    """Return the message encrypted, as RFC 8017 (7.1.1) has it, with SHA-1 and an empty label."""
    size = (modulus.bit_length() + 7) // 8
    room = size - 2 * _SHA1_BYTES - 2
    if len(message) > room:
        raise KeyFormatError(f"the server's public key has room for {room} bytes, the password needs {len(message)}")
    block = _sha1(b"") + b"\0" * (room - len(message)) + b"\1" + message
    masked = _xor(block, _mask(seed, len(block)))
    hidden_seed = _xor(seed, _mask(masked, _SHA1_BYTES))
    number = int.from_bytes(b"\0" + hidden_seed + masked, "big")
    return pow(number, exponent, modulus).to_bytes(size, "big")


def _mask(seed: bytes, length: int) -> bytes:
    """Return the mask of MGF1 with SHA-1."""
    blocks = (_sha1(seed + counter.to_bytes(4, "big")) for counter in range(-(-length // _SHA1_BYTES)))
    return b"".join(blocks)[:length]


def _sha1(data: bytes) -> bytes:
    # The protocol's own choice; without the hint, machines that allow approved algorithms only refuse it.
    return hashlib.sha1(data, usedforsecurity=False).digest()


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other))
