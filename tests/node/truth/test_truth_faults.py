"""Everything that goes wrong with a server, made to go wrong: errors, lost connections, clients that leave or do not read."""

import json
import socket
import time
from itertools import pairwise

import pytest

DONE_S = 5.0


def metric(truth, name):
    line = next(line for line in truth.ask("/metrics").body.decode().splitlines() if line.startswith(name))
    return int(line.rpartition(" ")[2])


def until(condition):
    end = time.monotonic() + DONE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def ended(truth, count=1):
    """Wait for so many records, and return them."""
    until = time.monotonic() + DONE_S
    while len(records := truth.log()["records"]) < count:
        assert time.monotonic() < until, records
        time.sleep(0.01)
    return records


@pytest.mark.parametrize("status", [400, 429, 500, 503, 529])
def test_an_error_before_the_stream(truth, status):
    """A status and a JSON object, at once; the connection stays."""
    client = truth.client()
    answer = client.ask("/v1/chat/completions", truth.chat_body(error_status=status, error_message="too busy", ttft="5s"))
    assert answer.status == status
    assert answer.json["error"]["message"] == "too busy"
    assert client.ask("/v1/chat/completions", truth.chat_body(tokens=1)).text == "baba"
    record = truth.log()["records"][0]
    assert (record["status"], record["end"], record["output_tokens"]) == (status, "error", 0)
    answer = truth.ask("/api/chat", truth.chat_body(error_status=status))
    assert (answer.status, answer.json) == (status, {"error": "made to fail"})


@pytest.mark.parametrize("after", [0, 2, 4])
def test_an_error_inside_the_stream(truth, after):
    """The status stays 200, tokens came, and then an object with an error; no `[DONE]`."""
    answer = truth.chat(tokens=4, error_after=after)
    assert (answer.status, answer.how) == (200, "whole")
    assert len(answer.text.split()) == after
    assert json.loads(answer.data[-1])["error"] == {
        "message": "made to fail",
        "type": "InternalServerError",
        "param": None,
        "code": 500,
    }
    record = truth.last()
    assert (record["end"], record["output_tokens"], record["kinds"][-1]) == ("error", after, "X")


def test_an_error_as_an_event(truth):
    """With its name, where somebody looks for that."""
    answer = truth.chat(tokens=4, error_after=1, error_event=True)
    assert b'event: error\ndata: {"error":' in answer.body


def test_an_error_after_the_end(truth):
    """There is none."""
    assert truth.chat(tokens=4, error_after=5).data[-1] == "[DONE]"


def test_an_error_in_place_of_a_whole_answer(truth):
    """Without a stream there is a status to say it with."""
    body = truth.chat_body(error_after=2, ttft="10ms", gap="5ms") | {"stream": False}
    answer = truth.ask("/v1/chat/completions", body)
    assert answer.status == 500
    assert answer.pieces[0][0] - answer.sent_ns > 19_000_000
    record = truth.last()
    assert (record["end"], record["status"], record["output_tokens"]) == ("error", 500, 0)


@pytest.mark.parametrize(("way", "how"), [("close", "closed"), ("reset", "reset")])
def test_a_stream_that_is_given_up(truth, way, how):
    """After two chunks, without an end of the body."""
    answer = truth.chat(tokens=5, abort_after=2, abort=way, gap="5ms")
    assert answer.how == how
    assert answer.text == "baba beba"
    assert not answer.raw.endswith(b"0\r\n\r\n")
    record = ended(truth)[0]
    assert (record["end"], record["output_tokens"]) == ("aborted", 2)


def test_a_whole_answer_that_is_given_up(truth):
    """Half of it."""
    answer = truth.ask("/v1/completions", truth.completion_body(abort_after=1) | {"stream": False})
    assert answer.how == "closed"
    assert 0 < len(answer.raw.partition(b"\r\n\r\n")[2]) < int(answer.header["content-length"])


