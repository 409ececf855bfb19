"""PostgreSQL on the node: is it there, what does it count, a role and a database for the load.

Questions are asked as the administrator in the database `postgres`; loads run as another role in databases of their own,
`bench` and `bench_<client>`. So what is counted there is theirs, and the connections that the server keeps for superusers are
left for us.
"""

import glob
import importlib.util
import os
import re
import time
from typing import Any, Dict, Optional, Sequence, Tuple

from aifactory_bench.node.contract import NotReady
from aifactory_bench.node.endpoint import Endpoint

from .postgresql_wire_node import Client, ServerError, WireError, verifier

ADMIN, LOAD, DATABASE = "postgres", "bench", "bench"
_PROBE_TIMEOUT_S = 1.5
_TIMEOUT_S = 30.0
_LONG_TIMEOUT_S = 3600.0
"""Of what takes as long as the data is large."""
_GONE_S = 2.0
"""A server process writes down what it counted when it ends, shortly after its client has gone."""
_PACKAGE = "pgserver"
_PROGRAMS = frozenset({"initdb", "postgres", "pgbench", "psql"})
_DEBIAN = "/usr/lib/postgresql/*/bin"
_EXISTS = frozenset({"42710", "42P04", "23505"})
"""Role, database, or either made by another client at the same moment."""
_DENIED = "42501"
_FROM_DATABASE = (
    "xact_commit",
    "xact_rollback",
    "blks_read",
    "blks_hit",
    "tup_returned",
    "tup_fetched",
    "tup_inserted",
    "tup_updated",
    "tup_deleted",
    "conflicts",
    "temp_bytes",
    "deadlocks",
    "sessions",
)
_FROM_WAL = ("wal_records", "wal_fpi", "wal_bytes", "wal_buffers_full")
_FROM_CHECKPOINTS = {
    "checkpoints_timed": "checkpoints_timed",
    "checkpoints_req": "checkpoints_requested",
    "buffers_checkpoint": "checkpoint_buffers",
    "num_timed": "checkpoints_timed",
    "num_requested": "checkpoints_requested",
    "buffers_written": "checkpoint_buffers",
}
"""Column of `pg_stat_bgwriter`, from version 17 on of `pg_stat_checkpointer` -> our name."""
_VIEWS = {
    "pg_stat_wal": {name: name for name in _FROM_WAL},
    "pg_stat_bgwriter": _FROM_CHECKPOINTS,
    "pg_stat_checkpointer": _FROM_CHECKPOINTS,
}
_VIEWS_THERE = "SELECT relname FROM pg_class WHERE relname LIKE 'pg_stat_%' AND relnamespace = 'pg_catalog'::regnamespace"
"""Not every version has all, and one that is asked for in vain is an error in the server's log."""
_OURS = f"datname ~ '^{DATABASE}(_|$)'"
_STATES = {"active": "active", "idle": "idle", "idle in transaction": "idle_in_transaction"}

_BY_STATE = f"""
SELECT coalesce(state, '') AS state, count(*) AS n,
  count(*) FILTER (WHERE wait_event_type = 'Lock') AS locks,
  count(*) FILTER (WHERE wait_event_type IN ('IO', 'LWLock')) AS io
FROM pg_stat_activity WHERE {_OURS} AND backend_type = 'client backend' GROUP BY 1
"""  # noqa: S608 - a constant


def connect(endpoint: Endpoint, secret: str, database: str = ADMIN, timeout_s: float = _TIMEOUT_S) -> Client:
    """Return a connection of the administrator.

    Raises:
        OSError, ServerError, WireError: there is none to have.
    """
    return Client(endpoint.host, endpoint.port, ADMIN, database, secret, timeout_s)


def probe(endpoint: Endpoint, secret: str, parameters: "Dict[str, Any]") -> "Dict[str, Any]":
    """Return the version of a server that answers a query, and the settings on which its numbers depend as it has them.

    Raises:
        NotReady: it does not yet; the text is what it said.
    """
    try:
        with connect(endpoint, secret, timeout_s=_PROBE_TIMEOUT_S) as client:
            rows = client.ask(f"SELECT name, current_setting(name) AS value FROM pg_settings WHERE name IN ({_SETTINGS})")  # noqa: S608 - a constant
    except ServerError as error:
        raise NotReady(f"the server answers: {error}") from None
    except (OSError, WireError) as error:
        raise NotReady(str(error)) from None
    settings = {str(row["name"]): row["value"] or "" for row in rows}
    return {"server_name": "postgresql", "server_version": settings.pop("server_version", ""), "settings": settings}


_SETTINGS = ", ".join(
    f"'{name}'"
    for name in (
        *("server_version", "fsync", "synchronous_commit", "full_page_writes", "wal_level", "wal_compression"),
        *("shared_buffers", "work_mem"),
        *("maintenance_work_mem", "effective_cache_size", "max_connections", "checkpoint_timeout", "max_wal_size", "jit"),
        *("autovacuum", "max_parallel_workers_per_gather", "data_checksums", "shared_preload_libraries"),
    )
)


