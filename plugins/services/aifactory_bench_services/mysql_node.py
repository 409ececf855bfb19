"""MySQL and MariaDB on the node: is it there, with which settings, what does it count."""

import os
from typing import Any, Dict, Iterable, Optional

from aifactory_bench.node.contract import NotReady
from aifactory_bench.node.endpoint import Endpoint

from .mysql_wire_node import Connection, ServerError, WireError

USER = "bench"
"""Who logs in, also at an external service, which must have such a user."""
_PROBE_TIMEOUT_S = 1.5
_TIMEOUT_S = 30.0
_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/usr/libexec", "/usr/local/mysql/bin")
"""Where servers are that are not on everybody's PATH."""
SETTINGS = (
    "innodb_flush_log_at_trx_commit",
    "sync_binlog",
    "log_bin",
    "innodb_doublewrite",
    "innodb_flush_method",
    "innodb_buffer_pool_size",
    "innodb_log_file_size",
    "innodb_redo_log_capacity",
    "max_connections",
    "max_prepared_stmt_count",
    "table_open_cache",
    "open_files_limit",
    "performance_schema",
    "transaction_isolation",
    "tx_isolation",
    "version_comment",
)
"""Variables that decide about numbers, as the server itself has them; which of them there are depends on the release."""
STATEMENTS = ("select", "insert", "update", "delete", "begin", "commit", "rollback")
_COUNTERS = (
    *(f"Com_{statement}" for statement in STATEMENTS),
    *("Questions", "Com_stmt_execute", "Connections", "Aborted_clients", "Aborted_connects", "Slow_queries"),
    *("Bytes_received", "Bytes_sent", "Created_tmp_disk_tables", "Handler_commit"),
    *("Innodb_rows_read", "Innodb_rows_inserted", "Innodb_rows_updated", "Innodb_rows_deleted"),
    *("Innodb_buffer_pool_read_requests", "Innodb_buffer_pool_reads", "Innodb_data_fsyncs", "Innodb_data_written"),
    *("Innodb_os_log_written", "Innodb_log_waits", "Innodb_row_lock_waits", "Innodb_row_lock_time", "Innodb_deadlocks"),
)
_SAMPLED = (
    *("Questions", "Com_select", "Com_insert", "Com_update", "Com_delete", "Com_begin", "Com_commit"),
    *("Threads_connected", "Threads_running", "Prepared_stmt_count", "Bytes_received", "Bytes_sent"),
    *("Innodb_buffer_pool_read_requests", "Innodb_buffer_pool_reads", "Innodb_buffer_pool_pages_dirty"),
    *("Innodb_data_fsyncs", "Innodb_os_log_written", "Innodb_row_lock_waits", "Innodb_row_lock_current_waits"),
)


def probe(endpoint: Endpoint, secret: str, parameters: "Dict[str, Any]") -> "Dict[str, Any]":
    """Return name, version and settings of a server that answers `SELECT 1` with the run's own password.

    Raises:
        NotReady: it does not yet; the text is what it said.
    """
    try:
        with connect(endpoint, secret, _PROBE_TIMEOUT_S) as connection:
            if connection.ask("SELECT 1") != [("1",)]:
                raise NotReady("SELECT 1 gave something else than 1")
            settings = settings_of(connection)
            version = connection.version
    except (OSError, ServerError, WireError) as error:
        raise NotReady(str(error)) from None
    return {"server_name": "MariaDB" if "MariaDB" in version else "MySQL", "server_version": version, "settings": settings}


def locate(name: str) -> Optional[str]:
    """Return the path of a server's program where distributions put it, or None."""
    paths = (os.path.join(folder, name) for folder in _FOLDERS)
    return next((path for path in paths if os.access(path, os.X_OK)), None)


def counters(endpoint: Endpoint, secret: str) -> "Dict[str, float]":
    """Return totals of the server since its start; reading them is no SELECT, and changes `Questions` only.

    There is no `operations`: what a transaction is depends on the client, which knows (`sysbench_node.counters`).

    Raises:
        OSError, ServerError, WireError: the server does not answer.
    """
    return {name: value for name, value in _status(endpoint, secret, _COUNTERS).items() if value is not None}


def sample(endpoint: Endpoint, secret: str) -> "Dict[str, Optional[float]]":
    """Return the server's figures now, over a connection that is kept free for it (`max_connections` is 2 more than asked).

    Raises:
        OSError, ServerError, WireError: the server does not answer.
    """
    return _status(endpoint, secret, _SAMPLED)


def connect(endpoint: Endpoint, secret: str, timeout_s: float = _TIMEOUT_S) -> Connection:
    """Return a connection of the user whose password is known.

    Raises:
        OSError, ServerError, WireError: see `Connection`.
    """
    return Connection(endpoint.host, endpoint.port, USER, secret, timeout_s)


def settings_of(connection: Connection) -> "Dict[str, str]":
    """Return the variables of the server that decide about numbers."""
    names = ", ".join(f"'{name}'" for name in SETTINGS)
    return connection.pairs(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})")


def _status(endpoint: Endpoint, secret: str, names: "Iterable[str]") -> "Dict[str, Optional[float]]":
    with connect(endpoint, secret) as connection:
        found = connection.pairs("SHOW GLOBAL STATUS")
    return {name: _number(found.get(name)) for name in names}


def _number(text: "Optional[str]") -> "Optional[float]":
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