def test_a_share_of_requests(truth):
    """Drawn with the request's seed: some fail, and the same ones again."""

    def failed():
        statuses = [
            truth.ask("/v1/completions", truth.completion_body(tokens=1, error_status=503, fault_share=0.3, seed=seed)).status
            for seed in range(60)
        ]
        return [seed for seed, status in enumerate(statuses) if status == 503]

    first = failed()
    assert 6 <= len(first) <= 32
    assert failed() == first
    assert truth.chat(error_after=1, fault_share=0).data[-1] == "[DONE]"


def test_a_client_that_leaves(truth):
    """Its answer ends there, and nothing is sent into the void for long."""
    client = truth.client()
    client.socket.sendall(_request(truth.chat_body(tokens=1000, gap="5ms")))
    client.socket.recv(1 << 16)
    time.sleep(0.03)
    client.close()
    (record,) = ended(truth)
    assert record["end"] == "client_closed"
    assert 0 < record["output_tokens"] < 500
    assert truth.ask("/health").status == 200


def _request(body):
    data = json.dumps(body).encode()
    return b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % (len(data), data)


def test_a_client_that_does_not_read(truth):
    """What comes later is put off and not late, and all of it comes when it reads."""
    client = truth.client()
    client.socket.close()
    client.socket = socket.socket()
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
    client.socket.settimeout(10)
    client.socket.connect(("127.0.0.1", truth.port))
    sent_ns = client.send(_request(truth.chat_body(tokens=900_000, tokens_per_chunk=100, gap=0, ttft=0)))
    seen = [-1]

    def stands_still():
        seen.append(metric(truth, "vllm:generation_tokens_total"))
        time.sleep(0.1)
        return 0 < seen[-1] == seen[-2]

    until(stands_still)
    assert seen[-1] < 900_000
    time.sleep(0.5)
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    answer = client.read(sent_ns)
    assert answer.how == "whole"
    assert len(answer.text.split(" ")) == 900_000
    (record,) = ended(truth)
    assert (record["blocked"], record["end"], record["output_tokens"]) == (True, "done", 900_000)
    # Half a second of standing still are in no lateness.
    assert record["late_max_us"] < 400_000
    assert record["sent_ns"][-1] > 500_000_000


def test_slots(serve):
    """No more than so many at a time; the others wait, and their time starts when it is their turn."""
    with serve("--slots", "1") as truth:
        clients = [truth.client() for _ in range(3)]
        for client in clients:
            client.send(_request(truth.chat_body(tokens=2, ttft="140ms", gap="10ms")))
        until(lambda: metric(truth, "vllm:num_requests_waiting") == 2)
        assert metric(truth, "vllm:num_requests_running") == 1
        for client in clients:
            client.read()
        records = truth.log()["records"]
        starts = [record["received_ns"] + record["start_ns"] for record in records]
        assert records[0]["start_ns"] == 0
        assert all(149_000_000 < later - earlier < 500_000_000 for earlier, later in pairwise(starts))
        assert all(record["due_ns"][1] == record["start_ns"] + 140_000_000 for record in records)


def test_a_client_that_leaves_while_it_waits_for_a_slot(serve):
    """Its turn goes to the next."""
    with serve("--slots", "1") as truth:
        clients = [truth.client() for _ in range(3)]
        for number, client in enumerate(clients):
            client.send(_request(truth.chat_body(tokens=2, ttft="140ms", gap="10ms")))
            until(lambda number=number: metric(truth, "vllm:num_requests_waiting") == number)
        clients[1].close()
        assert clients[0].read().text == "baba beba"
        assert clients[2].read().text == "baba beba"
        records = truth.log()["records"]
        assert sorted(record["end"] for record in records) == ["client_closed", "done", "done"]


def test_requests_that_were_being_answered_at_the_end(serve, tmp_path):
    """Are in the log as far as they came."""
    log = tmp_path / "truth.jsonl"
    with serve("--log", str(log)) as truth:
        client = truth.client()
        client.send(_request(truth.chat_body(tokens=1000, gap="5ms")))
        client.socket.recv(1 << 16)
        client.socket.recv(1 << 16)
    records = [json.loads(line) for line in log.read_text().splitlines()][1:]
    assert [record["end"] for record in records] == ["stopped"]
    assert 0 < records[0]["output_tokens"] < 1000
