"""Open loop on servers that are no equals: what is due for one is sent to that one, and waits for it alone."""

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aifactory_bench.node.contract import Context
from aifactory_bench.node.load import Histogram, run_load
from aifactory_bench.node.measurement import Measurement

Make = Callable[..., Context]


def never() -> None:
    return None


def total(measurement: Measurement) -> int:
    counts = measurement.counts
    return counts.ok + counts.error + counts.timeout + counts.skipped


def percentile_us(data: Any, percent: float) -> float:
    value = Histogram.from_json(data).percentile_us(percent)
    assert value is not None
    return value


@pytest.fixture
def second(server: Any) -> Iterator[Any]:
    """One more server."""
    one = type(server)()
    yield one
    one.close()


@pytest.fixture
def aimed(line_driver: Any) -> Any:
    """The class of a product whose servers are shards: of four requests three are for the first."""

    class Aimed(line_driver):  # type: ignore[misc]
        aimed = True

        def start(self, seed: int) -> None:
            self._aims = itertools.cycle((0, 0, 1, 0))

        def aim(self) -> int:
            return next(self._aims)

    return Aimed


@pytest.mark.parametrize(("workers", "pipeline"), [(1, 1), (2, 1), (1, 4)])
def test_each_server_gets_what_is_its_own(
    server: Any, second: Any, aimed: Any, context_of: Make, soon: Any, workers: int, pipeline: int
) -> None:
    """In every worker, and the schedule is kept to the request."""
    context = context_of(process="constant", rate_per_s=400.0, connections=8, workers=workers, duration_s=1.0, warmup_s=0.0)
    result = run_load(context, aimed(server.port, second.port, pipeline=pipeline), soon(), never)
    assert total(result) == result.counts.ok == 400
    assert (server.seen, second.seen) == (300, 100)
    assert Histogram.from_json(result.latency["all"]["schedule"]).count == 400
    assert Histogram.from_json(result.health.gate).count == Histogram.from_json(result.health.lateness).count == 400
    assert percentile_us(result.health.lateness, 50) < 50_000


def test_one_that_stands_still_is_seen_and_holds_up_nobody_else(
    server: Any, second: Any, aimed: Any, context_of: Make, soon: Any
) -> None:
    """It has a quarter of the requests and is still for a quarter of the window: a sixteenth waits, evenly up to 0.5 s."""
    begin = soon()
    still_from = begin / 1e9 + 0.5

    def reply(line: bytes) -> bytes:
        into = time.monotonic() - still_from
        if 0 <= into < 0.5:
            time.sleep(0.5 - into)
        return line + b"\n"

    second.reply = reply
    context = context_of(process="constant", rate_per_s=400.0, connections=8, duration_s=2.0, warmup_s=0.0, timeout_s=5.0)
    result = run_load(context, aimed(server.port, second.port), begin, never)
    assert result.counts.ok == total(result) == 800
    assert (server.seen, second.seen) == (600, 200)
    schedule = result.latency["all"]["schedule"]
    assert percentile_us(schedule, 99) > 350_000  # 84 % of half a second
    assert percentile_us(result.health.gate, 99) > 300_000
    assert percentile_us(schedule, 90) < 100_000


def test_a_dead_server_fails_or_skips_its_own(server: Any, second: Any, aimed: Any, context_of: Make, soon: Any) -> None:
    """And the other one answers all of its own."""
    second.hang_up()
    context = context_of(process="constant", rate_per_s=200.0, connections=4, duration_s=1.0, warmup_s=0.0, timeout_s=0.5)
    result = run_load(context, aimed(server.port, second.port), soon(), never)
    assert result.counts.ok == server.seen == 150
    assert result.counts.error == result.errors["connect"] > 0
    assert result.counts.error + result.counts.skipped == 50


def test_what_waits_at_the_end_is_skipped(server: Any, second: Any, aimed: Any, context_of: Make, soon: Any) -> None:
    second.reply = lambda _line: None
    context = context_of(process="constant", rate_per_s=200.0, connections=2, duration_s=1.0, warmup_s=0.0, timeout_s=0.6)
    result = run_load(context, aimed(server.port, second.port), soon(), never)
    assert result.counts.ok == 150
    assert result.counts.timeout > 0
    assert result.counts.timeout + result.counts.skipped == 50


def test_a_cut_keeps_what_was_measured(server: Any, second: Any, aimed: Any, context_of: Make, soon: Any) -> None:
    second.reply = lambda _line: None
    begin = soon()

    def ended() -> str | None:
        return "enough" if time.monotonic_ns() > begin + 500_000_000 else None

    context = context_of(process="constant", rate_per_s=200.0, connections=2, duration_s=5.0, warmup_s=0.0, timeout_s=9.0)
    result = run_load(context, aimed(server.port, second.port), begin, ended)
    assert (result.status, result.reason) == ("cut", "enough")
    assert result.counts.ok > 50
    assert result.errors == {"cut": 1}
    assert result.counts.skipped > 10


def test_every_generator_needs_every_server(server: Any, second: Any, aimed: Any, context_of: Make, soon: Any) -> None:
    context = context_of(process="constant", rate_per_s=10.0, connections=3, workers=2)
    result = run_load(context, aimed(server.port, second.port), soon(), never)
    assert result.status == "failed"
    assert (
        "connections 3 over 1 replicas with 2 workers each leaves some without a connection to each of the 2" in result.reason
    )
    assert "at least 4 are needed" in result.reason
