"""Ollama's own interface, as its source has it: lines of JSON, models that are loaded and pulled."""

import re
import time

import pytest


def generate(*, tokens=3, **more):
    afb = {"ttft": "2ms", "gap": "1ms", **more.pop("afb", {})}
    return {"model": "m", "prompt": "one two three", "options": {"num_predict": tokens}, "afb": afb, **more}


def dialogue(**more):
    body = generate(**more)
    del body["prompt"]
    return {**body, "messages": [{"role": "user", "content": "one two"}]}


def test_generate(truth):
    """A line a token, then one with the figures."""
    answer = truth.ask("/api/generate", generate(afb={"ttft": "30ms", "gap": "10ms"}))
    assert answer.header["content-type"] == "application/x-ndjson"
    assert answer.header["transfer-encoding"] == "chunked"
    *tokens, last = answer.lines
    assert [(line["response"], line["done"]) for line in tokens] == [("baba", False), (" beba", False), (" biba", False)]
    assert all(set(line) == {"model", "created_at", "response", "done"} for line in tokens)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", last["created_at"])
    assert (last["response"], last["done"], last["done_reason"]) == ("", True, "length")
    assert (last["prompt_eval_count"], last["eval_count"]) == (3, 3)
    # Nothing was loaded: as in Ollama, what is 0 is left out.
    assert "load_duration" not in last
    sent = [at for at, kind in zip(truth.last()["sent_ns"], truth.last()["kinds"], strict=True) if kind == "C"]
    assert last["prompt_eval_duration"] == sent[0]
    assert last["eval_duration"] == sent[-1] - sent[0]
    assert last["total_duration"] >= sent[-1]


def test_chat(truth):
    """Messages in place of responses."""
    answer = truth.ask("/api/chat", dialogue(tokens=2))
    assert [line["message"] for line in answer.lines] == [
        {"role": "assistant", "content": "baba"},
        {"role": "assistant", "content": " beba"},
        {"role": "assistant", "content": ""},
    ]
    assert answer.lines[-1]["prompt_eval_count"] == 2


def test_an_answer_that_is_not_streamed(truth):
    """One object, after the time of all tokens."""
    answer = truth.ask("/api/generate", generate(stream=False, afb={"ttft": "20ms", "gap": "5ms"}))
    assert answer.header["content-type"] == "application/json"
    assert (answer.json["response"], answer.json["done"], answer.json["eval_count"]) == ("baba beba biba", True, 3)
    assert answer.json["total_duration"] == 30_000_000
    assert (answer.json["prompt_eval_duration"], answer.json["eval_duration"]) == (20_000_000, 10_000_000)
    assert answer.pieces[0][0] - answer.sent_ns >= 29_000_000
    figures = truth.ask("/api/generate", generate(stream=False, afb={"ttft": "uniform:10ms:20ms", "empty_before": 3})).json
    assert 10_000_000 <= figures["prompt_eval_duration"] <= 20_000_000
    assert figures["eval_duration"] == 2_000_000
    answer = truth.ask("/api/chat", dialogue(stream=False, tokens=3, afb={"reasoning": 1}))
    assert answer.json["message"] == {"role": "assistant", "content": " beba biba", "thinking": "baba"}


def test_thinking(truth):
    """In a field of its own."""
    lines = truth.ask("/api/chat", dialogue(tokens=2, afb={"reasoning": 1})).lines
    assert lines[0]["message"] == {"role": "assistant", "content": "", "thinking": "baba"}
    assert lines[1]["message"] == {"role": "assistant", "content": " beba"}
    assert truth.ask("/api/generate", generate(tokens=1, afb={"reasoning": 1})).lines[0]["thinking"] == "baba"


def test_stamps_and_figures(truth):
    """Stamps on every line when they are wanted; no counts when there shall be none."""
    lines = truth.ask("/api/generate", generate(afb_truth=True)).lines
    assert len({line["afb"][0] for line in lines}) == 1
    assert [line["afb"][1] for line in lines] == sorted(line["afb"][1] for line in lines)
    last = truth.ask("/api/generate", generate(afb={"usage": "none"})).lines[-1]
    assert "eval_count" not in last
    assert last["total_duration"] > 0


