"""Closed loop against a server that tells the truth."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from aifactory_bench.node.contract import Context
from aifactory_bench.node.load import Batch, Histogram, Protocol, run_load
from aifactory_bench.node.measurement import Measurement

Make = Callable[..., Context]


def never() -> None:
    return None


def histogram(measurement: Measurement, operation: str = "all", clock: str = "send") -> Histogram:
    return Histogram.from_json(measurement.latency[operation][clock])


@pytest.mark.parametrize("pipeline", [1, 7])
@pytest.mark.parametrize("whole", [True, False])
def test_everything_that_was_asked_is_counted_once(
    server: Any, line_driver: Any, context_of: Make, soon: Callable[[], int], pipeline: int, whole: bool
) -> None:
    """Warm-up and window together are what the server saw, by the fast path and by the slow one."""
    driver = line_driver(server.port, pipeline=pipeline, whole=whole)
    result = run_load(context_of(concurrency=6), driver, soon(), never)
    assert (result.status, result.reason, result.process, result.unit) == ("ok", "", "closed", "request")
    assert result.counts.ok + result.phase_counts["warmup"]["ok"] == server.seen > 0
    assert (result.counts.error, result.counts.timeout, result.counts.skipped) == (0, 0, 0)
    assert histogram(result).count == result.counts.ok
    assert histogram(result, "get").count + histogram(result, "put").count == result.counts.ok
    assert histogram(result, "get").count == pytest.approx(4 * histogram(result, "put").count, rel=0.1)
    assert result.latency["all"]["schedule"] is None
    assert result.offered_per_s is None
    assert result.achieved_per_s == pytest.approx(result.counts.ok / 0.3)
    assert result.window_s == result.window_asked_s == 0.3
    assert server.connected == 6


def test_nothing_is_sent_after_a_window_without_a_warm_up(
    server: Any, line_driver: Any, context_of: Make, soon: Callable[[], int]
) -> None:
    """The end holds also where no second has begun since the start."""
    result = run_load(context_of(concurrency=2, warmup_s=0.0), line_driver(server.port), soon(), never)
    assert result.counts.ok + result.counts.timeout == server.seen
    assert result.phase_counts["drain"]["ok"] <= 2 + result.counts.ok // 10


def test_slices_add_up_to_the_window(server: Any, line_driver: Any, context_of: Make, soon: Callable[[], int]) -> None:
    """Their counts and their histograms."""
    result = run_load(context_of(concurrency=2, duration_s=1.2), line_driver(server.port), soon(), never)
    assert [part["second"] for part in result.slices] == [0, 1]
    assert sum(part["ok"] for part in result.slices) == result.counts.ok
    total = Histogram()
    for part in result.slices:
        total.add(Histogram.from_json(part["latency"]["all"]["send"]))
    assert total == histogram(result)


def test_the_measurement_tells_about_itself(server: Any, line_driver: Any, context_of: Make, soon: Callable[[], int]) -> None:
    """Phases, the generator's own state, where it all comes from."""
    wall_ns = time.time_ns()
    result = run_load(context_of(concurrency=2), line_driver(server.port), soon(), never)
    assert result.phases_s["warmup"] == pytest.approx(0.1)
    assert result.phases_s["measure"] == 0.3
    assert set(result.phases_s) == {"warmup", "measure", "drain", "collect"}
    assert result.health.workers == 1
    (share,) = result.health.cpu_share
    assert share is not None
    assert 0 < share < 1.1
    assert result.health.loop_lag is not None
    assert Histogram.from_json(result.health.loop_lag).count > 0
    assert result.health.lateness is None
    assert result.health.gate is None
    assert wall_ns < result.start_wall_ns < wall_ns + 2 * 10**9
    assert result.end_wall_ns - result.start_wall_ns == 300_000_000
    assert result.provenance["seed"] == 7
    assert result.provenance["python"].startswith("3.")
    assert result.metrics["misses"] == {"value": 0, "unit": "request"}


def test_latency_is_what_the_server_takes(server: Any, line_driver: Any, context_of: Make, soon: Callable[[], int]) -> None:
    """A server that sleeps 20 ms is seen to sleep 20 ms."""

    def slow(line: bytes) -> bytes:
        time.sleep(0.02)
        return line + b"\n"

    server.reply = slow
    result = run_load(context_of(concurrency=3), line_driver(server.port), soon(), never)
    p50 = histogram(result).percentile_us(50)
    assert p50 is not None
    assert 20_000 <= p50 < 60_000
    assert 3 <= result.counts.ok <= 3 * 16


