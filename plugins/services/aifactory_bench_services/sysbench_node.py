"""sysbench on the node: its own tables before the window, one measurement out of what it printed after it."""

import math
import os
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from aifactory_bench.node.contract import Context, PrepareError, ToolOutcome
from aifactory_bench.node.endpoint import Endpoint
from aifactory_bench.node.files import make_private_folder, write_atomic
from aifactory_bench.node.measurement import Measurement
from aifactory_bench.node.paths import RankPaths
from aifactory_bench.node.placeholders import names, resolve

from . import mysql_node
from .mysql_wire_node import Connection, ServerError, WireError
from .sysbench_text_node import Output, parse, whole
from .tool_prepare_node import run_before
from .tool_result_node import both, failed, how_it_ended, how_it_was_stopped, last_words, measurement_of, output_of

NAME = "sysbench"
CONFIG = "sysbench.cfg"
REPORT = "report.lua"
DATABASE = "sbtest"
OPERATION = "transaction"
_MOST_THREADS = 8
"""That bring tables into place, one table each."""
_RESERVED = 2
"""Connections of the server that the load leaves to us, see `mysql.RESERVED_CONNECTIONS`."""
_OF_THE_WINDOW = ("--time=", "--events=", "--report-interval=", "--percentile=", "--histogram=")
_MISSING_S = 0.5
"""Reports come every second: where the time went on for longer after one, another was due."""
_BY_CHANCE = 5
"""Standard deviations of the number of arrivals; fewer missing ones may be none."""
_BEGUN: "Dict[str, str]" = {
    "oltp_point_select": "Com_select",
    "oltp_read_only": "Com_begin",
    "oltp_read_write": "Com_begin",
}
"""Workload -> what the server counts once for each attempt at a transaction."""
_ERRORS = {
    1213: "deadlock",
    1205: "lock_wait_timeout",
    1020: "record_changed",
    2006: "connection_lost",
    2013: "connection_lost",
}
_NOT_FOUND = 1146, 1049
"""No such table, no such database."""
_COUNT_LIMIT_S = 600.0
_NS_PER_S = 1_000_000_000

_counted: "Dict[str, str]" = {}
"""`operations`: the server's name of what the workload of this process counts; set by `prepare`."""

_made: "Dict[str, List[str]]" = {}
"""Database -> options with which a script has filled it in this process: at another point there may be others."""

probe = mysql_node.probe


def counters(endpoint: Endpoint, secret: str) -> "Dict[str, float]":
    """Return totals of the server; `operations` counts attempts at transactions, if the workload is one that is known.

    These are BEGIN for transactions of several statements and SELECT for `oltp_point_select`.

    Raises:
        OSError, ServerError, WireError: the server does not answer.
    """
    totals = mysql_node.counters(endpoint, secret)
    name = _counted.get("operations")
    return {**totals, "operations": totals[name]} if name in totals else totals


def prepare(context: Context) -> "Dict[str, Any]":
    """Bring the tables into place with the tool itself, and return what was done.

    With `reset: data` they are dropped and made anew. Otherwise they are left as they are where each has all of its rows.

    Raises:
        PrepareError: the server cannot be reached or refuses, or the tool fails.
    """
    if len(context.endpoints["main"]) > 1:
        raise PrepareError(f"{NAME} asks one server, and the service has {len(context.endpoints['main'])} replicas")
    (endpoint,) = context.endpoints["main"]
    secret = context.secrets.get("main", "")
    parameters = context.parameters
    _counted.clear()
    if _no_operations(parameters) is None:
        _counted["operations"] = _BEGUN[parameters["workload"]]
    _write_config(context, secret)
    try:
        with mysql_node.connect(endpoint, secret, _COUNT_LIMIT_S) as connection:
            settings = mysql_node.settings_of(connection)
            _check_connections(context, settings)
            done = _bring(context, connection)
    except (OSError, ServerError, WireError) as error:
        raise PrepareError(f"{endpoint.host}:{endpoint.port}: the tables cannot be brought into place: {error}") from None
    return {**done, "reset": context.reset, "settings": settings}


