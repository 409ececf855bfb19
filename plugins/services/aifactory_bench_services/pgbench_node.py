"""pgbench on the node: tables by the tool itself before the window, one measurement out of its log after it."""

import sys
import time
from collections import defaultdict
from typing import Any, Dict, List, NamedTuple, Tuple

from aifactory_bench.node.contract import Context, PrepareError, ToolOutcome
from aifactory_bench.node.endpoint import Endpoint
from aifactory_bench.node.exit_record import masked
from aifactory_bench.node.load.histogram import Histogram
from aifactory_bench.node.measurement import Measurement

from .pgbench_log_node import SKIPPED, Log, Thread, aborted, read_log, read_summary
from .postgresql_node import LOAD, counters, database_of, ensure_database, locate, probe, settle
from .postgresql_wire_node import Client, ServerError, WireError
from .tool_prepare_node import run_before
from .tool_result_node import failed, how_it_ended, how_it_was_stopped, last_words, measurement_of, output_of

__all__ = ["counters", "locate", "prepare", "probe", "reduce"]

NAME = "pgbench"
LOG = "transactions"
_ACCOUNTS = 100_000
"""Of a scale of 1."""
_LEAST_SCALE = 10
_LEAST_SAMPLE = 1000
"""With fewer transactions of the window no p99 and no second of it means anything."""
_FIRST_WORDS = 300
_SAYS_NOTHING = ("pgbench: setting random seed",)
_US_PER_S = 1_000_000
_NS_PER_US = 1000
_TIMEOUT_S = 60.0
_TAIL_S = 0.5
"""Of the tool's time, after the window."""
_SIZE = "SELECT (SELECT count(*) FROM pgbench_branches) AS n, (SELECT max(aid) FROM pgbench_accounts) AS a"
_MAIN_QUERIES = 2
"""With a built-in script, pgbench asks for the tables' size before the run, on a connection of its own."""


def prepare(context: Context) -> "Dict[str, Any]":
    """Fill the tables with `pgbench -i` where they are not there in this size, or are to be fresh.

    Rank 0 does it for all. Ends with a checkpoint where we may ask for one.

    Raises:
        PrepareError: the server cannot be reached or refuses, the tool is not there, or there are several servers.
    """
    endpoints = context.endpoints["main"]
    if len(endpoints) > 1:
        raise PrepareError(f"{NAME} asks one server, and the service has {len(endpoints)} replicas")
    for stale in context.folder.glob(f"{LOG}.*"):  # of an execution before a restart
        stale.unlink()
    if context.rank:
        return {"tables": "filled by replica 0 of the client"}
    endpoint, secret = endpoints[0], context.secrets.get("main", "")
    scale, database = scale_of(context), database_of(context.client)
    extensions = context.service_parameters.get("main", {}).get("extensions") or ()
    began = time.monotonic()
    try:
        made = ensure_database(endpoint, secret, extensions, database)
        found = _scale_found(endpoint, secret, database)
        fresh = context.reset == "data" or found != scale
        steps = ["-i", "-q", "-s", str(scale)] if fresh else ["-i", "-q", "-I", "v"]
        run = run_before(context, NAME, [*steps, f"{endpoint.url}/{database}"], sys.modules[__name__])
        if fresh and _scale_found(endpoint, secret, database) != scale:
            raise PrepareError(f"{endpoint.url}: the tables do not have scale {scale} after {NAME} -i has filled them")
        checkpoint = settle(endpoint, secret)
    except (OSError, ServerError, WireError) as error:
        raise PrepareError(f"{endpoint.url}: the tables cannot be filled: {error}") from None
    return {
        **({"extensions": made} if made else {}),
        "database": database,
        "scale": scale,
        "accounts": scale * _ACCOUNTS,
        "filled": fresh,
        "command": " ".join(["pgbench", *steps]),
        "tool_s": round(run.outcome.duration_s, 3),
        "prepare_s": round(time.monotonic() - began, 3),
        "checkpoint": checkpoint,
    }