def test_errors_are_counted_by_class_and_never_as_ok(
    server: Any, line_driver: Any, context_of: Make, soon: Callable[[], int]
) -> None:
    """Latencies hold only what ended well; the first text of a class is kept; a note is no error."""
    answers = [b"!ERR\n", b"?\n", b"fine\n", b"!BUSY\n"]
    seen = iter(range(10**9))
    server.reply = lambda _line: answers[next(seen) % 4]
    result = run_load(context_of(concurrency=1), line_driver(server.port), soon(), never)
    assert result.status == "ok"
    assert set(result.errors) == {"reply:ERR", "reply:BUSY"}
    assert result.counts.error == sum(result.errors.values()) > 0
    assert abs(result.counts.ok - result.counts.error) <= 2
    assert histogram(result).count == result.counts.ok
    assert result.metrics["misses"]["value"] == pytest.approx(result.counts.ok / 2, abs=1)
    assert result.provenance["error_texts"]["reply:ERR"] == "it said no"


@pytest.mark.parametrize("pipeline", [1, 3])
def test_replies_in_pieces_are_put_together(
    server: Any, line_driver: Any, context_of: Make, soon: Callable[[], int], pipeline: int
) -> None:
    """A byte at a time."""
    server.send_pieces = True
    result = run_load(context_of(concurrency=2), line_driver(server.port, pipeline=pipeline), soon(), never)
    assert result.counts.ok + result.phase_counts["warmup"]["ok"] == server.seen
    assert result.errors == {}


def test_what_is_not_answered_in_time_is_a_timeout(
    server: Any, line_driver: Any, context_of: Make, soon: Callable[[], int]
) -> None:
    """On a new connection each time, so that a late answer is not taken for another request's."""
    server.reply = lambda _line: None
    result = run_load(context_of(concurrency=2, timeout_s=0.1, warmup_s=0.0), line_driver(server.port), soon(), never)
    assert result.counts.ok == 0
    assert result.counts.timeout >= 3
    assert result.errors == {}
    assert result.counts.timeout == server.seen
    assert server.connected >= 3
    assert result.achieved_per_s == 0
    assert histogram(result).count == 0


def test_a_server_that_closes_every_connection_is_asked_again(
    server: Any, line_driver: Any, context_of: Make, soon: Callable[[], int]
) -> None:
    """What is lost with a connection is an error of its class; then the next connection."""
    server.close_after = 5
    result = run_load(context_of(concurrency=2, pipeline=1), line_driver(server.port), soon(), never)
    assert result.counts.ok > 10
    assert server.connected > 4
    assert set(result.errors) <= {"eof", "reset"}
    assert result.counts.error == sum(result.errors.values()) > 0


def test_a_server_that_dies_leaves_errors_and_what_came_before(
    server: Any, line_driver: Any, context_of: Make, soon: Callable[[], int]
) -> None:
    """The window goes to its end; attempts to connect are errors of their own, with growing pauses."""
    asked = iter(range(100))

    def stop() -> None:
        if next(asked) == 2:
            server.hang_up()

    result = run_load(context_of(concurrency=4, duration_s=1.3), line_driver(server.port), soon(), stop)
    assert result.status == "ok"
    assert result.counts.ok > 0
    assert set(result.errors) <= {"eof", "reset", "connect"}
    assert 4 < result.errors["connect"] < 200
    assert "127.0.0.1" in result.provenance["error_texts"]["connect"]
    assert result.slices[1]["ok"] == 0


def test_nobody_there_at_all(line_driver: Any, context_of: Make, soon: Callable[[], int]) -> None:
    """No success, and the reason is in the errors."""
    result = run_load(context_of(concurrency=2), line_driver(1), soon(), never)
    assert result.status == "ok"
    assert result.counts.ok == 0
    assert result.errors.keys() == {"connect"}


def test_a_login_that_is_refused(server: Any, line_driver: Any, context_of: Make, soon: Callable[[], int]) -> None:
    """Is an error by its own name, not a connection error."""
    server.reply = lambda _line: b"!go away\n"
    result = run_load(context_of(concurrency=2), line_driver(server.port, login=b"hello\n"), soon(), never)
    assert result.errors.keys() == {"reply:DENIED"}
    assert result.provenance["error_texts"]["reply:DENIED"].endswith("!go away")


def test_a_login_comes_before_requests(server: Any, line_driver: Any, context_of: Make, soon: Callable[[], int]) -> None:
    """Once a connection."""
    result = run_load(context_of(concurrency=3), line_driver(server.port, login=b"hello\n"), soon(), never)
    assert server.seen == 3 + result.counts.ok + result.phase_counts["warmup"]["ok"]


