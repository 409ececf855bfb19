"""GET and SET on the load core, against a real server."""

import signal
import threading
import time
from typing import Any

import pytest

from aifactory_bench.node.load import Histogram
from aifactory_bench_services import redis_node
from aifactory_bench_services.redis_data_node import key_of


@pytest.mark.parametrize("pipeline", [1, 16])
def test_a_mix_has_results_of_each_operation(server: Any, context_of: Any, pipeline: int, measure: Any) -> None:
    """In the proportion of the weights, and every read hits."""
    result = measure(context_of(server, pipeline=pipeline, operations={"get": 3, "set": 1}))
    gets, sets = (Histogram.from_json(result.latency[name]["send"]).count for name in ("get", "set"))
    assert result.status == "ok"
    assert result.errors == {}
    assert gets + sets == result.counts.ok > 100
    assert gets / sets == pytest.approx(3, rel=0.35)
    assert result.metrics == {"hits": {"value": gets, "unit": "command"}, "misses": {"value": 0, "unit": "command"}}
    assert server.ask("DBSIZE") == 500


@pytest.mark.parametrize("pipeline", [1, 16])
def test_a_key_that_is_not_there_is_a_miss(server: Any, context_of: Any, pipeline: int, drive: Any) -> None:
    """Where keys may go by themselves it ended well, but it is no hit; else somebody has taken them away."""
    redis_node.prepare(context_of(server))
    for number in range(250):
        server.ask("DEL", key_of(number))
    evicts = {"max_memory_bytes": 1 << 30}
    result = drive(context_of(server, pipeline=pipeline, operations={"get": 1, "set": 0}, service=evicts))
    hits, misses = (result.metrics[name]["value"] for name in ("hits", "misses"))
    assert hits + misses == result.counts.ok
    assert misses / result.counts.ok == pytest.approx(0.5, abs=0.2)
    result = drive(context_of(server, pipeline=pipeline, operations={"get": 1, "set": 0}))
    assert result.errors == {"reply:nil": result.counts.error}
    assert result.counts.error / (result.counts.ok + result.counts.error) == pytest.approx(0.5, abs=0.2)
    assert result.provenance["error_texts"]["reply:nil"] == "a key is not there that was written before the window"


@pytest.mark.parametrize("value", [b"y" * 20, b"x\r\n$20\r\n+OK\r\n-ERR \r\n"])
def test_values_that_others_wrote_are_hits(server: Any, context_of: Any, value: bytes, drive: Any) -> None:
    """Whatever is in them, if there is as much of it."""
    for number in range(500):
        server.ask("SET", key_of(number), value)
    result = drive(context_of(server, pipeline=4, operations={"get": 1, "set": 0}))
    assert result.errors == {}
    assert result.metrics["hits"]["value"] == result.counts.ok > 0


@pytest.mark.parametrize("pipeline", [1, 4])
@pytest.mark.parametrize("value", [b"other size", b"", b"z" * 21, b"z" * 65536])
def test_values_of_another_size_are_errors(server: Any, context_of: Any, value: bytes, pipeline: int, drive: Any) -> None:
    """What another client wrote to the same keys: to read it is not what was to be measured, so there is no latency of it."""
    context = context_of(server, pipeline=pipeline, operations={"get": 1, "set": 0})
    redis_node.prepare(context)
    for number in range(250):
        server.ask("SET", key_of(number), value)
    result = drive(context)
    assert result.errors == {"reply:size": result.counts.error}
    assert result.counts.error / (result.counts.ok + result.counts.error) == pytest.approx(0.5, abs=0.2)
    assert result.metrics["hits"]["value"] == result.counts.ok == Histogram.from_json(result.latency["get"]["send"]).count
    text = f"a value of {len(value)} bytes; this load writes none of that size"
    assert result.provenance["error_texts"]["reply:size"] == text