def scale_of(context: Context) -> int:
    """Return the scale asked for: as many as there are connections, at least 10, where none is."""
    load = context.load
    connections = load.get("concurrency") if load["process"] == "closed" else load.get("connections")
    return int(context.parameters.get("scale") or max(_LEAST_SCALE, int(connections or 1)))


def _scale_found(endpoint: Endpoint, secret: str, database: str) -> int:
    """Return the scale of the tables that are there; 0: none, or not whole."""
    with Client(endpoint.host, endpoint.port, LOAD, database, secret, _TIMEOUT_S) as client:
        if not client.ask("SELECT 1 WHERE to_regclass('pgbench_accounts') IS NOT NULL"):
            return 0
        rows = client.ask(_SIZE)
    scale, accounts = int(rows[0]["n"] or 0), int(rows[0]["a"] or 0)
    return scale if accounts == scale * _ACCOUNTS else 0


class _Window(NamedTuple):
    """Microseconds since 1970."""

    start_us: int
    end_us: int

    def has(self, time_us: int) -> bool:
        return self.start_us <= time_us < self.end_us


def reduce(context: Context, outcome: ToolOutcome) -> Measurement:
    """Return the measurement that the log holds."""
    is_open = context.load["process"] != "closed"
    measurement = _bare(context, outcome, is_open)
    words = _words(outcome, context)
    how = f"{how_it_ended(outcome)}{': ' if words else ''}{words}"
    log, summary = read_log(context.folder, LOG, is_open), read_summary(output_of(outcome.stdout))
    sampling = float(context.parameters.get("sampling") or 1.0)
    if not log.count() and sampling < 1 and summary.get("processed"):
        return failed(measurement, f"{how}; {_too_few(0, sampling)}")
    if not log.count():
        return failed(measurement, f"{how}; its log tells of no transaction that ended well")
    ended_well = outcome.exit_code == 0 and how_it_was_stopped(outcome) is None
    first_us, last_us = log.span_us()
    if sampling < 1:
        # The first one that was written down is not the first one: the load begins when all connections are there.
        first_us = outcome.start_wall_ns // _NS_PER_US + round(summary.get("connect_ms", 0.0) * _US_PER_S / 1000)
    window = _window_of(context, outcome, first_us, last_us if not ended_well else None)
    if window.end_us <= window.start_us:
        return failed(measurement, f"{how}; all that it tells of was sent in the warm-up")
    _times(measurement, window, first_us, last_us)
    if ended_well and (lost := _lost(log, summary, sampling)):
        return failed(measurement, f"{how}; {lost}")
    # The summary counts all: what is written down is scaled to it, where only a sample was.
    scale = summary.get("processed", log.count() / sampling) / log.count() if sampling < 1 else 1.0
    within = _Within(log, window, is_open)
    within.fill(measurement, _name(context), scale)
    if ended_well and sampling < 1:
        if len(within.latencies_ns()) < _LEAST_SAMPLE:
            return failed(measurement, f"{how}; {_too_few(len(within.latencies_ns()), sampling)}")
        # How many of a window are in a sample is chance; how many there were the tool knows, of its whole run.
        measurement.achieved_per_s = summary["rate_per_s"]
        measurement.counts.ok = round(min(summary["processed"], summary["rate_per_s"] * measurement.window_s))
        measurement.absent["counts.sampled"] = f"the rate is {NAME}'s own, of its whole run: a sample does not count the window"
    _others(measurement, log, window, sampling)
    if is_open:
        _schedule(measurement, context, log, window, sampling)
    if not measurement.counts.ok:
        return failed(measurement, f"{how}; none of its transactions of the window ended well")
    _totals(measurement, context, outcome, log, summary, scale)
    _figures(measurement, context, summary, within, scale, sampling)
    given_up = aborted(output_of(outcome.stderr))
    if given_up:
        measurement.errors["aborted"] = given_up
        measurement.counts.error += given_up
    if log.damaged:
        measurement.absent["log"] = f"{log.damaged} lines of the log made no sense and were left out"
    if not ended_well:
        measurement.status, measurement.reason = "cut", how
    return measurement