def test_answers_that_make_no_sense(server: Any, line_driver: Any, context_of: Make, soon: Callable[[], int]) -> None:
    """Cost the connection."""
    server.reply = lambda _line: b"\0"
    result = run_load(context_of(concurrency=1), line_driver(server.port), soon(), never)
    assert result.errors["protocol"] > 0
    assert result.counts.ok == 0


def test_more_answers_than_requests_are_a_protocol_error(
    server: Any, line_driver: Any, context_of: Make, soon: Callable[[], int]
) -> None:
    """Or the next request would be answered by the last one's reply; each costs a connection, and is seen."""
    server.reply = lambda _line: b"one\ntwo\n"
    result = run_load(context_of(concurrency=1, duration_s=0.3), line_driver(server.port), soon(), never)
    assert result.counts.ok > 0
    assert server.connected > 1
    assert result.errors == {"protocol": result.counts.error}
    assert result.counts.error >= result.counts.ok - 1
    assert "`feed` returned more outcomes than requests" in result.provenance["error_texts"]["protocol"]


def test_a_class_of_errors_is_no_text(server: Any, line_driver: Any, context_of: Make, soon: Callable[[], int]) -> None:
    """What is longer than a document takes is cut: the measurement is not lost by it."""
    server.reply = lambda _line: b"!" + b"x" * 5000 + b"\n"
    result = run_load(context_of(concurrency=1, duration_s=0.3), line_driver(server.port), soon(), never)
    assert result.errors == {"reply:" + "x" * 94: result.counts.error}


def test_connections_are_spread_over_several_servers(
    server: Any, line_driver: Any, context_of: Make, soon: Callable[[], int]
) -> None:
    """In turn, whichever worker has them."""
    other = type(server)()
    try:
        run_load(context_of(concurrency=8, workers=2), line_driver(server.port, other.port), soon(), never)
        assert server.connected == other.connected == 4
    finally:
        other.close()


class OneLine(Protocol):
    """An answer is complete when the server closes the connection, as with HTTP/1.0."""

    def __init__(self) -> None:
        self._answer = b""

    def request(self, count: int) -> tuple[bytes, Batch]:
        return b"hello\n", Batch(["line"])

    def feed(self, data: bytes, now_ns: int) -> Sequence[None]:
        self._answer += data
        return ()

    def end(self) -> Sequence[None]:
        return [None] if self._answer == b"hello\n" else []


def test_a_protocol_that_ends_answers_by_closing_is_not_slowed_down(
    server: Any, line_driver: Any, context_of: Make, soon: Callable[[], int]
) -> None:
    """A new connection after a good answer is no second attempt: no pause, no error."""
    server.close_after = 1

    class Closing(line_driver):  # type: ignore[misc]
        def protocol(self, index: int) -> Protocol:
            return OneLine()

    result = run_load(context_of(concurrency=2, pipeline=1), Closing(server.port), soon(), never)
    assert result.errors == {}
    # With a pause that doubles up to a second there would be about five.
    assert result.counts.ok > 20, result


def test_a_connection_that_is_being_made_as_the_window_ends_has_not_failed(
    server: Any, line_driver: Any, context_of: Make, soon: Callable[[], int]
) -> None:
    """The drain waits for how it ends: let in, it is no error."""
    logins = []

    def reply(line: bytes) -> bytes:
        if line == b"hello":
            logins.append(line)
            # The second login of a connection is under way from early in the window until past its end.
            time.sleep(0.3 if len(logins) > 1 else 0)
            return line + b"\n"
        return b""  # no answer, and a connection that closes

    server.reply = reply
    server.close_after = 2
    load = context_of(concurrency=1, warmup_s=0.0, duration_s=0.2)
    result = run_load(load, line_driver(server.port, login=b"hello\n"), soon(), never)
    assert result.errors == {"eof": 1}
    assert len(logins) == 2


def test_a_connection_that_fails_after_the_window_counts(
    server: Any, line_driver: Any, context_of: Make, soon: Callable[[], int]
) -> None:
    """The attempt was one of the window's."""

    def reply(line: bytes) -> bytes:
        time.sleep(0.3)
        return b"!go away\n"

    server.reply = reply
    load = context_of(concurrency=1, warmup_s=0.0, duration_s=0.2)
    result = run_load(load, line_driver(server.port, login=b"hello\n"), soon(), never)
    assert result.errors == {"reply:DENIED": 1}