def _bring(context: Context, connection: Connection) -> "Dict[str, Any]":
    parameters = context.parameters
    how, database = parameters["prepare"], database_of(context)
    if how == "none" and context.reset == "data":
        raise PrepareError(
            "repetitions.reset is `data`, and with `prepare: none` nothing is made anew: leave `reset` out, or prepare "
            "with `tables` or `script`"
        )
    connection.ask(f"CREATE DATABASE IF NOT EXISTS `{database}`")
    if how == "none":
        return {"database": database, "made": False}
    if how == "script":
        options = _as_in_the_window(context)
        if context.first or context.reset != "none" or _made.get(database) != options:
            for command in ("cleanup", "prepare"):
                run_before(context, NAME, [*_arguments(context), *options, f"--threads={_MOST_THREADS}", command])
            _made[database] = options
            return {"database": database, "made": True}
        return {"database": database, "made": False}
    tables, size = int(parameters["tables"]), int(parameters["table_size"])
    done = {"database": database, "tables": tables, "table_size": size, "rows": tables * size}
    if context.reset == "none" and _missing(connection, database, tables, size) is None:
        return {**done, "made": False}
    sizes = [f"--tables={tables}", f"--table-size={size}"]
    run_before(context, NAME, [*_arguments(context), "oltp_read_write", *sizes, "cleanup"])
    threads = f"--threads={min(tables, _MOST_THREADS)}"
    run = run_before(context, NAME, [*_arguments(context), "oltp_read_write", *sizes, threads, "prepare"])
    missing = _missing(connection, database, tables, size)
    if missing is not None:
        # Where it makes tables, the tool exits with 0 whatever became of them.
        said = parse(output_of(run.outcome.stdout)).words
        raise PrepareError(f"after the tables were made {missing}" + (f"; {NAME} said: {said}" if said else ""))
    return {**done, "made": True}


def _as_in_the_window(context: Context) -> "List[str]":
    """Return what the window's command says of the script and its data: a script that is told less makes other tables.

    The file that prints reports is among it, as it offers these options to scripts that do not know them.
    """
    command = context.commands[-1]
    place = next(number for number, part in enumerate(command) if Path(part).name == NAME)
    options = [resolve(part, {}) for part in command[place + 1 :] if part.startswith("--") and not names(part)]
    return [str(_work(context) / REPORT), *(option for option in options if not option.startswith(_OF_THE_WINDOW))]


def _missing(connection: Connection, database: str, tables: int, size: int) -> "Optional[str]":
    """Return what is wrong with the tables, or None when each of them has its rows."""
    for number in range(1, tables + 1):
        try:
            ((found,),) = connection.ask(f"SELECT COUNT(*) FROM `{database}`.sbtest{number}")  # noqa: S608 - names of our own
        except ServerError as error:
            if error.code not in _NOT_FOUND:
                raise
            return f"there is no sbtest{number}"
        if found != str(size):
            return f"sbtest{number} has {found} rows, not {size}"
    return None


def _check_connections(context: Context, settings: "Dict[str, str]") -> None:
    closed = context.load["process"] == "closed"
    threads = int(context.load["concurrency" if closed else "connections"] or 1)
    most = settings.get("max_connections", "")
    if most.isdecimal() and threads > int(most) - _RESERVED:
        name = "concurrency" if closed else "connections"
        raise PrepareError(
            f"{name} is {threads}, and the server takes {most} connections, of which {_RESERVED} are for its counters and "
            f"the sampler: raise max_connections of the service, or lower {name}"
        )


def database_of(context: Context) -> str:
    """Return the database: of the client's own, and of each of its ranks, so that none writes what another does.

    Data that is there already, with `prepare: none`, belongs to no client.
    """
    client = [] if context.parameters["prepare"] == "none" else [context.client]
    return "_".join([DATABASE, *client, *([] if context.ranks == 1 else [str(context.rank)])])


def _work(context: Context) -> Path:
    return RankPaths(context.folder.parent.parent).work


def config_of(context: Context) -> Path:
    """Return the path of the file that holds user and password, outside of what is kept as output."""
    return _work(context) / CONFIG


def _arguments(context: Context) -> "List[str]":
    (endpoint,) = context.endpoints["main"]
    return [
        *(f"--config-file={config_of(context)}", "--db-driver=mysql"),
        *(f"--mysql-host={endpoint.host}", f"--mysql-port={endpoint.port}", f"--mysql-db={database_of(context)}"),
    ]


