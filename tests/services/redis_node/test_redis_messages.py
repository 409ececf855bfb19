"""Messages through a real server: what is sent is received, and how long that took."""

import os
import signal
import socket
import threading
import time
from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifactory_bench.node.contract import PrepareError
from aifactory_bench.node.load import Histogram
from aifactory_bench.node.load.own import add_results
from aifactory_bench.node.measurement import Measurement, to_json
from aifactory_bench.plan import PlannedPoint
from aifactory_bench.results.merge import merge
from aifactory_bench.results.validity import judge
from aifactory_bench_services import redis_messages_node
from aifactory_bench_services.redis_inbox_node import Consumer, Subscriber
from aifactory_bench_services.redis_listener_node import Listener, Tape
from aifactory_bench_services.redis_resp_node import encode

PUBSUB = {"channels": 2, "subscribers": 3, "message_size_bytes": 100, "pipeline": 1}


@pytest.fixture
def judged() -> Any:
    """Returns a function: measurement -> code of each reason and what it makes of the result."""
    point = PlannedPoint("p0000-r1", 0, 1, {}, "load", "messages", "t", 1, None, "closed", {}, {}, {}, ("s",))

    def judge_it(measurement: Any) -> dict[str, str]:
        _, reasons, _ = judge(merge(point, [to_json(measurement)]), {})
        return {reason.code: reason.verdict for reason in reasons}

    return judge_it


STREAM = {
    "channels": 2,
    "consumers": 2,
    "read_count": 10,
    "max_length": 100_000,
    "message_size_bytes": 100,
    "pipeline": 1,
}
OPEN = {"process": "poisson", "rate_per_s": 300.0, "connections": 4}
SECOND_NS = 1_000_000_000


def sent_by(result: Any) -> int:
    return int(result.counts.ok + result.phase_counts["warmup"]["ok"])


@pytest.mark.parametrize("load", [OPEN, {"concurrency": 4}])
@pytest.mark.parametrize("pipeline", [1, 8])
def test_every_subscriber_gets_every_message(
    server: Any, context_of: Any, drive: Any, load: dict[str, Any], pipeline: int
) -> None:
    """In open and closed loop, by two workers; and the server counts what the client counts."""
    context = context_of(server, kind="redis-pubsub", only={**PUBSUB, "pipeline": pipeline}, workers=2, **load)
    settings = redis_messages_node.prepare(context)["server_settings"]
    before = redis_messages_node.counters(server.endpoint, server.secret)
    result = drive(context)
    after = redis_messages_node.counters(server.endpoint, server.secret)
    assert (result.status, result.errors, result.unit) == ("ok", {}, "message")
    assert settings["appendonly"] == "no"
    assert after["operations"] - before["operations"] == sent_by(result)
    delivery = Histogram.from_json(result.distributions["delivery"]["histogram"])
    # At the edge of the warm-up one counts by the due time, the other by that of sending.
    assert 0 < 0.9 * result.counts.ok <= delivery.count / 3 <= sent_by(result)
    assert 0 < (delivery.min_ns or 0) < (delivery.max_ns or 0)
    assert result.metrics["lost"]["value"] == result.metrics["unexpected"]["value"] == 0
    age = Histogram.from_json(result.distributions["receiver_age"]["histogram"])
    assert 0 < age.count <= delivery.count + 100
    assert result.metrics["receivers"]["value"] == 2 * 2 * 3
    assert result.metrics["receivers_gone"]["value"] == 0
    assert result.metrics["receiver_cpu_share"]["value"] > 0
    assert 0 < sum(result.sums["delivered"]["per_second"]) <= 3 * sent_by(result)
    assert server.ask("PUBSUB", "CHANNELS") == []


@pytest.mark.parametrize("load", [OPEN, {"concurrency": 4}])
@pytest.mark.parametrize("pipeline", [1, 8])
def test_every_entry_is_read_once_and_acknowledged(
    server: Any, context_of: Any, drive: Any, load: dict[str, Any], pipeline: int
) -> None:
    """By one consumer of the group; nothing is left behind in the server."""
    context = context_of(server, kind="redis-stream", only={**STREAM, "pipeline": pipeline}, workers=2, **load)
    redis_messages_node.prepare(context)
    before = redis_messages_node.counters(server.endpoint, server.secret)
    result = drive(context)
    after = redis_messages_node.counters(server.endpoint, server.secret)
    assert (result.status, result.errors) == ("ok", {})
    assert after["operations"] - before["operations"] == sent_by(result)
    assert after["acknowledgements"] - before["acknowledgements"] == result.totals["acknowledgements"] > 0
    delivered = Histogram.from_json(result.distributions["delivery"]["histogram"]).count
    assert 0 < 0.9 * result.counts.ok <= delivered <= sent_by(result)
    assert result.metrics["lost"]["value"] == result.metrics["unexpected"]["value"] == 0
    assert server.ask("DBSIZE") == 0


