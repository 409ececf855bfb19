"""What the server says about itself under vLLM's names is what it sent."""

import json
import re

import pytest


def series(text):
    """Name with labels -> value."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {
        re.sub(r'model_name="[^"]*",engine="0",?', "", name): float(value)
        for name, value in (line.rsplit(" ", 1) for line in lines)
    }


def metrics(truth):
    return series(truth.ask("/metrics").body.decode())


@pytest.fixture
def truth(serve):
    with serve() as truth:
        yield truth


def test_totals(truth):
    """Requests by their ends, tokens of prompts and answers."""
    truth.chat(tokens=3, cached_tokens=2)
    truth.complete(tokens=2, prompt_tokens=10)
    truth.ask("/v1/completions", truth.completion_body(tokens=4) | {"stream": False})
    truth.ask("/api/chat", {"messages": [], "options": {"num_predict": 9}})  # loads, and that is all
    truth.ask("/v1/completions", truth.completion_body(tokens=5, error_after=2))
    truth.ask("/v1/completions", truth.completion_body(tokens=5, abort_after=1))
    truth.ask("/v1/completions", truth.completion_body() | {"afb": {"tokens": 1, "ttft": 0}})
    truth.ask("/v1/completions", b"nonsense")
    found = metrics(truth)
    assert found["vllm:generation_tokens_total{}"] == 3 + 2 + 4 + 2 + 1 + 1
    assert found["vllm:prompt_tokens_total{}"] == 3 + 10 + 3 + 3 + 3 + 3
    assert found["vllm:prompt_tokens_cached_total{}"] == 2
    ends = {re.search('finished_reason="(.*)"', name)[1]: value for name, value in found.items() if "success" in name}
    assert ends == {"length": 3, "stop": 1, "error": 1, "abort": 1}
    assert found["afb_truth:requests_total{}"] == 7
    assert found["vllm:num_requests_running{}"] == found["vllm:num_requests_waiting{}"] == 0


def test_histograms(truth):
    """Of the times that were really sent, in cumulative buckets."""
    for _ in range(3):
        truth.complete(tokens=4, ttft="30ms", gap="6ms")
    found = metrics(truth)
    records = truth.log()["records"]
    assert found["vllm:time_to_first_token_seconds_count{}"] == 3
    assert found["vllm:time_to_first_token_seconds_sum{}"] == pytest.approx(
        sum(record["sent_ns"][1] for record in records) / 1e9
    )
    assert found['vllm:time_to_first_token_seconds_bucket{le="0.02"}'] == 0
    assert found['vllm:time_to_first_token_seconds_bucket{le="+Inf"}'] == 3
    assert found["vllm:inter_token_latency_seconds_count{}"] == 9
    assert found["vllm:e2e_request_latency_seconds_count{}"] == 3
    assert found["vllm:e2e_request_latency_seconds_sum{}"] == pytest.approx(
        sum(record["sent_ns"][4] for record in records) / 1e9
    )
    for name in ("time_to_first_token", "inter_token_latency", "e2e_request_latency"):
        buckets = [value for key, value in found.items() if key.startswith(f"vllm:{name}_seconds_bucket")]
        assert buckets == sorted(buckets)


def test_tokens_count_as_they_are_sent(truth):
    """Also of an answer that is not over, so that a rate over time can be read from them."""
    client = truth.client()
    data = json.dumps(truth.completion_body(tokens=1000, gap="5ms")).encode()
    client.send(b"POST /v1/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % (len(data), data))
    client.socket.recv(1000)
    client.socket.recv(1000)
    seen = [metrics(truth)["vllm:generation_tokens_total{}"] for _ in range(5)]
    assert seen == sorted(seen)
    assert 0 < seen[-1] < 1000


def test_it_is_a_page_of_metrics(truth):
    """Each series has its type before it, and the name of the model is escaped."""
    from aifactory_bench.node.truth_metrics import Metrics

    page = truth.ask("/metrics")
    assert page.header["content-type"].startswith("text/plain; version=0.0.4")
    types = dict(re.findall(r"# TYPE (\S+) (\S+)", page.body.decode()))
    for name in series(page.body.decode()):
        base = name.partition("{")[0]
        assert base in types or types[re.sub("_(bucket|sum|count)$", "", base)] == "histogram"
    assert b'model_name="a\\"b\\\\c\\n"' in Metrics('a"b\\c\n').text([], 0)