def _write_config(context: Context, secret: str) -> None:
    """Write user and password where the tool reads them, mode 0600; as arguments everybody on the node could read them."""
    # Tried: these are what the tool's parser changes or takes for something else.
    if secret.startswith(("#", '"', "'")) or any(letter.isspace() or not letter.isprintable() for letter in secret):
        raise PrepareError(f"{NAME} cannot read the service's password: no blanks, and no # or quote at its beginning")
    path = config_of(context)
    write_atomic(make_private_folder(path.parent) / path.name, f"mysql-user={mysql_node.USER}\nmysql-password={secret}\n")


def _no_operations(parameters: "Dict[str, Any]") -> "Optional[str]":
    """Return why the server counts nothing that is comparable to transactions, or None when it does."""
    if parameters.get("script") is not None:
        return "what a transaction of a script is to the server is not known"
    if parameters["skip_trx"] and parameters["workload"] != "oltp_point_select":
        return "without BEGIN the server counts statements only"
    return None


def reduce(context: Context, outcome: ToolOutcome) -> Measurement:
    """Return the measurement that the tool's reports make."""
    measurement = measurement_of(context, outcome, NAME)
    _begin(measurement, context)
    output = parse(output_of(outcome.stdout))
    words = output.words or last_words(outcome, context)
    how = f"{how_it_ended(outcome)}{': ' if words else ''}{words}"
    ended = outcome.exit_code == 0 and how_it_was_stopped(outcome) is None and bool(output.total)
    took_s = output.total.get("time_interval", output.seconds[-1].get("time_total", 0.0) if output.seconds else 0.0)
    window_s, in_time = _in_time(output, took_s, measurement.window_asked_s)
    if not output.events or window_s <= 0:
        return failed(measurement, f"{how}; it counted {output.events} transactions in {window_s:g} s")
    if not sum(_statements(output).values()):
        whose = "the script" if context.parameters.get("script") else "it"
        return failed(measurement, f"{how}; {whose} sent no query")
    measurement.window_s = window_s
    measurement.end_wall_ns = measurement.start_wall_ns + round(window_s * _NS_PER_S)
    measurement.phases_s.update(warmup=float(context.load["warmup_s"]), measure=window_s, drain=max(0.0, took_s - window_s))
    measurement.counts.ok = output.events
    measurement.achieved_per_s = in_time / window_s
    _skipped(measurement, output)
    _latency(measurement, context, output)
    _metrics(measurement, output)
    _retries(measurement, output)
    _outside(measurement, context, output)
    if context.ranks == 1:
        measurement.slices = _slices(output, measurement.window_asked_s)
    else:
        measurement.absent["slices"] = f"{NAME} has no distributions a second, so the seconds of replicas cannot be merged"
    if not ended:
        measurement.status, measurement.reason = "cut", how
    return measurement


def _begin(measurement: Measurement, context: Context) -> None:
    load = context.load
    measurement.unit = OPERATION
    measurement.process = str(load["process"])
    threads = context.share(int(load["concurrency" if load["process"] == "closed" else "connections"] or 1))
    # More threads than cores cannot use more than all cores.
    measurement.health.workers = max(1, min(threads, len(os.sched_getaffinity(0))))
    absent = measurement.absent
    absent["health.observation_age_p99_us"] = f"{NAME} does not ask the kernel when an answer came"
    why = _no_operations(context.parameters)
    if why is not None:
        absent["server_operations"] = why
    if load["process"] != "closed":
        measurement.offered_per_s = float(load["rate_per_s"]) / context.ranks
        del absent["latency.schedule"]
        absent["latency.send"] = f"with --rate {NAME} counts from the schedule, the time in its queue included"
        absent["health.lateness_p99_us"] = f"{NAME} does not tell how late its own threads are"


def _skipped(measurement: Measurement, output: Output) -> None:
    """Count what waited in the queue when the time was over: it was due in the window, and was never sent."""
    rate_per_s = measurement.offered_per_s
    if rate_per_s is None:
        return
    last = output.seconds[-1] if output.seconds else {}
    waiting = whole(last, "queue_length")
    left_s = min(measurement.window_asked_s, measurement.window_s) - last.get("time_total", 0.0)
    if left_s > _MISSING_S:
        due = rate_per_s * left_s
        sent = output.events - sum(whole(second, "events") for second in output.seconds)
        more = waiting + round(due) - sent
        # How many arrive is a matter of chance; where none waited before, what chance explains is no queue.
        waiting = max(0, more) if waiting or more > _BY_CHANCE * math.sqrt(due) else 0
        measurement.absent["counts.backlog"] = (
            f"the report of the last {left_s:.1f} s is missing, as the run may end before it is printed; about {waiting} "
            f"transactions waited at the end: that is reckoned from the rate, and stands in `skipped`"
        )
    measurement.counts.skipped = waiting