def _too_few(recorded: int, sampling: float) -> str:
    return f"a sample of {sampling:.6g} holds {recorded} transactions of the window, at least {_LEAST_SAMPLE} are needed"


def _lost(log: Log, summary: "Dict[str, float]", sampling: float) -> str:
    """Return what is missing of the output of a run that came to its end; empty: nothing."""
    if not {"processed", "rate_per_s"} <= set(summary):
        return "its output breaks off before its totals"
    if sampling >= 1 and log.count() < summary["processed"]:
        return f"its log tells of {log.count()} of {summary['processed']:.0f} transactions"
    return ""


def _words(outcome: ToolOutcome, context: Context) -> str:
    """Return what the tool said of a failure: the first error, which the others follow from, and the last lines."""
    last = last_words(outcome, context, ignore=_SAYS_NOTHING)
    errors = [line.strip() for line in output_of(outcome.stderr).splitlines() if "error:" in line or "ERROR:" in line]
    first = masked(errors[0], context.secrets.values())[:_FIRST_WORDS] if errors else ""
    return f"{first} ... {last}" if first and first not in last else last


def _bare(context: Context, outcome: ToolOutcome, is_open: bool) -> Measurement:
    measurement = measurement_of(context, outcome, NAME)
    measurement.unit = "transaction"
    measurement.process = str(context.load["process"])
    measurement.health.workers = max(1, int(context.load.get("workers") or 1))
    measurement.absent["health.observation_age_p99_us"] = f"{NAME} does not ask the kernel when an answer came"
    measurement.absent["health.loop_lag_p99_us"] = f"{NAME} does not watch itself"
    measurement.absent["health.stalled_share_max"] = f"{NAME} does not watch itself"
    if is_open:
        measurement.absent.pop("latency.schedule", None)
        measurement.offered_per_s = float(context.load["rate_per_s"]) / context.ranks
    return measurement


def _name(context: Context) -> str:
    return "script" if context.parameters.get("script") else str(context.parameters["workload"])


def _window_of(context: Context, outcome: ToolOutcome, first_us: int, last_us: "int | None") -> _Window:
    """Return the window: after the warm-up, and before the tool's own time is up or it ended early.

    The tool's time (`-T`) begins before it connects, so the load is whole until that long after its start at least.
    """
    began_us, duration_us = outcome.start_wall_ns // _NS_PER_US, round(float(context.load["duration_s"]) * _US_PER_S)
    whole_until_us = began_us + _seconds(outcome) * _US_PER_S
    start_us = first_us + round(float(context.load["warmup_s"]) * _US_PER_S)
    if context.ranks > 1 or float(context.parameters.get("sampling") or 1.0) < 1:
        # All ranks are started at one instant and for the same time, but each is ready when it is: counted from their first
        # transactions their windows would lie apart. At the end of the tool's time they are one, and the warm-up has passed.
        # Of a sample nobody knows the first transaction, and it is counted from there too.
        start_us = max(first_us, whole_until_us - round(_TAIL_S * _US_PER_S) - duration_us)
    end_us = start_us + duration_us
    return _Window(start_us, min(end_us, whole_until_us, end_us if last_us is None else last_us))


def _seconds(outcome: ToolOutcome) -> int:
    """Return what the tool was told with -T."""
    argv = list(outcome.argv)
    return int(argv[argv.index("-T") + 1])


def _times(measurement: Measurement, window: _Window, first_us: int, last_us: int) -> None:
    measurement.window_s = (window.end_us - window.start_us) / _US_PER_S
    measurement.start_wall_ns, measurement.end_wall_ns = window.start_us * _NS_PER_US, window.end_us * _NS_PER_US
    measurement.phases_s.update(
        warmup=(window.start_us - first_us) / _US_PER_S,
        measure=measurement.window_s,
        drain=max(0, last_us - window.end_us) / _US_PER_S,
    )


