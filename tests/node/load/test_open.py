"""Open loop: the schedule is kept whatever the server does, and what could not be sent is not forgotten."""

import time
from collections.abc import Callable
from itertools import takewhile
from typing import Any

import pytest

from aifactory_bench.node.contract import Context
from aifactory_bench.node.load import Histogram, arrivals, run_load
from aifactory_bench.node.measurement import Measurement

Make = Callable[..., Context]


def never() -> None:
    return None


def percentile_us(measurement: Measurement, clock: str, percent: float) -> float:
    value = Histogram.from_json(measurement.latency["all"][clock]).percentile_us(percent)
    assert value is not None
    return value


def total(measurement: Measurement) -> int:
    counts = measurement.counts
    return counts.ok + counts.error + counts.timeout + counts.skipped


def gauge(data: Any) -> Histogram:
    return Histogram.from_json(data)


@pytest.mark.parametrize("process", ["constant", "poisson"])
@pytest.mark.parametrize("workers", [1, 2])
def test_exactly_what_the_schedule_says_is_sent(
    server: Any, line_driver: Any, context_of: Make, soon: Callable[[], int], process: str, workers: int
) -> None:
    """To the request, over all workers; both clocks have every request."""
    context = context_of(process=process, rate_per_s=300.0, connections=10, workers=workers, duration_s=1.0)
    result = run_load(context, line_driver(server.port), soon(), never)
    due = [
        time_ns
        for part in range(workers)
        for time_ns in takewhile(
            lambda time_ns: time_ns < 1.1e9, arrivals({"process": process, "rate_per_s": 300.0}, 7, part, workers)
        )
    ]
    expected = sum(time_ns >= 0.1e9 for time_ns in due)
    assert total(result) == result.counts.ok == expected
    assert result.phase_counts["warmup"]["ok"] == len(due) - expected
    assert server.seen == len(due)
    assert result.offered_per_s == 300
    # One that was due just before the end may go out just after it, when the machine is busy.
    assert expected - 3 <= result.achieved_per_s <= expected
    assert result.health.workers == workers
    for clock in ("send", "schedule"):
        assert Histogram.from_json(result.latency["all"][clock]).count == expected
    assert percentile_us(result, "schedule", 50) >= percentile_us(result, "send", 50)
    assert gauge(result.health.lateness).count == gauge(result.health.gate).count == expected


def test_ranks_share_the_rate(server: Any, line_driver: Any, context_of: Make, soon: Callable[[], int]) -> None:
    """And a constant schedule of two ranks is one even schedule."""
    counts = []
    for rank in range(2):
        context = context_of(rank, 2, process="constant", rate_per_s=101.0, connections=5, duration_s=1.0, warmup_s=0.0)
        result = run_load(context, line_driver(server.port), soon(), never)
        assert result.offered_per_s == 50.5
        counts.append(total(result))
    assert sorted(counts) == [50, 51]


def test_a_stall_is_seen_by_the_schedule_and_the_rate_is_reached(
    server: Any, line_driver: Any, context_of: Make, soon: Callable[[], int]
) -> None:
    """The server stands still for 0.5 s of 2 s: a quarter of the requests waits, evenly up to 0.5 s."""
    begin = soon()
    still_from = begin / 1e9 + 0.1 + 0.5

    def reply(line: bytes) -> bytes:
        into = time.monotonic() - still_from
        if 0 <= into < 0.5:
            time.sleep(0.5 - into)
        return line + b"\n"

    server.reply = reply
    context = context_of(process="constant", rate_per_s=200.0, connections=4, duration_s=2.0, timeout_s=5.0)
    result = run_load(context, line_driver(server.port), begin, never)
    assert result.counts.ok == total(result) == 400
    assert result.achieved_per_s == 200
    assert percentile_us(result, "schedule", 99) >= 450_000
    assert percentile_us(result, "send", 95) < 250_000
    gate = gauge(result.health.gate)
    assert gate.percentile_us(95) > 300_000  # type: ignore[operator]
    assert gauge(result.health.lateness).percentile_us(50) < 50_000  # type: ignore[operator]


def test_too_much_for_the_server_is_not_achieved(
    server: Any, line_driver: Any, context_of: Make, soon: Callable[[], int]
) -> None:
    """It does 100/s and is asked 300/s: a backlog answered after the window counts for latency, not for the rate."""

    def slow(line: bytes) -> bytes:
        time.sleep(0.01)
        return line + b"\n"

    server.reply = slow
    context = context_of(process="constant", rate_per_s=300.0, connections=1, duration_s=1.0, timeout_s=10.0, warmup_s=0.0)
    result = run_load(context, line_driver(server.port), soon(), never)
    assert total(result) == 300
    assert result.counts.ok == 300
    assert result.achieved_per_s is not None
    assert 20 < result.achieved_per_s <= 101
    assert percentile_us(result, "schedule", 99) > 1_500_000
    assert result.phase_counts["drain"]["ok"] >= 199
    assert result.phases_s["drain"] > 1.5


def test_what_is_never_sent_is_skipped(server: Any, line_driver: Any, context_of: Make, soon: Callable[[], int]) -> None:
    """And what is never answered is a timeout; nothing is lost."""
    server.reply = lambda _line: None
    context = context_of(process="constant", rate_per_s=200.0, connections=3, timeout_s=0.2, warmup_s=0.0)
    result = run_load(context, line_driver(server.port), soon(), never)
    assert total(result) == 60
    assert result.counts.ok == 0
    assert result.counts.timeout >= 6
    assert result.counts.skipped > 30


def test_a_dead_server_fails_or_skips_what_was_due(
    server: Any, line_driver: Any, context_of: Make, soon: Callable[[], int]
) -> None:
    """Every request of the schedule has an end."""
    asked = iter(range(100))

    def stop() -> None:
        if next(asked) == 2:
            server.hang_up()

    context = context_of(process="constant", rate_per_s=100.0, connections=3, timeout_s=0.3, duration_s=1.2)
    result = run_load(context, line_driver(server.port), soon(), stop)
    assert total(result) == 120
    assert result.counts.ok > 0
    assert result.errors["connect"] > 0
    assert result.counts.error == sum(result.errors.values())
    assert result.counts.skipped > 0


def test_a_pipeline_lets_several_requests_share_a_connection(
    server: Any, line_driver: Any, context_of: Make, soon: Callable[[], int]
) -> None:
    """So one connection to a server that takes 50 ms holds more than 20/s."""
    begin = soon()
    answered = []

    def reply(line: bytes) -> bytes:
        answered.append(time.monotonic())
        return line + b"\n"

    server.reply = reply
    context = context_of(process="constant", rate_per_s=400.0, connections=1, warmup_s=0.0)
    result = run_load(context, line_driver(server.port, pipeline=50), begin, never)
    assert result.counts.ok == total(result) == 120
    assert server.connected == 1


def test_a_rate_far_beyond_is_counted_without_being_drawn(
    server: Any, line_driver: Any, context_of: Make, soon: Callable[[], int]
) -> None:
    """Skipped requests of an absurd rate do not take minutes to count."""
    context = context_of(process="constant", rate_per_s=2e7, connections=1, warmup_s=0.0, duration_s=0.3, timeout_s=0.2)
    result = run_load(context, line_driver(server.port), soon(), never)
    assert total(result) == pytest.approx(6e6, rel=0.001)
    assert result.achieved_per_s is not None
    assert result.achieved_per_s < 2e6
