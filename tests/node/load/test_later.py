"""Answers that are read later, what drivers record themselves, and how old an answer is when it is read."""

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from aifactory_bench.node.contract import Context
from aifactory_bench.node.load import Histogram, Later, Outcome, run_load

Make = Callable[..., Context]


def never() -> None:
    return None


class _Answer(Later):
    """Reads its line when it is asked to."""

    size_bytes = 8

    def __init__(self, driver: Any, line: bytes, now_ns: int) -> None:
        self._driver, self._line, self._now_ns = driver, line, now_ns

    def settle(self, sent_ns: int, due_ns: int) -> Outcome | None:
        assert due_ns <= sent_ns < self._now_ns
        self._driver.settled.append((sent_ns, due_ns))
        if self._line == b"!":
            return Outcome(error="stream:error", text="it said no")
        return Outcome(ended_ns=sent_ns + 1_000_000)


@pytest.fixture
def later_driver(line_driver: Any) -> Callable[..., Any]:
    """A product whose answers are all read later."""
    protocol = type(line_driver(1).protocol(0))

    class LaterLines(protocol):  # type: ignore[misc, valid-type]
        def feed(self, data: bytes, now_ns: int) -> Any:
            *lines, self._buffer = (self._buffer + data).split(b"\n")
            return [_Answer(self._driver, line, now_ns) for line in lines]

    class LaterDriver(line_driver):  # type: ignore[misc, valid-type]
        def __init__(self, *ports: int, **options: Any) -> None:
            super().__init__(*ports, **options)
            self.settled: list[tuple[int, int]] = []

        def protocol(self, index: int) -> Any:
            return LaterLines(self)

        def results(self, end_ns: int) -> dict[str, Any]:
            histogram = Histogram()
            histogram.record_many([5_000] * len(self.settled))
            in_window = sum(self.start_ns <= due_ns < end_ns for _, due_ns in self.settled)
            return {
                "distributions": {"first": {"unit": "us", "histogram": histogram.to_json()}},
                "sums": {"tokens": {"unit": "token", "per_second": [in_window]}},
                "metrics": {
                    "met": {"value": 0.5, "unit": "share", "merge": "ratio", "numerator": 1, "denominator": 2},
                    "good": {"value": 0, "unit": "", "merge": "ratio", "numerator": 1, "denominator": 0, "of": "requests"},
                    "part": {"value": self.part, "unit": "", "merge": "max"},
                },
                "totals": {"tokens": len(self.settled)},
            }

    return LaterDriver


@pytest.mark.parametrize(
    "load",
    [
        {"process": "closed", "concurrency": 6},
        {"process": "constant", "rate_per_s": 500.0, "connections": 6},
        {"process": "poisson", "rate_per_s": 500.0, "connections": 6},
    ],
)
def test_every_answer_is_read_once_and_counted_as_what_it_was(
    server: Any, later_driver: Any, context_of: Make, soon: Callable[[], int], load: dict[str, Any]
) -> None:
    """Also those of the last moment; errors are known only then, and the time is the one that the answer says."""
    server.reply = lambda line: b"!\n" if line == b"put" else b".\n"
    result = run_load(context_of(**load), later_driver(server.port, whole=False), soon(), never)
    assert result.status == "ok", result.reason
    assert result.counts.ok + result.counts.error + sum(result.phase_counts["warmup"].values()) == server.seen
    assert result.totals == {"tokens": server.seen}
    # What is sent in the very last moment, by the clock just before the end, may have gone out just after it.
    assert result.sums["tokens"]["per_second"] == [pytest.approx(result.counts.ok + result.counts.error, abs=6)]
    assert Histogram.from_json(result.distributions["first"]["histogram"]).count == server.seen
    assert result.errors == {"stream:error": result.counts.error}
    assert result.counts.error == pytest.approx((result.counts.ok + result.counts.error) / 5, rel=0.3)
    send = Histogram.from_json(result.latency["all"]["send"])
    assert (send.min_ns, send.max_ns, send.count) == (1_000_000, 1_000_000, result.counts.ok)
    drained = result.phase_counts["drain"]
    assert drained["ok"] + drained["error"] <= 6
    assert result.metrics["good"]["denominator"] == result.counts.ok + result.counts.error


