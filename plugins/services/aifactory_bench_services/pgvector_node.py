"""Vector search with pgvector on the node: tables and index before the window, then queries on the load core."""

import time
from typing import TYPE_CHECKING, Any, Dict, List, Tuple

from aifactory_bench.node.contract import Context, PrepareError
from aifactory_bench.node.endpoint import Endpoint

from .pgvector_data_node import fill, key_of, query_sql, read_key, read_truth, settings_of, write_key
from .postgresql_node import DATABASE, LOAD, connect, ensure_database, probe, settle
from .postgresql_node import counters as database_counters
from .postgresql_wire_node import Client, ServerError, WireError

if TYPE_CHECKING:
    from .pgvector_load_node import PgvectorLoad

__all__ = ["counters", "driver", "prepare", "probe"]

_LONG_S = 6 * 3600.0
"""For what takes as long as the data is large; the job's own time is shorter."""
_LOOK_S = 0.2


def counters(endpoint: Endpoint, secret: str) -> "Dict[str, float]":
    """Return the server's totals; the one transaction in which a session gets ready is no query, and is taken off.

    Raises:
        OSError, ServerError, WireError: the server is not there, or is none.
    """
    totals = database_counters(endpoint, secret)
    totals["operations"] -= totals["sessions"]
    return totals


def prepare(context: Context) -> "Dict[str, Any]":
    """Bring table, index and the right neighbours into place on every replica of the service; rank 0 does it for all.

    Raises:
        PrepareError: the server has no pgvector, cannot be reached, or refuses.
    """
    done: "Dict[str, Any]" = {}
    secret = context.secrets.get("main", "")
    extensions = context.service_parameters.get("main", {}).get("extensions") or ()
    for endpoint in context.endpoints["main"]:
        try:
            if context.rank:
                _wait(context, endpoint, secret)
                continue
            ensure_database(endpoint, secret, extensions)
            version = _ensure_extension(endpoint, secret)
            with _session(endpoint, secret) as client:
                done = {**_fill(context, client), "pgvector": version}
            done["checkpoint"] = settle(endpoint, secret)
        except (OSError, ServerError, WireError) as error:
            raise PrepareError(f"{endpoint.url}: the vectors cannot be brought into place: {error}") from None
    return done or {"rows_written": 0, "by": "replica 0 of the client"}


def _session(endpoint: Endpoint, secret: str) -> Client:
    return Client(endpoint.host, endpoint.port, LOAD, DATABASE, secret, _LONG_S)


def _ensure_extension(endpoint: Endpoint, secret: str) -> str:
    """Return the version of pgvector, which is made in the database where it is not there."""
    with connect(endpoint, secret, DATABASE) as client:
        if not client.ask("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'"):
            raise PrepareError(
                f"{endpoint.url}: the server has no extension 'vector' (pgvector); "
                f"use an image that has it, such as docker://pgvector/pgvector:pg16, or install it beside the server"
            )
        client.ask("CREATE EXTENSION IF NOT EXISTS vector")
        return str(client.ask("SELECT extversion FROM pg_extension WHERE extname = 'vector'")[0]["extversion"])


def _fill(context: Context, client: Client) -> "Dict[str, Any]":
    seed = _seed(context)
    done = fill(client, context.parameters, seed, fresh=context.reset == "data")
    write_key(client, {**key_of(context.parameters, seed), "point": context.point})
    plan = _plan(client, context)
    if context.parameters["index"] != "none" and "Index Scan" not in plan:
        raise PrepareError(f"the server does not use the index: {plan}")
    return {**done, "plan": plan}


def _plan(client: Client, context: Context) -> str:
    """Return how the server goes about a query."""
    for setting in settings_of(context.parameters):
        client.ask(setting)
    vector = "[" + ",".join(["1"] * int(context.parameters["dimensions"])) + "]"
    rows = client.ask(f"EXPLAIN (COSTS off) {query_sql(context.parameters).replace('$1', repr(vector))}")
    return " / ".join(line.strip() for row in rows if " Scan " in (line := str(row["QUERY PLAN"])))


def _seed(context: Context) -> int:
    """Return the seed of the data, the same for all ranks."""
    return int(context.load.get("seed", 0))


def _wait(context: Context, endpoint: Endpoint, secret: str) -> None:
    """Wait until rank 0 has prepared this very point."""
    wanted = {**key_of(context.parameters, _seed(context)), "point": context.point}
    until = time.monotonic() + _LONG_S
    while time.monotonic() < until:
        try:
            with _session(endpoint, secret) as client:
                if read_key(client) == wanted:
                    return
        except (ServerError, OSError):
            pass  # neither role nor database may be there yet; a server that is gone is seen by whoever watches it
        time.sleep(_LOOK_S)
    raise PrepareError(f"{endpoint.url}: replica 0 of the client has not brought the vectors into place")


def driver(context: Context) -> "PgvectorLoad":
    """Return the load that the parameters ask for, on all replicas.

    Raises:
        PrepareError: the right neighbours cannot be read.
    """
    from .pgvector_load_node import PgvectorLoad  # the load core is much to import, and a probe needs none of it

    secret = context.secrets.get("main", "")
    endpoints = context.endpoints["main"]
    truth: "List[Tuple[int, ...]]" = []
    try:
        with _session(endpoints[0], secret) as client:
            truth = read_truth(client)
    except (OSError, ServerError, WireError) as error:
        raise PrepareError(f"{endpoints[0].url}: the right neighbours cannot be read: {error}") from None
    return PgvectorLoad(
        [(endpoint.host, endpoint.port) for endpoint in endpoints],
        LOAD,
        secret,
        context.parameters,
        _seed(context),
        truth,
    )
