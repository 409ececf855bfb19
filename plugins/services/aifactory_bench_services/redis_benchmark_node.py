"""redis-benchmark on the node: keys under its own names before the window, one measurement out of its reports after it."""

from collections.abc import Sequence
from typing import Any

from aifactory_bench.node.contract import Context, PrepareError, ToolOutcome
from aifactory_bench.node.endpoint import Endpoint
from aifactory_bench.node.load.histogram import merged
from aifactory_bench.node.measurement import Measurement

from .redis_benchmark_text_node import LONGEST_US, Report, parse
from .redis_node import counters
from .redis_node import prepare as write_keys
from .redis_resp_node import Client, ErrorReply, RespError
from .tool_result_node import both, failed, how_it_ended, how_it_was_stopped, last_words, measurement_of, output_of

__all__ = ["counters", "prepare", "reduce"]

NAME = "redis-benchmark"
STRINGS = ("get", "set", "mset")
"""Tests on `key:000000000042`, the names of redis-load."""
GROWING = {"lpush": "mylist", "rpush": "mylist", "sadd": "myset", "hset": "myhash", "zadd": "myzset"}
"""Test -> the one key that it adds to."""
ENDED_BY_TIME = 124
"""Exit code of `timeout`, which ends the endless loop of reports as planned."""
NOT_FOUND = 127
"""Exit code of `timeout` when there is no such program."""
_STOPS_AT_ERRORS = 7
"""From this version on a reply that is an error ends the tool; before, it was counted like any other."""
_TIMEOUT_S = 30.0
_AT_ONCE = 1000
_NS_PER_S = 1_000_000_000


def prepare(context: Context) -> dict[str, Any]:
    """Write all keys that the test will ask for; a test that lets one key grow begins without that key.

    The counters of `incr` are removed where fresh data is asked for.

    Raises:
        PrepareError: the server cannot be reached, or refuses.
    """
    test = context.parameters["test"]
    if test in STRINGS:
        return dict(write_keys(context))
    names: list[str] = []
    if test in GROWING:
        names = [GROWING[test]]
    elif test == "incr" and context.reset == "data":
        names = [f"counter:{number:012d}" for number in range(context.parameters["keys"])]
    secret = context.secrets.get("main", "")
    return {"keys": 0, "keys_removed": sum(_removed(endpoint, secret, names) for endpoint in context.endpoints["main"])}


def _removed(endpoint: Endpoint, secret: str, names: Sequence[str]) -> int:
    """Remove keys; return how many there were."""
    try:
        with Client(endpoint.host, endpoint.port, secret, _TIMEOUT_S) as client:
            return sum(int(client.ask("UNLINK", *names[at : at + _AT_ONCE])) for at in range(0, len(names), _AT_ONCE))
    except (OSError, ErrorReply, RespError) as error:
        raise PrepareError(f"{endpoint.url}: the keys of the test cannot be removed: {error}") from None


def reduce(context: Context, outcome: ToolOutcome) -> Measurement:
    """Return the measurement that the reports after the warm-up add up to."""
    measurement = measurement_of(context, outcome, NAME)
    measurement.absent.update(
        {
            "slices": f"{NAME} prints the rate between its reports, no counts",
            "counts.error": f"{NAME} ends at the first error",
            "metrics.hits": f"{NAME} does not look at what it reads",
            "server_operations": "the server also counted the warm-up and the report that was not finished",
            "seed": f"{NAME} takes none",
        }
    )
    if _major_version(measurement) < _STOPS_AT_ERRORS:
        measurement.absent["counts.error"] = "this version counts an error like any other reply"
        measurement.unchecked.append("error_share")
    if outcome.exit_code == NOT_FOUND:
        advice = "install it there (Debian: redis-tools), load a module that brings it, or use an image that has it"
        return failed(measurement, f"the program {NAME!r} was not found on PATH; {advice}")
    reports = parse(output_of(outcome.stdout))
    warm_s, within = _window(reports, float(context.load["warmup_s"]), measurement.window_asked_s)
    planned = outcome.exit_code == ENDED_BY_TIME and how_it_was_stopped(outcome) is None
    if planned:
        measurement.tool.update(exit_code=None, ended_by="its time limit")
    words = last_words(outcome, context)
    how = f"{'no report was finished in its time' if planned else how_it_ended(outcome)}{': ' if words else ''}{words}"
    if not within:
        advice = "; `requests` is the length of a report: make it smaller" if planned and not words else ""
        return failed(measurement, how + advice)
    _take(measurement, within, warm_s, str(context.parameters["test"]))
    if not planned:
        measurement.status, measurement.reason = "cut", how
    elif words and measurement.window_s < measurement.window_asked_s:
        measurement.status, measurement.reason = "cut", words
    return measurement


def _major_version(measurement: Measurement) -> int:
    """Return the first number of the tool's version; 0 when it says none."""
    major = str(measurement.tool.get("version")).split(".")[0]
    return int(major) if major.isdecimal() else 0


def _window(reports: list[Report], warmup_s: float, window_s: float) -> tuple[float, list[Report]]:
    """Return the length of the warm-up, and the reports from there on that together are as long as the window."""
    warm_s, measured_s = 0.0, 0.0
    within: list[Report] = []
    for report in reports:
        if warm_s < warmup_s:
            warm_s += report.seconds
        elif measured_s < window_s:
            measured_s += report.seconds
            within.append(report)
    return warm_s, within


def _take(measurement: Measurement, within: list[Report], warm_s: float, test: str) -> None:
    """Write down what the reports of the window say together."""
    histogram = merged(report.histogram() for report in within)
    requests = sum(report.requests for report in within)
    measurement.window_s = sum(report.seconds for report in within)
    measurement.start_wall_ns += round(warm_s * _NS_PER_S)
    measurement.end_wall_ns = measurement.start_wall_ns + round(measurement.window_s * _NS_PER_S)
    measurement.counts.ok = requests
    measurement.achieved_per_s = requests / measurement.window_s
    measurement.latency = both(test, histogram.to_json())
    measurement.histogram_quality = "text"
    measurement.phases_s.update(warmup=warm_s, measure=measurement.window_s)
    measurement.metrics["reports"] = {"value": len(within), "unit": "reports"}
    if (histogram.max_ns or 0) >= LONGEST_US * 1000:
        measurement.absent["latency.max_us"] = "redis-benchmark counts everything above 3 s as 3 s"