class _Within:
    """The latencies of the transactions that were due in the window, second by second."""

    def __init__(self, log: Log, window: _Window, is_open: bool) -> None:
        self._window = window
        self._is_open = is_open
        self._send: "Dict[int, List[int]]" = defaultdict(list)
        self._schedule: "Dict[int, List[int]]" = defaultdict(list)
        self.late_sent = 0
        """Sent when the window was over."""
        self.ended_later = 0
        start_us, stop_us = window
        for thread in log.threads:
            for due, sent, end in zip(thread.due_us, thread.sent_us, thread.end_us):
                if start_us <= due < stop_us:
                    second = (due - start_us) // _US_PER_S
                    self._send[second].append((end - sent) * _NS_PER_US)
                    if is_open:
                        self._schedule[second].append((end - due) * _NS_PER_US)
                    self.late_sent += sent >= stop_us
                    self.ended_later += end >= stop_us

    def latencies_ns(self) -> "List[int]":
        """Return all of them, by the clock that the tool's own latency has."""
        return [value for values in (self._schedule if self._is_open else self._send).values() for value in values]

    def fill(self, measurement: Measurement, name: str, scale: float) -> None:
        """Write down counts, latencies and seconds."""
        totals = Histogram(), Histogram()
        seconds = range(-(-(self._window.end_us - self._window.start_us) // _US_PER_S))
        for second in seconds:
            clocks = Histogram(), Histogram()
            clocks[0].record_many(self._send.get(second, []))
            clocks[1].record_many(self._schedule.get(second, []))
            for total, one in zip(totals, clocks):
                total.add(one)
            latency = self._latency(name, clocks) if clocks[0].count else {}
            ok = round(clocks[0].count * scale)
            measurement.slices.append({"second": second, "ok": ok, "error": 0, "latency": latency})
        measurement.latency = self._latency(name, totals)
        measurement.counts.ok = round(totals[0].count * scale)
        measurement.achieved_per_s = (totals[0].count - self.late_sent) * scale / measurement.window_s

    def _latency(self, name: str, clocks: "Tuple[Histogram, Histogram]") -> "Dict[str, Dict[str, Any]]":
        both: "Dict[str, Any]" = {"send": clocks[0].to_json(), "schedule": clocks[1].to_json() if self._is_open else None}
        return {name: both, "all": dict(both)}


def _others(measurement: Measurement, log: Log, window: _Window, sampling: float) -> None:
    """Count what was skipped or failed in the window; when a skipped one was due is not told, so when it was skipped counts."""
    for thread in log.threads:
        for time_us, word in thread.others:
            if not window.has(time_us):
                continue
            if word == SKIPPED:
                measurement.counts.skipped += 1
                continue
            measurement.counts.error += 1
            measurement.errors[word] = measurement.errors.get(word, 0) + 1
            measurement.slices[(time_us - window.start_us) // _US_PER_S]["error"] += 1
    if sampling < 1:
        measurement.counts.skipped = round(measurement.counts.skipped / sampling)
        measurement.counts.error = round(measurement.counts.error / sampling)
        measurement.errors = {name: round(count / sampling) for name, count in measurement.errors.items()}


def _schedule(measurement: Measurement, context: Context, log: Log, window: _Window, sampling: float) -> None:
    """Add how late transactions began, by whose doing, and how many never did."""
    lag, lateness, gate = Histogram(), Histogram(), Histogram()
    for thread in log.threads:
        lags, own, waited = _lags(thread, window)
        lag.record_many(lags)
        lateness.record_many(own)
        gate.record_many(waited)
    measurement.distributions["schedule_lag"] = {"unit": "us", "histogram": lag.to_json()}
    if sampling < 1:
        measurement.absent["health.lateness_p99_us"] = "a sample does not tell when a connection became free"
    else:
        measurement.health.lateness, measurement.health.gate = lateness.to_json(), gate.to_json()
    per_thread_s = float(context.load["rate_per_s"]) / context.ranks / max(1, len(log.threads))
    never = sum(_never_sent(thread, window, per_thread_s) for thread in log.threads)
    measurement.counts.skipped += never
    if never:
        measurement.metrics["backlog"] = {"value": never, "unit": "transaction", "merge": "sum"}
        measurement.absent["counts.backlog"] = (
            f"about {never} transactions were due in the window and had not begun when the run was over; "
            f"they are reckoned from the rate, as {NAME} does not tell of them, and stand in `skipped`"
        )


def _lags(thread: Thread, window: _Window) -> "Tuple[List[int], List[int], List[int]]":
    """Return, in ns: due to sent; of that without a reason; of that with the connection still taken by the one before."""
    free_us: "Dict[int, int]" = {}
    lags: "List[int]" = []
    own: "List[int]" = []
    waited: "List[int]" = []
    for client, due, sent, end in zip(thread.client, thread.due_us, thread.sent_us, thread.end_us):
        # A connection takes the next due one when it is free, so the one before is the only thing that it can wait for.
        free = free_us.get(client, due)
        free_us[client] = end
        if window.start_us <= due < window.end_us:
            gate = min(max(0, free - due), sent - due)
            lags.append((sent - due) * _NS_PER_US)
            waited.append(gate * _NS_PER_US)
            own.append((sent - due - gate) * _NS_PER_US)
    return lags, own, waited


def _never_sent(thread: Thread, window: _Window, rate_per_s: float) -> int:
    """Return how many were due in the window and had not begun when the tool's time was up; reckoned from the rate."""
    if not thread.due_us:
        return round(rate_per_s * (window.end_us - window.start_us) / _US_PER_S) if not thread.others else 0
    last = max(range(len(thread.due_us)), key=thread.due_us.__getitem__)
    last_due_us, lag_us = thread.due_us[last], thread.sent_us[last] - thread.due_us[last]
    gap_us = window.end_us - max(last_due_us, window.start_us)
    # Without a backlog the last one began when it was due, and nothing more was.
    return round(rate_per_s * gap_us / _US_PER_S) if gap_us > 0 and 2 * lag_us > gap_us else 0


def _totals(
    measurement: Measurement, context: Context, outcome: ToolOutcome, log: Log, summary: "Dict[str, float]", scale: float
) -> None:
    """Add what the server counted and the window does not: before it, after it, and what the tool asks on its own."""
    words = log.words()
    words.pop(SKIPPED, None)
    all_ok = int(summary.get("processed", round(log.count() * scale)))
    all_failed = int(summary.get("failed", sum(words.values())))
    connections = context.share(int(context.load.get("concurrency") or context.load.get("connections") or 1))
    asked_first = _MAIN_QUERIES if "-b" in outcome.argv else 0
    own = asked_first + (connections if context.parameters["protocol"] == "prepared" else 0) + int(summary.get("retries", 0))
    measurement.phase_counts = {
        "warmup": {
            "ok": max(0, all_ok - measurement.counts.ok) + own,
            "error": max(0, all_failed - measurement.counts.error),
            "timeout": 0,
            "skipped": 0,
        }
    }
    if context.parameters.get("script"):
        measurement.absent["server_operations"] = "a script of your own may have any number of transactions in it"


def _figures(
    measurement: Measurement,
    context: Context,
    summary: "Dict[str, float]",
    within: _Within,
    scale: float,
    sampling: float,
) -> None:
    """Add figures of the tool's own."""
    if "rate_per_s" in summary:
        measurement.metrics["tool_rate"] = {"value": summary["rate_per_s"], "unit": "transaction/s", "merge": "sum"}
    if "connect_ms" in summary:
        measurement.metrics["connect"] = {"value": summary["connect_ms"] / 1000, "unit": "s", "merge": "max"}
    if "retries" in summary:
        measurement.metrics["retries"] = {"value": summary["retries"], "unit": "transaction", "merge": "sum"}
    if sampling < 1:
        measurement.metrics["sampling"] = {"value": sampling, "unit": "share", "merge": "min"}
    limit_s = context.parameters.get("latency_limit_s")
    if limit_s is not None:
        over = sum(value > limit_s * 1e9 for value in within.latencies_ns())
        measurement.metrics["above_limit"] = {"value": round(over * scale), "unit": "transaction", "merge": "sum"}
    measurement.phase_counts["drain"] = {"ok": within.ended_later, "error": 0, "timeout": 0, "skipped": 0}