def _classes(output: Output) -> "Dict[str, int]":
    """Return errors by class; what was counted and not told apart is `other`."""
    found: "Dict[str, int]" = {}
    for number, count in output.errors.items():
        name = _ERRORS.get(number, f"error_{number}")
        found[name] = found.get(name, 0) + count
    left = output.failures - sum(found.values())
    if left > 0:
        found["other"] = left
    return found


def _latency(measurement: Measurement, context: Context, output: Output) -> None:
    histogram = output.histogram()
    if histogram.count != output.events:
        measurement.histogram_quality = "none"
        measurement.absent["latency"] = f"its histogram holds {histogram.count} of {output.events} transactions"
        return
    measurement.histogram_quality = "bucketed"
    found = both(OPERATION, histogram.to_json())
    if context.load["process"] != "closed":
        found = {name: {"send": None, "schedule": clocks["send"]} for name, clocks in found.items()}
    measurement.latency = found


def _in_time(output: Output, took_s: float, asked_s: float) -> "Tuple[float, int]":
    """Return how long the window was, and how many transactions ended in it.

    The tool waits for what is on its way, and a server that hangs makes that wait as long as it likes.
    """
    if took_s <= asked_s + _MISSING_S:
        return took_s, output.events
    inside = (second for second in output.seconds if second.get("time_total", 0.0) <= asked_s + _MISSING_S)
    return asked_s, sum(whole(second, "events") for second in inside)


def _statements(output: Output) -> "Dict[str, int]":
    parts = [output.total] if output.total else output.seconds
    return {name: sum(whole(part, name) for part in parts) for name in ("reads", "writes", "other")}


def _metrics(measurement: Measurement, output: Output) -> None:
    parts = [output.total] if output.total else output.seconds
    statements = _statements(output)
    measurement.metrics["queries_per_s"] = {
        "value": sum(statements.values()) / output.events * (measurement.achieved_per_s or 0.0),
        "unit": "query/s",
        "merge": "sum",
    }
    for name, count in statements.items():
        measurement.metrics["other_queries" if name == "other" else name] = {"value": count, "unit": "query", "merge": "sum"}
    measurement.metrics["reconnects"] = {
        "value": sum(whole(part, "reconnects") for part in parts),
        "unit": "connection",
        "merge": "sum",
    }
    queues = [whole(second, "queue_length") for second in output.seconds if "queue_length" in second]
    if measurement.process != "closed" and queues:
        measurement.metrics["queue_length_max"] = {"value": max(queues), "unit": OPERATION, "merge": "max"}


def _retries(measurement: Measurement, output: Output) -> None:
    """Add the attempts that failed. Each belongs to a transaction that was begun anew and is in `counts` once, as it ended."""
    found = {"retries": output.failures, **{f"retries_{name}": count for name, count in _classes(output).items()}}
    for name, count in found.items():
        measurement.metrics[name] = {"value": count, "unit": OPERATION, "merge": "sum"}


def _outside(measurement: Measurement, context: Context, output: Output) -> None:
    """Add what the server has counted too: the run before the window, and attempts that failed."""
    before = parse(output_of(context.folder / "command-1.out")) if context.load["warmup_s"] else Output()
    attempts = before.events + before.failures + output.failures
    if attempts:
        measurement.phase_counts["warmup"] = {"ok": attempts, "error": 0, "timeout": 0, "skipped": 0}


def _slices(output: Output, asked_s: float) -> "List[Dict[str, Any]]":
    """Return the seconds of the window: counts, no distributions."""
    counts = [whole(second, "events") for second in output.seconds[: int(asked_s)]]
    if output.total and len(counts) == int(asked_s) - 1:
        # Its end and its last report are due at the same moment, and the end may be quicker.
        counts.append(output.events - sum(counts))
    return [{"second": number, "ok": ok, "error": 0, "latency": {}} for number, ok in enumerate(counts)]
