"""Requests of two stages: answered by one server and sent on to another, with one time limit and the stamps of their begin."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aifactory_bench.node.contract import Context
from aifactory_bench.node.load import Batch, Histogram, Onward, Outcome, Protocol, run_load

Make = Callable[..., Context]


def never() -> None:
    return None


class _First(Protocol):
    """Asks, and sends on what it was told."""

    _BATCH = Batch(("chain",))

    def request(self, count: int) -> tuple[bytes, Batch]:
        return b"ask\n", self._BATCH

    def feed(self, data: bytes, now_ns: int) -> Any:
        return [_Next(data)] if data.endswith(b"\n") else ()


class _Next(Onward):
    def __init__(self, found: bytes) -> None:
        self._found = found

    def request(self, protocol: Protocol) -> bytes:
        assert isinstance(protocol, _Second)
        return b"with " + self._found


class _Second(Protocol):
    def request(self, count: int) -> tuple[bytes, Batch]:
        raise AssertionError("a partner has no requests of its own")

    def feed(self, data: bytes, now_ns: int) -> Any:
        if not data.endswith(b"\n"):
            return ()
        return [Outcome("reply:no", "it said no") if data.startswith(b"!") else None]


@pytest.fixture
def second(server: Any) -> Iterator[Any]:
    """Another truthful server."""
    other = type(server)()
    yield other
    other.close()


@pytest.fixture
def chain_driver(line_driver: Any) -> Callable[..., Any]:
    """A product whose requests go from the first port to the second."""

    class ChainDriver(line_driver):  # type: ignore[misc]
        def __init__(self, first: int, second: int, pipeline: int = 1) -> None:
            super().__init__(first, pipeline=pipeline)
            self._second = second

        def partners(self) -> list[tuple[str, int]]:
            return [("127.0.0.1", self._second)]

        def protocol(self, index: int) -> Protocol:
            return (_First, _Second)[index]()

        def metrics(self, ok: Any, notes: Any) -> dict[str, dict[str, Any]]:
            return {}

    return ChainDriver


def _delayed(delay_s: float, seen: list[bytes]) -> Callable[[bytes], bytes]:
    def reply(line: bytes) -> bytes:
        seen.append(line)
        time.sleep(delay_s)
        return b"found\n"

    return reply


def _after(delay_s: float) -> Callable[[], str | None]:
    end_s = time.monotonic() + delay_s
    return lambda: "enough" if time.monotonic() > end_s else None


def _fastest_us(measurement: Any, clock: str = "send") -> float:
    fastest_us = Histogram.from_json(measurement.latency["chain"][clock]).min_us
    assert fastest_us is not None
    return fastest_us


@pytest.mark.parametrize("load", [{"concurrency": 2}, {"process": "constant", "rate_per_s": 20.0, "connections": 8}])
def test_a_request_ends_where_it_went_on(
    chain_driver: Any, context_of: Make, soon: Any, server: Any, second: Any, load: Any
) -> None:
    """Latency is that of both stages together, by both clocks, and the second server gets what the first one answered."""
    asked: list[bytes] = []
    told: list[bytes] = []
    server.reply, second.reply = _delayed(0.02, asked), _delayed(0.03, told)
    driver = chain_driver(server.port, second.port)
    measurement = run_load(context_of(duration_s=0.5, **load), driver, soon(), never)
    assert measurement.status == "ok"
    assert not measurement.errors
    assert measurement.counts.ok >= 5
    assert measurement.counts.timeout == measurement.counts.skipped == 0
    assert set(asked) == {b"ask"}
    assert set(told) == {b"with found"}
    assert len(asked) == len(told)
    assert _fastest_us(measurement) > 49_000
    if "rate_per_s" in load:
        assert _fastest_us(measurement, "schedule") >= _fastest_us(measurement)


def test_answers_in_pieces(chain_driver: Any, context_of: Make, soon: Any, server: Any, second: Any) -> None:
    """What comes byte by byte is put together, on the partner as everywhere."""
    server.reply = second.reply = lambda line: b"found\n"
    server.send_pieces = second.send_pieces = True
    measurement = run_load(context_of(concurrency=1), chain_driver(server.port, second.port), soon(), never)
    assert not measurement.errors
    assert measurement.counts.ok > 10


def test_errors_of_the_second_stage_are_the_requests_errors(
    chain_driver: Any, context_of: Make, soon: Any, server: Any, second: Any
) -> None:
    """A refusal by the second server ends the request, and the next one begins at the first server."""
    second.reply = lambda line: b"!\n"
    measurement = run_load(context_of(concurrency=1), chain_driver(server.port, second.port), soon(), never)
    assert measurement.counts.ok == 0
    assert measurement.errors["reply:no"] > 10
    assert server.connected == second.connected == 1


def test_nobody_listens_at_the_second_server(chain_driver: Any, context_of: Make, soon: Any, server: Any, second: Any) -> None:
    """Requests fail as `connect`, at the pace of the attempts and not of the first server, and the run ends on time."""
    second.close()
    began = time.monotonic()
    measurement = run_load(context_of(concurrency=2), chain_driver(server.port, second.port), soon(), never)
    assert measurement.counts.ok == 0
    assert set(measurement.errors) == {"connect"}
    assert server.seen < 100
    assert time.monotonic() - began < 3


def test_the_second_server_dies(chain_driver: Any, context_of: Make, soon: Any, server: Any, second: Any) -> None:
    """What was under way fails once, and each request that was sent is counted once."""

    def reply(line: bytes) -> bytes:
        if second.seen == 20:
            second.hang_up()
        return b"found\n"

    second.reply = reply
    measurement = run_load(context_of(concurrency=1, warmup_s=0.0), chain_driver(server.port, second.port), soon(), never)
    assert measurement.counts.ok in {19, 20}
    assert set(measurement.errors) <= {"eof", "reset", "connect", "os:EPIPE"}
    assert measurement.counts.ok + measurement.counts.error + measurement.counts.timeout == server.seen


@pytest.mark.parametrize("closing", ["first", "second"])
def test_servers_that_close_after_each_answer(
    chain_driver: Any, context_of: Make, soon: Any, server: Any, second: Any, closing: Any
) -> None:
    """A first server that closes while the second one works takes nothing away; a second one must answer first."""
    (server if closing == "first" else second).close_after = 1
    second.reply = _delayed(0.01, [])
    measurement = run_load(context_of(concurrency=1), chain_driver(server.port, second.port), soon(), never)
    assert not measurement.errors
    assert measurement.counts.ok >= 2  # each time a little longer is waited before the next connection


def test_one_time_limit_for_both_stages(chain_driver: Any, context_of: Make, soon: Any, server: Any, second: Any) -> None:
    """A request is given up when both stages together take too long, and a late answer is nobody's."""
    server.reply = _delayed(0.15, [])
    second.reply = lambda line: time.sleep(0.2) or b"found\n"  # type: ignore[func-returns-value]
    context = context_of(concurrency=1, timeout_s=0.25, duration_s=0.6, warmup_s=0.0)
    began = time.monotonic()
    measurement = run_load(context, chain_driver(server.port, second.port), soon(), never)
    assert measurement.counts.timeout >= 2
    assert measurement.counts.ok == measurement.counts.error == 0
    assert time.monotonic() - began < 2


def test_a_cut_ends_what_has_gone_on(chain_driver: Any, context_of: Make, soon: Any, server: Any, second: Any) -> None:
    """A measurement that is ended early waits a second for answers, and no longer."""
    second.reply = lambda line: time.sleep(3) or None  # type: ignore[func-returns-value]
    began = time.monotonic()
    context = context_of(concurrency=1, warmup_s=0.0, duration_s=5.0, timeout_s=10.0)
    measurement = run_load(context, chain_driver(server.port, second.port), soon(), _after(0.5))
    assert measurement.status == "cut"
    assert measurement.errors == {"cut": 1}
    assert time.monotonic() - began < 3
    second.hang_up()


def test_requests_of_two_stages_are_not_pipelined(
    chain_driver: Any, context_of: Make, soon: Any, server: Any, second: Any
) -> None:
    """It is said at once, and nothing is sent."""
    measurement = run_load(context_of(), chain_driver(server.port, second.port, pipeline=2), soon(), never)
    assert measurement.status == "failed"
    assert "one at a time" in measurement.reason
    assert server.seen == 0
