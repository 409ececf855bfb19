"""memtier_benchmark on the node: keys under its own names before the window, one measurement out of its JSON after it."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any, Optional

from aifactory_bench.node.contract import Context, ToolOutcome
from aifactory_bench.node.files import write_atomic
from aifactory_bench.node.load.histogram import Histogram, merged
from aifactory_bench.node.measurement import Measurement

from .hdr_histogram_node import decode, to_histogram
from .memtier_keys_node import write_keys
from .redis_node import counters
from .tool_result_node import failed, how_it_ended, how_it_was_stopped, last_words, measurement_of, output_of, whole

__all__ = ["counters", "prepare", "reduce"]

NAME = "memtier_benchmark"
OUTPUT = "memtier.json"
OPERATIONS = {"Gets": "get", "Sets": "set"}
_US = 1000
_NS_PER_MS = 1_000_000
_LARGEST = 1e15
"""No number that memtier means is larger."""
_PROGRESS = ("[RUN #", "Json file", "Saving JSON", "Writing results", "Restarting thread", "Thread ")
"""How lines of standard error begin that say nothing of a failure."""
_ERROR_REPLY = re.compile(r"handle error response: -?([A-Za-z]{1,40})")
_SENT = re.compile(r"\]\s+0 threads[^:\n\r]*:\s+(\d{1,18}) ops\b")
"""In the last line of progress, when all threads have ended: every request of the run."""
_QUANTILES = {"p50.00": "p50_us", "p90.00": "p90_us", "p99.00": "p99_us", "p99.90": "p999_us"}


def prepare(context: Context) -> dict[str, Any]:
    """Write all keys that the window may read or write."""
    return write_keys(context)


def reduce(context: Context, outcome: ToolOutcome) -> Measurement:
    """Return the measurement that the JSON holds."""
    measurement = measurement_of(context, outcome, NAME)
    measurement.health.workers = max(1, whole(context.load.get("workers")))
    words = last_words(outcome, context, ignore=_PROGRESS)
    how = f"{how_it_ended(outcome)}{': ' if words else ''}{words}"
    stats = _stats(context.folder / OUTPUT)
    totals = stats.get("Totals")
    if not isinstance(totals, dict):
        return failed(measurement, f"{how}; it left no totals in {OUTPUT}")
    sent = whole(totals.get("Count"))
    runtime = _mapping(stats.get("Runtime"))
    window_ms = whole(runtime.get("Total duration"))
    if not sent or not window_ms:
        return failed(measurement, f"{how}; it counted {sent} requests in {window_ms} ms")
    _window(measurement, outcome, runtime, window_ms)
    _counts(measurement, totals, sent, output_of(outcome.stderr))
    if not measurement.counts.ok:
        return failed(measurement, f"every one of {sent} replies was an error: {words}")
    _latencies(measurement, stats)
    _hits(measurement, stats)
    _all_sent(measurement, context, outcome, sent)
    measurement.absent["seed"] = "every connection has its own, taken from the time of day"
    if context.ranks == 1:
        measurement.slices = _slices(totals, window_ms)
    else:
        measurement.absent["slices"] = "memtier has no distributions a second, so the seconds of replicas cannot be merged"
    if outcome.exit_code or how_it_was_stopped(outcome) or runtime.get("Interrupted") == "true":
        measurement.status, measurement.reason = "cut", how
    return measurement


def _stats(path: Path) -> dict[str, Any]:
    """Return what is under `ALL STATS`, and take the password out of the file; empty when there is no document."""
    try:
        document = json.loads(output_of(path))
    except (ValueError, RecursionError):
        # Half a document: what is in it was not asked for by anybody, the password is.
        if path.is_file():
            text = re.sub(r'("authenticate": ").*(")', r"\1***\2", output_of(path))
            write_atomic(path, text)
        return {}
    if not isinstance(document, dict):
        return {}
    configuration = document.get("configuration")
    if isinstance(configuration, dict) and configuration.get("authenticate"):
        configuration["authenticate"] = "***"
        write_atomic(path, json.dumps(document, indent=1) + "\n")
    return _mapping(document.get("ALL STATS"))


def _window(measurement: Measurement, outcome: ToolOutcome, runtime: dict[str, Any], window_ms: int) -> None:
    measurement.window_s = window_ms / 1000
    began_ms = whole(runtime.get("Start time"))
    if began_ms:
        measurement.start_wall_ns = began_ms * _NS_PER_MS
    measurement.end_wall_ns = measurement.start_wall_ns + window_ms * _NS_PER_MS
    measurement.phases_s["measure"] = measurement.window_s
    measurement.phases_s["start"] = max(0.0, outcome.duration_s - measurement.window_s)


def _counts(measurement: Measurement, totals: dict[str, Any], sent: int, stderr: str) -> None:
    """Take replies that are errors, which memtier counts like any other, out of the good ones."""
    errors = Counter(match[1].upper() for match in _ERROR_REPLY.finditer(stderr))
    broken = whole(totals.get("Connection Errors"))
    replies = min(sent, max(sum(errors.values()), whole(totals.get("Errors"))))
    measurement.counts.ok = sent - replies
    measurement.counts.error = replies + broken
    measurement.errors = dict(errors)
    if broken:
        measurement.errors["connection"] = broken
    measurement.achieved_per_s = measurement.counts.ok / measurement.window_s
    if replies:
        measurement.absent["latency.without_errors"] = "memtier counts the latency of an error like that of any other reply"


def _all_sent(measurement: Measurement, context: Context, outcome: ToolOutcome, counted: int) -> None:
    """Add what the server counted and the window does not: the run before it, and what was in flight when its time was up.

    The JSON leaves out what a pipeline brings after the end, the last line of progress does not. Tried with 2.3.1: to the
    request what the server counts.
    """
    warmup_s = float(context.load["warmup_s"])
    runs = [context.folder / "command-1.err"] if warmup_s else []
    sent = [_SENT.findall(output_of(path)) for path in (*runs, outcome.stderr)]
    if warmup_s:
        measurement.phases_s["warmup"] = warmup_s
    if not all(sent):
        measurement.absent["server_operations"] = "memtier did not tell how many requests it sent in all"
        return
    others = max(0, sum(int(numbers[-1]) for numbers in sent) - counted)
    measurement.phase_counts["warmup"] = {"ok": others, "error": 0, "timeout": 0, "skipped": 0}


def _latencies(measurement: Measurement, stats: dict[str, Any]) -> None:
    """Add the distributions; where a version of memtier gives none, its quantiles."""
    named = {OPERATIONS[name]: stats[name] for name in OPERATIONS if isinstance(stats.get(name), dict)}
    named = {operation: entry for operation, entry in named.items() if whole(entry.get("Count"))}
    histograms = {operation: _histogram(entry) for operation, entry in named.items()}
    found = {operation: histogram for operation, histogram in histograms.items() if histogram is not None and histogram.count}
    if found and len(found) == len(named):
        found["all"] = merged(found.values())
        measurement.latency = {name: {"send": histogram.to_json(), "schedule": None} for name, histogram in found.items()}
        return
    measurement.histogram_quality = "none"
    for operation, entry in {**named, "all": stats["Totals"]}.items():
        quantiles = _quantiles(entry)
        if quantiles:
            measurement.quantiles[operation] = quantiles
    measurement.absent["latency"] = "this version of memtier puts no distribution into its JSON, or one that is damaged"


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _histogram(entry: dict[str, Any]) -> Optional[Histogram]:
    text = _mapping(_mapping(entry.get("Percentile Latencies")).get("Histogram log format")).get("Compressed Histogram")
    if not isinstance(text, str):
        return None
    try:
        return to_histogram(decode(text), _US)
    except ValueError:
        return None


def _quantiles(entry: dict[str, Any]) -> dict[str, Any]:
    percentiles = _mapping(entry.get("Percentile Latencies"))
    quantiles_ms = {ours: _number(percentiles.get(theirs)) for theirs, ours in _QUANTILES.items()}
    quantiles_ms["max_us"] = _number(entry.get("Max Latency"))
    known: dict[str, Any] = {name: value * 1000 for name, value in quantiles_ms.items() if value is not None}
    return {**known, "count": whole(entry.get("Count"))} if known else {}


def _number(value: Any) -> Optional[float]:
    """Return a number from 0 on; None for anything else."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < _LARGEST:
        return float(value)
    return None


def _hits(measurement: Measurement, stats: dict[str, Any]) -> None:
    gets = _mapping(stats.get("Gets"))
    for theirs, ours in (("Hits/sec", "hits"), ("Misses/sec", "misses")):
        per_s = _number(gets.get(theirs))
        if per_s is not None:
            measurement.metrics[ours] = {"value": round(per_s * measurement.window_s), "unit": "requests"}


def _slices(totals: dict[str, Any], window_ms: int) -> list[dict[str, Any]]:
    """Return the whole seconds of the window; memtier has a count for each, and no distribution."""
    series = totals.get("Time-Serie")
    if not isinstance(series, dict):
        return []
    slices = []
    for second in range(window_ms // 1000):
        entry = series.get(str(second))
        if isinstance(entry, dict):
            slices.append({"second": second, "ok": whole(entry.get("Count")), "error": 0, "latency": {}})
    return slices