@pytest.mark.parametrize("node_entries", ["100", "1000", None])
def test_a_stream_that_drops_entries_loses_them(
    server: Any, context_of: Any, drive: Any, node_entries: "str | None", judged: Any
) -> None:
    """A consumer that is slower than the producers, and a stream that keeps less than it is behind: that is no valid result.

    Each entry that is dropped is an error of the one that took its place, but for what may still be there; also of a server
    with larger nodes than others, and of one that does not tell.
    """
    if node_entries is None:
        server.ask("ACL", "SETUSER", "default", "-config")
    else:
        server.ask("CONFIG", "SET", "stream-node-max-entries", node_entries)
    only = {**STREAM, "channels": 1, "consumers": 1, "read_count": 1, "max_length": 1, "pipeline": 500}
    result = drive(context_of(server, kind="redis-stream", only=only, concurrency=4))
    lost, may_be_there = result.metrics["lost"]["value"], 1 + int(node_entries or 100) + 1
    assert lost > 20 * may_be_there
    assert result.errors.keys() == {"lost"}
    warmup = result.phase_counts["warmup"]["error"]
    assert lost - 2 * may_be_there <= result.errors["lost"] + warmup <= lost
    assert result.counts.ok > 0
    assert Histogram.from_json(result.latency["add"]["send"]).count == result.counts.ok
    assert "dropped one of them" in result.provenance["error_texts"]["lost"]
    assert judged(result)["error_share"] == "invalid"


def test_a_stream_that_holds_what_is_not_read_loses_nothing(server: Any, context_of: Any, drive: Any) -> None:
    """However far the consumers are behind, as long as they come to the end within the seconds that are waited."""
    only = {**STREAM, "consumers": 1, "read_count": 1, "pipeline": 50}
    result = drive(context_of(server, kind="redis-stream", only=only, concurrency=1, warmup_s=0.0, duration_s=0.05))
    assert result.metrics["backlog_end"]["value"] > 100
    assert result.metrics["lost"]["value"] == 0
    assert result.errors == {}


def test_a_consumer_that_is_gone_makes_errors(server: Any, context_of: Any, drive: Any, judged: Any) -> None:
    """Also where another one reads on, and nothing but what it had is lost."""
    asked = iter(range(1000))

    def stop() -> None:
        if next(asked) == 1:
            ids = [
                line.split()[0][3:] for line in server.ask("CLIENT", "LIST").decode().splitlines() if "cmd=xreadgroup" in line
            ]
            server.ask("CLIENT", "KILL", "ID", ids[0])

    result = drive(context_of(server, kind="redis-stream", only=STREAM, duration_s=0.8, **OPEN), stop)
    assert result.metrics["receivers_gone"]["value"] == 1
    assert result.errors.keys() == {"receiver_gone"}
    assert judged(result)["error_share"] == "invalid"


def test_a_subscriber_that_is_cut_off_loses_messages(server: Any, context_of: Any, drive: Any, judged: Any) -> None:
    """They are counted, and so is the connection; what is sent to nobody is an error, and no latency of it is kept."""
    asked = iter(range(1000))

    def stop() -> None:
        if next(asked) == 1:
            server.ask("CLIENT", "KILL", "TYPE", "pubsub")

    result = drive(context_of(server, kind="redis-pubsub", only=PUBSUB, concurrency=2, duration_s=0.8), stop)
    assert result.errors == {"lost": result.counts.error}
    assert result.metrics["receivers_gone"]["value"] == 6
    assert result.metrics["lost"]["value"] >= 3 * result.counts.error > 0
    assert result.provenance["error_texts"]["lost"].endswith("of 3 subscribers")
    assert Histogram.from_json(result.latency["publish"]["send"]).count == result.counts.ok
    assert judged(result)["error_share"] == "invalid"


def test_the_backlogs_of_workers_are_a_bound(server: Any, context_of: Any) -> None:
    """Each has its own worst second, and nobody had all of these at once: their sum is called what it is."""

    class Finished:
        def __init__(self, waiting: list[int]) -> None:
            empty = Histogram().to_json()
            self.report = {"waiting": waiting, "received": 0, "gone": [], "cpu_share": 0.1, "delivery": empty, "age": empty}

        def finish(self, expected: int) -> dict[str, Any]:
            return {**self.report, "per_second": [0, 0]}

    results = []
    for waiting in ([7, 1], [2, 5]):
        driver = redis_messages_node.driver(context_of(server, kind="redis-pubsub", only=PUBSUB))
        driver.end_ns = 2 * SECOND_NS
        driver._listener = cast("Any", Finished(waiting))
        results.append(driver.results(2 * SECOND_NS))
    measurement = Measurement(point="p", client="load", kind="redis-pubsub", rank=0, status="ok")
    add_results(measurement, results)
    assert measurement.metrics["backlog_at_most"]["value"] == 7 + 5
    assert measurement.metrics["backlog_end"]["value"] == 1 + 5