def test_an_error_line(truth):
    """The status stays 200, and the line ends the stream."""
    answer = truth.ask("/api/generate", generate(afb={"error_after": 2, "error_message": "out of memory"}))
    assert (answer.status, answer.how) == (200, "whole")
    assert [line.get("response") for line in answer.lines] == ["baba", " beba", None]
    assert answer.lines[-1] == {"error": "out of memory"}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "JSON object"),
        (b"[1]", "JSON object"),
        ({"model": 3}, "model: must be a text"),
        ({"prompt": 3}, "prompt: must be a text"),
        ({"prompt": "x", "options": {"num_predict": "all"}}, "num_predict: must be a whole number"),
        ({"prompt": "x", "options": 3}, "options: must be an object"),
    ],
)
def test_wrong_requests(truth, body, text):
    """400, and what is wrong, in Ollama's words."""
    answer = truth.ask("/api/generate", body, method="POST")
    assert answer.status == 400
    assert text in answer.json["error"]


def test_no_limit(truth):
    """-1 is no number of tokens."""
    assert len(truth.ask("/api/generate", generate(tokens=-1, afb={"gap": 0})).lines) == 17


def test_versions_and_lists(truth):
    """What clients look at first."""
    assert bytes(truth.ask("/").body) == b"Ollama is running"
    assert truth.ask("/api/version").json["version"]
    (model,) = truth.ask("/api/tags").json["models"]
    assert model["name"] == model["model"] == "truth"
    assert set(model["details"]) >= {"format", "family", "parameter_size", "quantization_level"}
    assert len(model["digest"]) == 64


def test_loading(serve):
    """The first request for a model waits and says so; an empty prompt only loads; keep_alive 0 unloads."""
    with serve("--load", "60ms") as truth:
        assert truth.ask("/api/ps").json["models"] == []
        first, second = (truth.ask("/api/generate", generate(tokens=1)) for _ in range(2))
        assert first.lines[-1]["load_duration"] == 60_000_000
        assert "load_duration" not in second.lines[-1]
        assert first.lines[-1]["prompt_eval_duration"] < 50_000_000
        assert first.lines[-1]["total_duration"] > 62_000_000
        assert [model["name"] for model in truth.ask("/api/ps").json["models"]] == ["m"]
        unloaded = truth.ask("/api/generate", {"model": "m", "prompt": "", "keep_alive": 0}).json
        assert (unloaded["done"], unloaded["done_reason"], unloaded["response"]) == (True, "unload", "")
        assert truth.ask("/api/ps").json["models"] == []
        began = time.monotonic()
        loaded = truth.ask("/api/chat", {"model": "m", "messages": []}).json
        assert time.monotonic() - began >= 0.06
        assert loaded["done_reason"] == "load"
        assert loaded["message"] == {"role": "assistant", "content": ""}
        assert [model["name"] for model in truth.ask("/api/ps").json["models"]] == ["m"]


def test_pulling(serve):
    """In lines, in its time; afterwards the model is there."""
    with serve("--strict", "--pull", "80ms") as truth:
        missing = truth.ask("/api/generate", generate())
        assert missing.status == 404
        assert missing.json["error"] == "model 'm' not found; there are: truth"
        assert truth.ask("/v1/completions", {"model": "m"}).status == 404
        answer = truth.ask("/api/pull", {"model": "m"})
        assert answer.pieces[-1][0] - answer.sent_ns >= 80_000_000
        statuses = [line["status"] for line in answer.lines]
        assert statuses[0] == "pulling manifest"
        assert statuses[-3:] == ["verifying sha256 digest", "writing manifest", "success"]
        layers = [line for line in answer.lines if "digest" in line]
        assert [line["completed"] for line in layers] == sorted(line["completed"] for line in layers)
        assert layers[-1]["completed"] == layers[-1]["total"]
        assert [model["name"] for model in truth.ask("/api/tags").json["models"]] == ["truth", "m"]
        assert [model["id"] for model in truth.ask("/v1/models").json["data"]] == ["truth", "m"]
        assert truth.ask("/api/generate", generate()).status == 200
        assert truth.ask("/api/pull", {"model": "n", "stream": False}).json == {"status": "success"}
        assert truth.ask("/api/pull", {}).status == 400
        assert truth.log(records=0)["requests"] == 3
