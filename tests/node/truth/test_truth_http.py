"""HTTP: connections that stay, those that do not, who may ask, and requests that make no sense."""

import json
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aifactory_bench.node.truth_api import Api, Job, Settings
from aifactory_bench.node.truth_http import Head
from aifactory_bench.node.truth_metrics import Metrics
from aifactory_bench.node.truth_record import Log


def test_a_connection_is_used_again(truth):
    """As often as one likes, for streams and for whole answers."""
    client = truth.client()
    for _ in range(3):
        assert client.ask("/v1/chat/completions", truth.chat_body(tokens=2)).text == "baba beba"
        assert client.ask("/health").status == 200
        assert client.ask("/v1/completions", truth.completion_body(tokens=1) | {"stream": False}).status == 200
        assert client.ask("/nowhere").status == 404


def test_requests_that_are_sent_ahead(truth):
    """Are answered one after another; the delays of the second begin when the first is answered."""
    client = truth.client()
    data = json.dumps(truth.completion_body(tokens=1, ttft="20ms")).encode()
    one = b"POST /v1/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % (len(data), data)
    client.send(3 * one)
    until = time.monotonic() + 5
    while truth.log(records=0)["requests"] < 3:
        assert time.monotonic() < until
        time.sleep(0.01)
    records = truth.log()["records"]
    assert [record["end"] for record in records] == ["done"] * 3
    ends = [record["received_ns"] + record["sent_ns"][-1] for record in records]
    assert all(record["received_ns"] >= end for record, end in zip(records[1:], ends, strict=False))


def test_a_request_in_pieces(truth):
    """However slowly it comes; it counts from its last byte on."""
    client = truth.client()
    data = json.dumps(truth.completion_body(tokens=1)).encode()
    whole = b"POST /v1/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % (len(data), data)
    sent_ns = 0
    for at in range(0, len(whole), 40):
        sent_ns = client.send(whole[at : at + 40])
        time.sleep(0.002)
    assert client.read().text == "baba"
    assert abs(truth.last()["received_ns"] - sent_ns) < 20_000_000


def test_connections_that_end(truth):
    """When the client wants it, and for HTTP/1.0, whose streams have no chunks."""
    answer = truth.ask("/v1/completions", truth.completion_body(tokens=1), headers=["Connection: close"])
    assert answer.text == "baba"
    assert _then_ends(truth, "/health", headers=["connection: close"])
    answer = truth.ask("/v1/completions", truth.completion_body(tokens=2), version="HTTP/1.0")
    assert answer.how == "closed"
    assert "transfer-encoding" not in answer.header
    assert answer.text == "baba beba"
    assert answer.data[-1] == "[DONE]"


def _then_ends(truth, path, **keywords):
    client = truth.client()
    assert client.ask(path, **keywords).header.get("connection") == "close"
    return client.socket.recv(100) == b""


def test_a_body_that_waits(truth):
    """`Expect: 100-continue`, as some clients send for long prompts."""
    client = truth.client()
    data = json.dumps(truth.completion_body(tokens=1) | {"stream": False}).encode()
    client.send(b"POST /v1/completions HTTP/1.1\r\nExpect: 100-continue\r\ncontent-length: %d\r\n\r\n" % len(data))
    assert client.socket.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(data)
    assert client.read().json["choices"][0]["text"] == "baba"


@pytest.mark.parametrize(
    ("data", "status", "text"),
    [
        (b"nonsense\r\n\r\n", 400, "not a request"),
        (b"GET / HTTP/2.0\r\n\r\n", 505, "only HTTP/1.1"),
        (b"GET / HTTP/1.1\r\nnonsense\r\n\r\n", 400, "not a header"),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", 411, "Content-Length"),
        (b"POST / HTTP/1.1\r\ncontent-length: many\r\n\r\n", 400, "no number"),
        (b"POST / HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n", 413, "bytes"),
        (b"POST / HTTP/1.1\r\ncontent-length: " + b"9" * 6000 + b"\r\n\r\n", 413, "bytes"),
        (b"GET /" + b"x" * 70_000, 431, "too long"),
    ],
)
def test_what_is_no_request(truth, data, status, text):
    """Is answered with what is wrong, and the connection ends."""
    client = truth.client()
    client.send(data)
    answer = client.read()
    assert answer.status == status
    assert text in answer.json["error"]
    assert client.socket.recv(100) == b""


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [("/nowhere", "GET", 404), ("/health", "DELETE", 405), ("/v1/models", "POST", 405), ("/v1/completions", "GET", 405)],
)
def test_wrong_paths_and_methods(truth, path, method, status):
    """Each with its status."""
    answer = truth.ask(path, b"{}" if method == "POST" else None, method=method)
    assert answer.status == status
    assert answer.json["error"]