def test_results_of_workers_become_one(server: Any, later_driver: Any, context_of: Make, soon: Callable[[], int]) -> None:
    """Each worker knows which part it is; what they recorded adds up."""
    result = run_load(context_of(concurrency=6, workers=3), later_driver(server.port), soon(), never)
    assert result.totals == {"tokens": server.seen}
    assert result.metrics["met"] == {"value": 0.5, "unit": "share", "merge": "ratio", "numerator": 3, "denominator": 6}
    assert result.metrics["part"]["value"] == 2


def test_an_answer_is_as_old_as_the_generator_is_late(
    server: Any, line_driver: Any, context_of: Make, soon: Callable[[], int], workers: Callable[[], list[int]]
) -> None:
    """A worker that was stopped for 0.3 s finds answers that have lain in the kernel for as long."""
    calm = run_load(context_of(concurrency=1), line_driver(server.port), soon(), never)
    assert calm.health.observation_age is not None
    age = Histogram.from_json(calm.health.observation_age)
    assert age.count > 100
    assert (age.percentile_us(50) or 0) < 2_000

    def stop_it() -> None:
        time.sleep(0.45)
        (pid,) = workers()
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.3)
        os.kill(pid, signal.SIGCONT)

    thread = threading.Thread(target=stop_it)
    thread.start()
    result = run_load(context_of(concurrency=1, duration_s=1.0), line_driver(server.port), soon(), never)
    thread.join()
    assert (Histogram.from_json(result.health.observation_age).max_us or 0) == pytest.approx(300_000, rel=0.2)


def test_a_schedule_may_come_to_its_end(server: Any, line_driver: Any, context_of: Make, soon: Callable[[], int]) -> None:
    """A burst is sent, answered, and nothing more is due."""
    load = {"process": "burst", "burst_size": 40, "connections": 40}
    result = run_load(context_of(**load), line_driver(server.port), soon(), never)
    assert result.counts.ok == server.seen == 40
    assert result.counts.skipped == 0
    assert result.health.lateness is not None
    assert Histogram.from_json(result.health.lateness).count == 40


@pytest.mark.parametrize(
    ("silent", "error", "counted"),
    [(True, "timeout", lambda result: result.counts.timeout), (False, "eof", lambda result: result.errors.get("eof", 0))],
)
def test_a_protocol_learns_what_was_lost(
    server: Any,
    line_driver: Any,
    context_of: Make,
    soon: Callable[[], int],
    silent: bool,
    error: str,
    counted: Callable[[Any], int],
) -> None:
    """Each request of the connection once, with its times, whether it took too long or the connection broke."""
    protocol = type(line_driver(1).protocol(0))

    class Losing(protocol):  # type: ignore[misc, valid-type]
        def lost(self, error: str, sent_ns: int, due_ns: int, now_ns: int) -> None:
            assert due_ns <= sent_ns < now_ns
            self._driver.lost.append(error)

    class LosingDriver(line_driver):  # type: ignore[misc, valid-type]
        def start(self, seed: int) -> None:
            self.lost: list[str] = []

        def protocol(self, index: int) -> Any:
            return Losing(self)

        def results(self, end_ns: int) -> dict[str, Any]:
            return {"totals": {name: self.lost.count(name) for name in set(self.lost)}}

    if silent:
        server.reply = lambda line: None
    else:
        server.close_after = 3
    load = {"concurrency": 4, "warmup_s": 0.0, "duration_s": 0.4, "timeout_s": 0.15}
    result = run_load(context_of(**load), LosingDriver(server.port, pipeline=2, whole=False), soon(), never)
    assert result.totals[error] == counted(result) > 0