def test_of_several_sizes_a_larger_one_is_an_error(server: Any, context_of: Any, drive: Any) -> None:
    """Smaller ones may be this load's own."""
    sizes = {"value_range": {"least_bytes": 5, "most_bytes": 40}}
    context = context_of(server, operations={"get": 1, "set": 0}, only=sizes)
    redis_node.prepare(context)
    assert drive(context).errors == {}
    for number in range(500):
        server.ask("SET", key_of(number), b"z" * 41)
    assert drive(context).errors.keys() == {"reply:size"}


def test_error_replies_are_errors(server: Any, context_of: Any, drive: Any) -> None:
    """By the server's own code, between replies that are well."""
    redis_node.prepare(context_of(server))
    for number in range(250):
        server.ask("DEL", key_of(number))
        server.ask("LPUSH", key_of(number), "x")
    result = drive(context_of(server, pipeline=8, operations={"get": 1, "set": 0}))
    assert result.errors == {"reply:WRONGTYPE": result.counts.error}
    assert result.counts.error / (result.counts.ok + result.counts.error) == pytest.approx(0.5, abs=0.2)
    assert "wrong kind of value" in result.provenance["error_texts"]["reply:WRONGTYPE"]


def test_a_wrong_password_is_an_error_by_its_name(server: Any, context_of: Any, drive: Any) -> None:
    """And with none at all the requests are refused."""
    assert drive(context_of(server, secret="wrong")).errors.keys() == {"reply:WRONGPASS"}
    result = drive(context_of(server, secret=""))
    assert result.errors == {"reply:NOAUTH": result.counts.error}
    assert result.counts.ok == 0


def test_values_larger_than_a_read(server: Any, context_of: Any, measure: Any) -> None:
    """Requests and replies that take many of them."""
    result = measure(context_of(server, keys=20, value_size_bytes=1 << 20, operations={"get": 1, "set": 1}, concurrency=2))
    assert result.errors == {}
    assert result.metrics["misses"]["value"] == 0
    assert {"get", "set"} <= result.latency.keys()
    assert server.ask("STRLEN", key_of(3)) == 1 << 20


def test_a_server_that_is_killed(server: Any, context_of: Any, measure: Any) -> None:
    """In the window: what came before is kept, the rest are errors."""
    asked = iter(range(1000))

    def stop() -> None:
        if next(asked) == 2:
            server.process.kill()

    result = measure(context_of(server, duration_s=1.5), stop)
    assert result.status == "ok"
    assert result.counts.ok > 0
    assert set(result.errors) <= {"eof", "reset", "connect"}
    assert result.slices[1]["ok"] == 0


def test_a_server_that_stands_still(server: Any, context_of: Any, drive: Any) -> None:
    """Half a second of 2 s is seen from the schedule, and the rate is reached."""

    def stall() -> None:
        server.process.send_signal(signal.SIGSTOP)
        time.sleep(0.5)
        server.process.send_signal(signal.SIGCONT)

    timer = threading.Timer(0.9, stall)
    load = {"process": "poisson", "rate_per_s": 500.0, "connections": 10, "duration_s": 2.0}
    context = context_of(server, **load)
    redis_node.prepare(context)
    timer.start()
    result = drive(context)
    timer.join()
    p99_us = Histogram.from_json(result.latency["all"]["schedule"]).percentile_us(99)
    assert p99_us is not None
    assert p99_us > 400_000
    assert result.counts.ok == pytest.approx(1000, abs=150)
    assert result.achieved_per_s == result.counts.ok / 2
    assert result.errors == {}


def test_a_server_that_stands_still_for_good(server: Any, context_of: Any, drive: Any) -> None:
    """Ends in timeouts, within the time that was given."""
    context = context_of(server, timeout_s=0.3)
    redis_node.prepare(context)
    server.process.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    result = drive(context)
    assert result.counts.ok == 0
    assert result.counts.timeout + result.errors.get("connect", 0) >= 5
    assert set(result.errors) <= {"connect"}
    assert time.monotonic() - began < 10