def test_head(truth):
    """No body, but its size."""
    client = truth.client()
    client.send(b"HEAD /api/version HTTP/1.1\r\n\r\nGET /health HTTP/1.1\r\n\r\n")
    data = b""
    while data.count(b"\r\n\r\n") < 2:
        data += client.socket.recv(1000)
    first, second, rest = data.split(b"\r\n\r\n")
    assert b"content-length: 24" in first
    assert second.startswith(b"HTTP/1.1 200")
    assert rest == b""


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"afb": {"ttfd": "1ms"}}, "afb.ttfd: there is no such option; there are: abort, abort_after, cached_tokens"),
        ({"afb": {"ttft": "soon"}}, "afb.ttft: must be a duration such as 50ms"),
        ({"afb": {"tokens": -1}}, "afb.tokens: must be a whole number from 0 to 1000000, found -1"),
        ({"afb": {"tokens": 1.5}}, "afb.tokens: must be a whole number"),
        ({"afb": {"role": "user"}}, "afb.role: must be one of at_once, before_first, with_first, none; found 'user'"),
        ({"afb": {"done": 3}}, "afb.done: must be yes or no"),
        ({"afb": {"error_status": 200}}, "afb.error_status: must be 0, or a status from 400 to 599"),
        ({"afb": {"fault_share": 2}}, "afb.fault_share: must be a number from 0 to 1"),
        ({"afb": {"fault_share": "x"}}, "afb.fault_share: must be a number from 0 to 1"),
        ({"afb": {"stall": "x"}}, "afb.stall: must be TOKENS:PAUSE"),
        ({"afb": {"tokens_per_chunk": []}}, "afb.tokens_per_chunk: must hold at least one"),
        ({"afb": {"error_message": 3}}, "afb.error_message: must be a text"),
        ({"afb": {"error_message": "\ud800"}}, "whole characters"),
        ({"afb": {"ttft": 10**400}}, "afb.ttft: "),
        ({"afb": 3}, "afb: must be an object"),
        ({"max_tokens": -1}, "max_tokens: must be a whole number"),
        ({"max_tokens": 10**9}, "max_tokens: must be a whole number from 0 to 1000000"),
        ({"stream": "yes"}, "stream: must be true or false"),
        ({"stream_options": 3}, "stream_options: must be an object"),
        ({"model": "\ud800"}, "whole characters"),
        ({"messages": "x"}, "messages: must be a list"),
        ({"messages": ["x"]}, "messages: must be objects"),
    ],
)
def test_wrong_bodies(truth, body, text):
    """400, and what is wrong with which key."""
    answer = truth.ask("/v1/chat/completions", {"messages": [], **body})
    assert answer.status == 400
    assert text in answer.json["error"]["message"]
    assert truth.log()["records"][-1]["end"] == "refused"


def test_several_prompts(truth):
    """One is answered."""
    answer = truth.ask("/v1/completions", {"prompt": ["a", "b"]})
    assert answer.status == 400
    assert "several prompts" in answer.json["error"]["message"]
    assert truth.ask("/v1/completions", {"prompt": ["a"], "afb": {"ttft": 0, "gap": 0}}).status == 200


@pytest.mark.parametrize("place", ["file", "variable"])
def test_the_key(serve, tmp_path, place):
    """401 for whoever does not have it; a few paths are open."""
    file = tmp_path / "key"
    file.write_text("s3cret\n")
    options = ("--key-file", str(file)) if place == "file" else ()
    environment = {} if place == "file" else {"AFB_TRUTH_KEY": "s3cret"}
    with serve(*options, environment=environment) as truth:
        for headers in ((), ("authorization: Bearer wrong",), ("authorization: Basic s3cret",)):
            for path in ("/v1/completions", "/api/chat"):
                assert truth.ask(path, truth.completion_body(), headers=headers).status == 401
            for path in ("/v1/models", "/api/tags", "/afb/log"):
                assert truth.ask(path, headers=headers).status == 401
        for path in ("/health", "/metrics", "/version", "/", "/api/version"):
            assert truth.ask(path).status == 200
        headers = ("Authorization: bearer s3cret",)
        assert truth.ask("/v1/completions", truth.completion_body(tokens=1), headers=headers).text == "baba"
        log = truth.ask("/afb/log", headers=headers).json
        assert [record["status"] for record in log["records"]] == [401] * 6 + [200]
        assert "s3cret" not in json.dumps(log)


class _Unread:
    def __call__(self):
        return [], 0


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
names = [
    "model",
    "prompt",
    "messages",
    "stream",
    "stream_options",
    "max_tokens",
    "options",
    "keep_alive",
    "afb",
    "afb_truth",
    "name",
]
afb = st.dictionaries(st.sampled_from(["ttft", "gap", "tokens", "stall", "role", "usage", "seed", "done", "text"]), json_values)
bodies = st.dictionaries(st.sampled_from(names), json_values) | st.builds(
    lambda more: {"prompt": "x", "messages": [], "afb": more}, afb
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    body=bodies.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=20) | st.just(b"[" * 20_000),
    path=st.sampled_from(["/v1/completions", "/v1/chat/completions", "/api/generate", "/api/chat", "/api/pull"]),
)
def test_no_body_brings_it_down(body, path):
    """Whatever is sent, there is an answer; what is promised can be made."""
    api = Api(Settings(), Log(10), Metrics("m"), _Unread())
    head = Head("POST", path, "", len(body), True, True, False, "")
    reply = api.reply(head, body, 1, 0)
    if isinstance(reply, Job):
        for number, piece in enumerate(reply.pieces):
            assert (b"%19d" % 1).join(piece.parts) or piece.kind == "A"
            if number > 50:
                break
    else:
        assert reply.startswith((b"HTTP/1.1 4", b"HTTP/1.1 2"))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=60)
    | st.text(alphabet="GET POST/:v1\r\n \0²ÿcontent-length0159").map(lambda text: text.encode("latin-1"))
)
def test_no_bytes_bring_it_down(truth, data):
    """Whatever a connection begins with, the others are served."""
    client = truth.client()
    client.send(data + b"\r\n\r\n")
    client.close()
    truth.open.remove(client)
    assert truth.ask("/health").status == 200
