"""Puts keys into a Redis server under the names that memtier_benchmark asks for."""

from typing import Any

from aifactory_bench.node.contract import Context, PrepareError

from .redis_data_node import value_of
from .redis_resp_node import Client, ErrorReply, RespError, encode

_TIMEOUT_S = 30.0
_CHUNK_BYTES = 1 << 20
_CHUNK_KEYS = 1000
FIRST = 1


def key_of(number: int) -> bytes:
    """Return the name of a key, as memtier would."""
    return b"memtier-%d" % number


def write_keys(context: Context) -> "dict[str, Any]":
    """Write this rank's part of all keys of the key space, and return how many; nothing else is touched.

    Raises:
        PrepareError: the server cannot be reached, refuses, or does not have the keys afterwards.
    """
    keys = int(context.parameters["keys"])
    first = FIRST + sum(keys // context.ranks + (rank < keys % context.ranks) for rank in range(context.rank))
    own = range(first, first + context.share(keys))
    value = value_of(int(context.parameters["value_size_bytes"]))
    for endpoint in context.endpoints["main"]:
        try:
            with Client(endpoint.host, endpoint.port, context.secrets.get("main", ""), _TIMEOUT_S) as client:
                present = _write(client, own, value)
        except (OSError, ErrorReply, RespError) as error:
            raise PrepareError(f"{endpoint.url}: the keys cannot be written: {error}") from None
        if present < len(own):
            raise PrepareError(f"{endpoint.url}: {present} of {len(own)} keys are there after they were written")
    return {"keys": len(own), "keys_written": len(own), "value_size_bytes": len(value)}


def _write(client: Client, numbers: range, value: bytes) -> int:
    """Write keys and return how many of them the server then has."""
    size = max(1, min(_CHUNK_KEYS, _CHUNK_BYTES // len(value)))
    parts = [numbers[start : start + size] for start in range(0, len(numbers), size)]
    for part in parts:
        client.ask_many(b"".join([encode("SET", key_of(number), value) for number in part]), len(part))
    return sum(int(client.ask("EXISTS", *map(key_of, part))) for part in parts)