def test_error_replies_are_errors(server: Any, context_of: Any, drive: Any) -> None:
    """And are waited for by nobody."""
    server.ask("CONFIG", "SET", "maxmemory", "1")
    server.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    # A group cannot be made either: the measurement says so.
    result = drive(context_of(server, kind="redis-stream", only=STREAM))
    assert result.status == "failed"
    assert "OOM" in result.reason
    result = drive(context_of(server, kind="redis-pubsub", only=PUBSUB, secret="wrong"))
    assert result.status == "failed"
    assert "WRONGPASS" in result.reason


@pytest.mark.parametrize(("kind", "only"), [("redis-pubsub", PUBSUB), ("redis-stream", STREAM)])
def test_a_server_that_is_killed(server: Any, context_of: Any, drive: Any, kind: str, only: dict[str, Any]) -> None:
    """In the window: the measurement ends on time, with errors."""
    asked = iter(range(1000))

    def stop() -> None:
        if next(asked) == 2:
            server.process.kill()

    began = time.monotonic()
    result = drive(context_of(server, kind=kind, only=only, duration_s=1.2), stop)
    assert time.monotonic() - began < 6
    assert result.counts.ok > 0
    # The receiver may see it before the sender has read its last answers.
    assert set(result.errors) <= {"eof", "reset", "connect", "receiver_gone", "lost"}
    assert result.errors


def test_a_server_that_stands_still(server: Any, context_of: Any, drive: Any) -> None:
    """What is delivered after half a second was under way so long, and from the schedule even more waited."""

    def stall() -> None:
        server.process.send_signal(signal.SIGSTOP)
        time.sleep(0.5)
        server.process.send_signal(signal.SIGCONT)

    timer = threading.Timer(0.9, stall)
    timer.start()
    result = drive(context_of(server, kind="redis-stream", only=STREAM, **OPEN, duration_s=2.0))
    timer.join()
    assert result.metrics["lost"]["value"] == 0
    assert (Histogram.from_json(result.distributions["delivery"]["histogram"]).max_us or 0) > 300_000
    assert (Histogram.from_json(result.latency["all"]["schedule"]).percentile_us(99) or 0) > 300_000


def test_several_servers_are_refused(server: Any, context_of: Any) -> None:
    """Before anything is measured."""
    with pytest.raises(PrepareError, match="measures one server, and cache has 2 replicas"):
        redis_messages_node.prepare(context_of(server, server, kind="redis-pubsub", only=PUBSUB))


# the receiving side alone


def test_it_ends_with_its_worker(server: Any) -> None:
    """Also where the worker is killed."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        listener = Listener([Subscriber(("127.0.0.1", server.endpoint.port), server.secret, "c")], 0, SECOND_NS)
        os.write(writer, b"%d" % listener._pid)
        time.sleep(60)
        os._exit(0)
    listening = int(os.read(reader, 20))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    deadline = time.monotonic() + 5
    while os.path.exists(f"/proc/{listening}") and time.monotonic() < deadline:
        time.sleep(0.02)
    os.close(reader)
    os.close(writer)
    assert not os.path.exists(f"/proc/{listening}")


def test_nobody_there_is_said() -> None:
    """With what the kernel says."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(OSError, match="did not get ready: ConnectionRefusedError"):
        Listener([Subscriber(("127.0.0.1", port), "", "c")], 0, SECOND_NS)


@given(st.lists(st.integers(0, 10**19), min_size=1, max_size=6), st.lists(st.integers(0, 600), max_size=5))
def test_messages_are_read_however_they_are_cut(stamps: list[int], cuts: list[int]) -> None:
    """TCP keeps no boundaries."""
    data = b"".join(encode("message", "c", b"%020dABC" % stamp) for stamp in stamps)
    inbox = Subscriber(("127.0.0.1", 1), "", "c")
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    found = [stamp for start, end in pairwise(edges) for stamp in inbox.read(data[start:end])]
    assert found == stamps


def test_what_is_no_message_is_told() -> None:
    """An error of the server, bytes that make no sense, the end."""
    for data, error in ((b"-LOADING wait\r\n", "LOADING wait"), (b"HTTP\r\n", "not a reply")):
        with pytest.raises(ValueError, match=error):
            Consumer(("127.0.0.1", 1), "", "s", "c", 1).read(data)
    with pytest.raises(ConnectionError, match="closed the connection"):
        Subscriber(("127.0.0.1", 1), "", "c").read(b"")


def test_a_backlog_is_what_was_sent_and_not_yet_received() -> None:
    """At the end of each second of the window."""
    tape = Tape(10 * SECOND_NS, 14 * SECOND_NS)
    tape.add([9 * SECOND_NS], 9 * SECOND_NS + 5)  # warm-up
    tape.add([9 * SECOND_NS + 1], 10 * SECOND_NS + 1)  # sent in the warm-up, received in the window
    tape.add([10 * SECOND_NS + 2, 10 * SECOND_NS + 3], 12 * SECOND_NS + 1)
    tape.add([13 * SECOND_NS + 5], 15 * SECOND_NS)
    assert tape.waiting == [2, 2, 0, 1]
    assert tape.per_second == [1, 0, 2, 0]
    assert tape.received == 5
    assert tape.delivery.count == 3
    assert tape.delivery.max_ns == 2 * SECOND_NS - 1