def locate(name: str) -> Optional[str]:
    """Return the path of a PostgreSQL program that is not on PATH: Debian's newest, else that of the wheel `pgserver`."""
    if name not in _PROGRAMS:
        return None
    found = [path for path in glob.glob(f"{_DEBIAN}/{name}") if os.access(path, os.X_OK)]
    if found:
        return max(found, key=lambda path: [int(number) for number in re.findall(r"[0-9]+", path)])
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    path = os.path.join(os.path.dirname(spec.origin), "pginstall", "bin", name)
    return path if os.access(path, os.X_OK) else None


def counters(endpoint: Endpoint, secret: str) -> "Dict[str, float]":
    """Return totals of the loads' databases, of the write-ahead log and of checkpoints, since the server's start.

    `operations` is its transactions, less one for the start of each session. Transactions of autovacuum are in it. It is read
    from another database, so that reading does not change it, and once all sessions of the load have gone, or after 2 s.

    Raises:
        OSError: the server is not there.
        ServerError, WireError: it does not answer as PostgreSQL does.
    """
    with connect(endpoint, secret) as client:
        until = time.monotonic() + _GONE_S
        while _sessions(client) and time.monotonic() < until:
            time.sleep(0.02)
        return _totals(client)


def _sessions(client: Client) -> int:
    where = f"{_OURS} AND backend_type = 'client backend'"
    return int(client.ask(f"SELECT count(*) AS n FROM pg_stat_activity WHERE {where}")[0]["n"] or 0)  # noqa: S608 - constants


def _totals(client: Client) -> "Dict[str, float]":
    found = client.ask(f"SELECT * FROM pg_stat_database WHERE {_OURS}")  # noqa: S608 - a constant
    totals = {name: sum(_number(row.get(name)) for row in found) for name in _FROM_DATABASE}
    totals["operations"] = totals["xact_commit"] + totals["xact_rollback"] - totals["sessions"]
    there = {row["relname"] for row in client.ask(_VIEWS_THERE)}
    for view in there.intersection(_VIEWS):
        for other in client.ask(f"SELECT * FROM {view}"):  # noqa: S608 - a name of our own
            totals.update((ours, _number(other[theirs])) for theirs, ours in _VIEWS[str(view)].items() if theirs in other)
    return totals


def _number(text: Optional[str]) -> float:
    return float(text or 0)


def sample(endpoint: Endpoint, secret: str) -> "Dict[str, Optional[float]]":
    """Return what the server shows now: its totals, and the sessions of the load by what they do.

    Raises:
        OSError, ServerError, WireError: it does not answer.
    """
    with connect(endpoint, secret) as client:
        figures: "Dict[str, Optional[float]]" = dict(_totals(client))
        rows = client.ask(_BY_STATE)
    by_state = {str(row["state"]): _number(row["n"]) for row in rows}
    figures.update({f"sessions_{ours}": by_state.get(theirs, 0.0) for theirs, ours in _STATES.items()})
    figures["sessions_waiting_for_locks"] = sum(_number(row["locks"]) for row in rows)
    figures["sessions_waiting_for_io"] = sum(_number(row["io"]) for row in rows)
    return figures


def database_of(client: str) -> str:
    """Return the database of one client: of its own, as two that fill the same tables at once break each other's."""
    return f"{DATABASE}_{client}"


def ensure_database(
    endpoint: Endpoint, secret: str, extensions: "Sequence[str]" = (), database: str = DATABASE
) -> "Dict[str, str]":
    """Make the load's role and database, and extensions in it, where they are not there.

    The password of the role is the run's; what is sent is what the server keeps of it, so that it is in no log.

    Returns:
        Version of each of these extensions.

    Raises:
        OSError, ServerError, WireError: it cannot be done.
    """
    with connect(endpoint, secret) as client:
        if not client.ask(f"SELECT 1 FROM pg_roles WHERE rolname = '{LOAD}'"):  # noqa: S608 - a constant
            _unless_there(client, f"CREATE ROLE {LOAD} LOGIN PASSWORD '{verifier(secret)}'")
        if not client.ask(f"SELECT 1 FROM pg_database WHERE datname = '{database}'"):  # noqa: S608 - a name of our own
            _unless_there(client, f'CREATE DATABASE "{database}" OWNER {LOAD}')
    if not extensions:
        return {}
    with connect(endpoint, secret, database) as client:
        for name in extensions:
            _unless_there(client, f'CREATE EXTENSION IF NOT EXISTS "{name}"')
        rows = client.ask("SELECT extname, extversion FROM pg_extension")
    return {str(row["extname"]): str(row["extversion"]) for row in rows if row["extname"] in extensions}


def _unless_there(client: Client, sql: str) -> None:
    try:
        client.ask(sql)
    except ServerError as error:
        if error.code not in _EXISTS:
            raise


def settle(endpoint: Endpoint, secret: str) -> bool:
    """Write all that was changed to disk, so that a checkpoint of the preparation does not fall into the window.

    Returns:
        Whether we may: only superusers and members of pg_checkpoint.

    Raises:
        OSError, ServerError, WireError: the server does not answer.
    """
    try:
        with connect(endpoint, secret, timeout_s=_LONG_TIMEOUT_S) as client:
            client.ask("CHECKPOINT")
    except ServerError as error:
        if error.code == _DENIED:
            return False
        raise
    return True


def place_of(endpoint: Endpoint) -> "Tuple[str, int, int, str]":
    """Return what tells one server from another, also from one that was started anew in its place."""
    return endpoint.host, endpoint.port, endpoint.restart, endpoint.nonce
