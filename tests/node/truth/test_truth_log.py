"""The record: what was really sent and when, how late that was, and whose fault."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from aifactory_bench.node.truth_record import Log, Record

MS = 1_000_000


def record_of(*sendings, number=1):
    """A record with (due, sent) in ms, one token each."""
    record = Record(number, "/", 1000 * MS, 0)
    for due, sent in sendings:
        record.kinds.append("C")
        record.due_ns.append(1000 * MS + round(due * MS))
        record.sent_ns.append(1000 * MS + round(sent * MS))
        record.tokens.append(1)
    return record


@pytest.mark.parametrize(
    ("sendings", "late"),
    [
        ([(100, 100.9), (120, 120.9)], False),  # below 1 ms
        ([(100, 104.9), (120, 120)], False),  # below 5 % of 100 ms
        ([(100, 105.1), (120, 120)], True),
        ([(100, 100), (120, 121.1)], True),  # above 1 ms, which is 5 % of 20 ms
        ([(10, 11.1)], True),
        ([(10, 10), (10, 15), (10, 15.5)], True),
        ([(10, 10), (10, 10.9), (10, 11.8)], False),  # due together: each when the one before is out
        ([], False),
    ],
)
def test_when_a_server_counts_as_late(sendings, late):
    """Later than 1 ms, and than 5 % of the gap before it."""
    assert record_of(*sendings).server_late() is late


def test_what_holds_no_token_is_never_late():
    """Head, role and end are no measurement."""
    record = record_of((0, 90), (100, 100))
    record.tokens[0] = 0
    assert record.server_late() is False
    assert record.lateness_ns() == [0]


def test_percentiles_of_lateness():
    """By nearest rank, over all that holds tokens."""
    log = Log(1000)
    for number in range(1, 101):
        log.add(record_of((10, 10 + number / 1000), number=number))
    summary = log.summary()
    assert (summary["lateness_p50_us"], summary["lateness_p99_us"], summary["lateness_max_us"]) == (50, 99, 100)
    assert summary["server_late_requests"] == 0


def test_the_oldest_are_forgotten(serve):
    """And counted, so that nobody takes the rest for all."""
    with serve("--keep", "3") as truth:
        for _ in range(5):
            truth.complete(tokens=1)
        log = truth.log()
        assert (log["requests"], log["forgotten"]) == (3, 2)
        assert [record["number"] for record in log["records"]] == [3, 4, 5]
        truth.log(reset=1)
        log = truth.log()
        assert (log["requests"], log["forgotten"], log["records"]) == (0, 0, [])


def test_a_record(truth):
    """Everything that is known about a request."""
    before_ns = time.monotonic_ns()
    truth.complete(tokens=3, tokens_per_chunk=2, ttft="10ms", gap="5ms")
    record = truth.last()
    assert before_ns < record["received_ns"] < time.monotonic_ns()
    assert (record["path"], record["status"], record["end"], record["stream"]) == ("/v1/completions", 200, "done", True)
    assert (record["kinds"], record["tokens"]) == ("HCCF", [0, 2, 1, 0])
    assert (record["prompt_tokens"], record["output_tokens"], record["blocked"]) == (3, 3, False)
    assert record["due_ns"] == [0, 10 * MS, 15 * MS, 15 * MS]
    assert record["sent_ns"] == sorted(record["sent_ns"])
    assert record["read_late_ns"] >= 0
    summary = truth.log(records=0)
    assert "records" not in summary
    assert (summary["requests"], summary["sendings"], summary["tokens"]) == (1, 2, 3)
    assert summary["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert abs(summary["monotonic_ns"] - time.monotonic_ns()) < 10**9


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_log_is_written_at_the_end(serve, tmp_path, number):
    """One line for the whole and one a request; nothing else is left in the folder."""
    file = tmp_path / "truth.jsonl"
    with serve("--log", str(file)) as truth:
        for _ in range(3):
            truth.chat(tokens=2)
        asked = truth.log()
        assert not file.exists()
        os.kill(truth.pid, number)
        until = time.monotonic() + 5
        while not file.exists():
            assert time.monotonic() < until
            time.sleep(0.01)
    summary, *records = (json.loads(line) for line in file.read_text().splitlines())
    assert records == asked["records"]
    clocks = {"wall_ns", "monotonic_ns"}
    assert {name: summary[name] for name in set(summary) - clocks} == {
        name: asked[name] for name in set(asked) - clocks - {"records"}
    }
    assert list(tmp_path.glob("truth*")) == [file]


def test_a_server_that_stood_still_says_so(serve):
    """Stopped for 100 ms within a stream: the chunks are late, the request is marked."""
    with serve() as truth:
        client = truth.client()
        data = json.dumps(truth.chat_body(tokens=20, ttft="10ms", gap="10ms")).encode()
        client.send(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % (len(data), data))
        time.sleep(0.06)
        os.kill(truth.pid, signal.SIGSTOP)
        time.sleep(0.1)
        os.kill(truth.pid, signal.SIGCONT)
        client.read()
        record = truth.last()
        assert record["server_late"] is True
        assert record["late_max_us"] > 50_000
        # The plan is kept: it catches up.
        assert record["due_ns"][20] == 200 * MS
        assert record["sent_ns"][20] < 250 * MS
        assert truth.log(records=0)["server_late_requests"] == 1


def test_requests_are_stamped_by_the_kernel(serve):
    """One that arrived while the server stood still was received then, not when it was read."""
    with serve() as truth:
        client = truth.client()
        assert client.ask("/health").status == 200
        data = json.dumps(truth.chat_body(tokens=1, ttft="300ms", gap=0)).encode()
        os.kill(truth.pid, signal.SIGSTOP)
        sent_ns = client.send(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % (len(data), data))
        time.sleep(0.1)
        os.kill(truth.pid, signal.SIGCONT)
        client.read()
        record = truth.last()
        assert abs(record["received_ns"] - sent_ns) < 20 * MS
        assert record["read_late_ns"] > 80 * MS
        # The time to the first token counts from there.
        assert record["due_ns"][1] == 300 * MS


def test_what_does_not_read_a_log_is_not_in_it(truth):
    """Questions about the server itself are no requests for tokens."""
    for path in ("/health", "/metrics", "/v1/models", "/api/tags"):
        truth.ask(path)
    truth.ask("/api/pull", {"model": "x"})
    truth.ask("/api/generate", {"model": "x", "prompt": ""})
    assert truth.log(records=0)["requests"] == 0
