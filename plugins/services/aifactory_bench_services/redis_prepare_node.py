"""Brings the keys that a load asks for into place, and reads what the server is set to."""

from itertools import islice
from random import Random
from typing import Any, Dict, Iterator, List, Sequence, Tuple

from aifactory_bench.node.contract import Context, PrepareError

from .redis_cluster_node import LEAST_SERVERS, ClusterError, check_shares, form, owner_of
from .redis_data_node import Sizes, key_of, sizes_of, value_of
from .redis_resp_node import Client, ErrorReply, RespError, encode

_TIMEOUT_S = 30.0
_CHUNK_BYTES = 1 << 20
_CHUNK_KEYS = 1000
_SETTINGS = ("appendonly", "appendfsync", "save", "maxmemory", "maxmemory-policy", "cluster-enabled")

_prepared: "Dict[Tuple[Any, ...], Tuple[Any, ...]]" = {}
"""Server -> what this process has brought into place there last: range, sizes and time to live of values."""


def own_range(context: Context) -> range:
    """Return the keys that this rank writes before the window: numbers split over the ranks."""
    keys = int(context.parameters["keys"])
    first = sum(keys // context.ranks + (rank < keys % context.ranks) for rank in range(context.rank))
    return range(first, first + context.share(keys))


def is_cluster(context: Context) -> bool:
    """Return whether the servers are to be one cluster."""
    return bool(context.service_parameters.get("main", {}).get("cluster"))


def expire_ms_of(parameters: "Dict[str, Any]") -> int:
    """Return how long a value lives; 0: for ever."""
    expire_s = parameters.get("expire_s")
    return max(1, round(expire_s * 1000)) if expire_s else 0


def prepare(context: Context) -> "Dict[str, Any]":
    """Write all keys that requests will ask for, and return what was done.

    Every rank writes a range of its own (`key:000000000042`, numbers split over the ranks) on every replica, so that ranks
    need not wait for each other, and asks the server whether all of the range is there. With `reset: data` the range is
    written anew, and keys of an earlier, larger key space are removed; nothing is flushed, as that would race with the
    writing of other ranks and take the data of others. Otherwise what this process wrote before is left as it is, if it
    is still there. Keys that expire are written before every point, and not looked for.

    Servers that are to be a cluster are made one first, and each gets its own keys.

    Raises:
        PrepareError: the server refuses, or does not have the keys afterwards.
    """
    sizes, expire_ms = sizes_of(context.parameters), expire_ms_of(context.parameters)
    endpoints, cluster = context.endpoints["main"], is_cluster(context)
    keys, own = int(context.parameters["keys"]), own_range(context)
    secret = context.secrets.get("main", "")
    if cluster:
        _make_cluster(context, secret, own if context.parameters.get("write_ranges") == "disjoint" else range(keys))
    written = removed = 0
    settings: "Dict[str, str]" = {}
    for place, endpoint in enumerate(endpoints):
        server, wanted = (endpoint.host, endpoint.port, endpoint.restart, endpoint.nonce), (own, sizes, expire_ms)
        known = _prepared.pop(server, None) == wanted
        numbers: "Sequence[int]" = own
        if cluster:
            numbers = [number for number in own if owner_of(number, len(endpoints)) == place]
        try:
            with Client(endpoint.host, endpoint.port, secret, _TIMEOUT_S) as client:
                settings = settings or settings_of(client)
                if context.reset == "data":
                    removed += _remove_beyond(client, keys, context.rank, context.ranks, cluster)
                if expire_ms:
                    _write(client, numbers, sizes, expire_ms)
                    written += len(numbers)
                elif context.reset != "none" or not known or _present(client, numbers, cluster) < len(numbers):
                    _write(client, numbers, sizes, 0)
                    written += len(numbers)
                    present = _present(client, numbers, cluster)
                    if present < len(numbers):
                        raise PrepareError(
                            f"{endpoint.url}: {present} of {len(numbers)} keys are there after they were written"
                        )
        except (OSError, ErrorReply, RespError) as error:
            raise PrepareError(f"{endpoint.url}: the keys cannot be written: {error}") from None
        _prepared[server] = wanted
    done = {"keys": len(own), "keys_written": written, "keys_removed": removed, "value_size_bytes": sizes.largest}
    return {**done, "server_settings": settings}


def _make_cluster(context: Context, secret: str, asked: range) -> None:
    try:
        if len(context.endpoints["main"]) < LEAST_SERVERS:
            raise ClusterError("there is one endpoint; a cluster that runs already cannot be measured")
        check_shares(asked, len(context.endpoints["main"]))
        form(context.endpoints["main"], secret)
    except (ClusterError, OSError, ErrorReply, RespError) as error:
        raise PrepareError(f"the servers of {context.endpoints['main'][0].service} are no cluster: {error}") from None


def settings_of(client: Client) -> "Dict[str, str]":
    """Return what decides on durability and memory, as the server says; empty where it does not tell."""
    found = {}
    for name in _SETTINGS:
        try:
            said = client.ask("CONFIG", "GET", name)
        except ErrorReply:
            return {}  # many that run for others do not let anybody ask
        if said:
            found[name] = said[1].decode("utf-8", "replace")
    return found


def _write(client: Client, numbers: "Sequence[int]", sizes: Sizes, expire_ms: int) -> None:
    """Write keys in one go; the same ones get the same sizes each time."""
    value = value_of(sizes.largest)
    chunk = max(1, min(_CHUNK_KEYS, _CHUNK_BYTES // len(value)))
    expire: "Tuple[Any, ...]" = ("PX", expire_ms) if expire_ms else ()
    template = encode("SET", key_of(0), value, *expire).replace(key_of(0), b"key:%012d", 1)
    drawn = sizes.drawn(Random(f"sizes {numbers[0] if numbers else 0}"))
    for start in range(0, len(numbers), chunk):
        part = numbers[start : start + chunk]
        requests = [template % key for key in part] if sizes.constant else _sized(part, drawn, value, expire)
        client.ask_many(b"".join(requests), len(part))


def _sized(numbers: "Sequence[int]", drawn: "Iterator[int]", value: bytes, expire: "Tuple[Any, ...]") -> "List[bytes]":
    sizes = islice(drawn, len(numbers))
    return [encode("SET", key_of(number), value[:size], *expire) for number, size in zip(numbers, sizes)]


def _present(client: Client, numbers: "Sequence[int]", cluster: bool) -> int:
    """Return how many of the keys are there; a cluster takes no command on several slots."""
    parts = [numbers[start : start + _CHUNK_KEYS] for start in range(0, len(numbers), _CHUNK_KEYS)]
    if cluster:
        return sum(sum(client.ask_many(b"".join(encode("EXISTS", key_of(key)) for key in part), len(part))) for part in parts)
    return sum(int(client.ask("EXISTS", *map(key_of, part))) for part in parts)


def _remove_beyond(client: Client, keys: int, rank: int, ranks: int, cluster: bool) -> int:
    """Remove keys with numbers past the key space; each rank those whose number falls to it."""
    cursor, removed = b"0", 0
    while True:
        cursor, names = client.ask("SCAN", cursor, "MATCH", "key:*", "COUNT", _CHUNK_KEYS)
        numbers = [int(name[4:]) for name in names if len(name) == 16 and name[4:].isdigit()]
        beyond = [key_of(number) for number in numbers if number >= keys and number % ranks == rank]
        if beyond and cluster:
            removed += sum(client.ask_many(b"".join(encode("UNLINK", key) for key in beyond), len(beyond)))
        elif beyond:
            removed += int(client.ask("UNLINK", *beyond))
        if cursor == b"0":
            return removed
