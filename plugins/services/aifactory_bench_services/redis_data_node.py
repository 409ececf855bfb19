"""The keys and values that Redis clients write and read: the same ones in every run."""

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def key_of(number: int) -> bytes:
    """Return the name of a key, as redis-benchmark would."""
    return b"key:%012d" % number


def value_of(size_bytes: int) -> bytes:
    """Return the value that every key has: letters and digits, the same ones in every run."""
    from random import Random  # only who writes values pays for it

    return bytes(Random("value").choices(_ALPHABET, k=size_bytes))
