"""Streams and whole answers in OpenAI's form, with everything that an option changes about them."""

import json

import pytest

WORDS = ["baba", " beba", " biba", " boba", " buba", " daba"]


def contents(answer):
    """Texts of the chunks, in order; None for those without a choice."""
    return [
        (item["choices"][0].get("text", item["choices"][0].get("delta", {}).get("content")) if item["choices"] else None)
        for item in answer.objects
    ]


def test_a_chat(truth):
    """Role at once, one chunk a token, the reason in the last one, the end."""
    answer = truth.chat(tokens=3)
    assert answer.status == 200
    assert answer.header["content-type"] == "text/event-stream; charset=utf-8"
    assert contents(answer) == ["", *WORDS[:3]]
    assert [item["choices"][0]["finish_reason"] for item in answer.objects] == [None, None, None, "length"]
    assert answer.objects[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert all("role" not in item["choices"][0]["delta"] for item in answer.objects[1:])
    assert {item["object"] for item in answer.objects} == {"chat.completion.chunk"}
    assert {item["model"] for item in answer.objects} == {"m"}
    assert len({item["id"] for item in answer.objects}) == 1
    assert answer.data[-1] == "[DONE]"
    assert all("usage" not in item and "afb" not in item for item in answer.objects)


def test_a_completion(truth):
    """No roles; the head is sent before the first token."""
    answer = truth.complete(tokens=3, ttft="30ms")
    assert contents(answer) == WORDS[:3]
    assert {item["object"] for item in answer.objects} == {"text_completion"}
    assert answer.pieces[0][1].endswith(b"\r\n\r\n")
    assert b"data:" not in answer.pieces[0][1]
    assert answer.pieces[1][0] - answer.pieces[0][0] > 15_000_000


def test_the_first_token_right_after_the_head(truth):
    """Servers that send nothing before they have a token."""
    answer = truth.complete(tokens=1, header="with_first")
    assert b"data:" in answer.pieces[0][1]
    assert truth.last()["kinds"] == "CF"


def test_an_answer_that_is_not_streamed(truth):
    """All at once after the time of all tokens, with usage."""
    body = {**truth.chat_body(tokens=4, ttft="10ms", gap="5ms"), "stream": False}
    answer = truth.ask("/v1/chat/completions", body)
    assert answer.header["content-type"] == "application/json"
    message = answer.json["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "".join(WORDS[:4])}
    assert answer.json["usage"] == {"prompt_tokens": 3, "total_tokens": 7, "completion_tokens": 4}
    assert answer.json["object"] == "chat.completion"
    assert answer.pieces[0][0] - answer.sent_ns >= 24_000_000
    assert truth.last()["due_ns"] == [25_000_000]
    answer = truth.ask("/v1/completions", {**truth.completion_body(tokens=2, usage="none"), "stream": False, "afb_truth": True})
    assert answer.json["choices"][0]["text"] == "".join(WORDS[:2])
    assert "usage" not in answer.json
    received, sent = answer.json["afb"]
    assert received < sent < answer.pieces[0][0]


def test_the_stream_is_asked_for(truth):
    """Without `stream` there is none, as with OpenAI."""
    body = truth.chat_body()
    del body["stream"]
    assert truth.ask("/v1/chat/completions", body).json["object"] == "chat.completion"


@pytest.mark.parametrize(
    ("role", "kinds", "first"),
    [
        ("at_once", "RCC", {"role": "assistant", "content": ""}),
        ("before_first", "HRCC", {"role": "assistant", "content": ""}),
        ("with_first", "HCC", {"role": "assistant", "content": "baba"}),
        ("none", "HCC", {"content": "baba"}),
    ],
)
def test_the_role(truth, role, kinds, first):
    """At once, right before the first token, in its chunk, or never."""
    answer = truth.chat(tokens=2, ttft="20ms", role=role)
    assert answer.objects[0]["choices"][0]["delta"] == first
    assert answer.text == "baba beba"
    record = truth.last()
    assert record["kinds"] == kinds + "F"
    due = dict(zip(kinds, record["due_ns"], strict=False))
    assert due.get("R", -1) == {"at_once": 0, "before_first": 20_000_000}.get(role, -1)
    assert record["due_ns"][len(kinds) - 2] == 20_000_000


@pytest.mark.parametrize(("tokens", "reason"), [(2, "stop"), (9, "length")])
def test_how_many_tokens(truth, tokens, reason):
    """What the option says, but never more than the request allows."""
    answer = truth.ask("/v1/chat/completions", truth.chat_body(tokens=5) | {"afb": {"ttft": 0, "gap": 0, "tokens": tokens}})
    assert answer.text == "".join(WORDS[: min(tokens, 5)])
    assert answer.objects[-1]["choices"][0]["finish_reason"] == reason


def test_tokens_of_a_request_that_does_not_say(truth):
    """16, as in OpenAI's completions; `max_completion_tokens` goes first."""
    body = truth.completion_body(gap=0)
    del body["max_tokens"]
    assert len(truth.ask("/v1/completions", body).objects) == 16
    body = truth.chat_body(tokens=9, gap=0) | {"max_completion_tokens": 2}
    assert truth.ask("/v1/chat/completions", body).text == "baba beba"


def test_no_token_at_all(truth):
    """The end comes in a chunk of its own, when the first token would have come."""
    answer = truth.chat(tokens=0, ttft="5ms")
    assert answer.text == ""
    assert answer.objects[-1]["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}
    assert truth.last()["due_ns"] == [0, 5_000_000]


@pytest.mark.parametrize(("given", "sizes"), [(1, [1] * 6), (4, [4, 2]), ("1,3", [1, 3, 1, 1]), ([2], [2, 2, 2])])
def test_tokens_per_chunk(truth, given, sizes):
    """Bundled, as speculative decoding and parsers do."""
    answer = truth.complete(tokens=6, tokens_per_chunk=given)
    ends = [sum(sizes[: number + 1]) for number in range(len(sizes))]
    assert contents(answer) == ["".join(WORDS[last - size : last]) for size, last in zip(sizes, ends, strict=True)]
    assert truth.last()["tokens"] == [0, *sizes, 0]


def test_the_end_in_a_chunk_of_its_own(truth):
    """As OpenAI does it."""
    answer = truth.chat(tokens=2, finish="own")
    last = answer.objects[-1]["choices"][0]
    assert (last["delta"], last["finish_reason"]) == ({}, "length")
    assert [item["choices"][0]["finish_reason"] for item in answer.objects[:-1]] == [None] * 3
    answer = truth.complete(tokens=2, finish="own")
    assert answer.objects[-1]["choices"][0] == {"index": 0, "text": "", "logprobs": None, "finish_reason": "length"}


def test_chunks_without_text(truth):
    """Before the first token, spread over the wait, and between tokens."""
    answer = truth.complete(tokens=4, ttft="30ms", gap="4ms", empty_before=2, empty_every=2)
    assert contents(answer) == ["", "", *WORDS[:2], "", *WORDS[2:4]]
    record = truth.last()
    assert record["kinds"] == "HEECCECCF"
    ms = [due // 1_000_000 for due in record["due_ns"]]
    assert ms == [0, 10, 20, 30, 34, 36, 38, 42, 42]


def test_reasoning_comes_first(truth):
    """In a field of its own, and no chunk holds both."""
    answer = truth.chat(tokens=5, reasoning=3, tokens_per_chunk=2, usage="own")
    deltas = [item["choices"][0]["delta"] for item in answer.objects if item["choices"]]
    assert deltas[1:] == [
        {"reasoning_content": "baba beba"},
        {"reasoning_content": " biba"},
        {"content": " boba buba"},
    ]
    assert truth.last()["kinds"] == "RTTCF"
    assert answer.objects[-1]["usage"]["completion_tokens_details"] == {"reasoning_tokens": 3}
    whole = truth.ask("/v1/chat/completions", {**truth.chat_body(tokens=3, reasoning=2), "stream": False}).json
    assert whole["choices"][0]["message"] == {"role": "assistant", "content": " biba", "reasoning_content": "baba beba"}
    assert truth.complete(tokens=2, reasoning=1).text == "baba beba"


def usages(answer):
    return [item.get("usage") for item in answer.objects]


def usage_of(completion_tokens, **more):
    total = {"prompt_tokens": 3, "total_tokens": 3 + completion_tokens, "completion_tokens": completion_tokens}
    return {**total, **more}


def test_usage(truth):
    """In a chunk of its own, in the last token's, in every one, or nowhere."""
    answer = truth.chat(tokens=2, usage="own")
    assert usages(answer) == [None, None, None, usage_of(2)]
    assert answer.objects[-1]["choices"] == []
    assert usages(truth.chat(tokens=2, usage="last")) == [None, None, usage_of(2)]
    assert usages(truth.chat(tokens=5, usage="last", tokens_per_chunk=2))[-1] == usage_of(5)
    assert usages(truth.chat(tokens=2, usage="every")) == [usage_of(0), usage_of(1), usage_of(2), usage_of(2)]
    assert usages(truth.chat(tokens=2, usage="none")) == [None, None, None]
    assert usages(truth.chat(tokens=2, finish="own", usage="last")) == [None, None, usage_of(2), None]


def test_usage_as_it_is_asked_for(truth):
    """By `stream_options`, as vLLM reads them."""
    body = truth.completion_body(tokens=2)
    assert usages(truth.ask("/v1/completions", body)) == [None, None]
    asked = body | {"stream_options": {"include_usage": True}}
    assert usages(truth.ask("/v1/completions", asked)) == [None, None, usage_of(2)]
    asked = body | {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
    assert usages(truth.ask("/v1/completions", asked)) == [usage_of(1), usage_of(2), usage_of(2)]
    asked = truth.chat_body(tokens=1, usage="none") | {"stream_options": {"include_usage": True}}
    assert usages(truth.ask("/v1/chat/completions", asked)) == [None, None]


def test_prompt_and_cached_tokens(truth):
    """Counted by words, or as the option says; the cached ones are stated."""
    answer = truth.chat(tokens=1, usage="own", prompt_tokens=100, cached_tokens=64)
    details = {"prompt_tokens_details": {"cached_tokens": 64}}
    assert usages(answer)[-1] == {"prompt_tokens": 100, "total_tokens": 101, "completion_tokens": 1, **details}
    body = truth.completion_body(tokens=1, usage="own") | {"prompt": [5, 6, 7, 8]}
    assert usages(truth.ask("/v1/completions", body))[-1]["prompt_tokens"] == 4
    parts = [{"type": "text", "text": "one two"}, {"type": "image_url", "image_url": {}}]
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": parts}, {"role": "assistant"}]
    body = truth.chat_body(tokens=1, usage="own") | {"messages": messages}
    assert usages(truth.ask("/v1/chat/completions", body))[-1]["prompt_tokens"] == 4


def test_without_the_last_event(truth):
    """Some servers leave `[DONE]` out; the body ends all the same."""
    answer = truth.chat(tokens=2, done=False)
    assert answer.how == "whole"
    assert "[DONE]" not in answer.data
    assert answer.text == "baba beba"


def test_line_ends(truth):
    """Both that the format allows."""
    assert b"\r\n\r\n" not in truth.chat(line_end="lf").body
    answer = truth.chat(line_end="crlf", comment_every=2)
    assert answer.body.count(b"\r\n\r\n") == answer.body.count(b"\n") // 2
    assert answer.text == "".join(WORDS[:4])


def test_comments(truth):
    """One with the head, then one before every so many events."""
    answer = truth.chat(tokens=4, comment_every=2)
    lines = [line for line in answer.body.decode().split("\n") if line]
    assert [line[0] for line in lines] == [":", "d", ":", "d", "d", ":", "d", "d", "d"]
    assert truth.complete(tokens=1, comment_every=9).body.startswith(b": ")


def test_words_with_longer_characters(truth):
    """In UTF-8, of two to four bytes."""
    answer = truth.chat(tokens=4, text="utf8")
    assert answer.text == "babaé bebaß biba日 boba🙂"


def test_stamps(truth):
    """When the request came and when the very object was sent, on the clock of this machine."""
    for body, path in ((truth.chat_body(), "/v1/chat/completions"), (truth.completion_body(), "/v1/completions")):
        answer = truth.ask(path, body | {"afb_truth": True, "stream_options": {"include_usage": True}})
        stamps = [item["afb"] for item in answer.objects]
        record = truth.last()
        assert {received for received, _ in stamps} == {record["received_ns"]}
        assert answer.sent_ns - 5_000_000 < record["received_ns"] < stamps[0][1]
        assert [sent for _, sent in stamps] == sorted(sent for _, sent in stamps)
        assert stamps[-1][1] < answer.pieces[-1][0]
        logged = [
            record["received_ns"] + at for at, kind in zip(record["sent_ns"], record["kinds"], strict=True) if kind != "H"
        ]
        assert [sent for _, sent in stamps] == logged
    assert "afb" in truth.chat(truth=True).objects[0]


def test_what_is_sent_together(truth):
    """Each chunk is one send: however busy the reader is, it reads no part of one."""
    answer = truth.chat(tokens=20, ttft="5ms", gap="3ms")
    assert len(answer.pieces) > 10
    assert {data[-2:] for _, data in answer.pieces} == {b"\r\n"}
    assert all(
        data.startswith((b"HTTP", b"%x\r\n" % int(data.partition(b"\r\n")[0] or b"0", 16))) for _, data in answer.pieces[1:]
    )


def test_models(truth):
    """The list that clients look up."""
    models = truth.ask("/v1/models").json
    assert (models["object"], models["data"][0]["id"]) == ("list", "truth")
    assert truth.ask("/health").status == 200
    assert truth.ask("/version").json["version"]


def test_many_tokens(truth):
    """More than the table of words has ready, and words of three syllables."""
    answer = truth.complete(tokens=7000, gap=0, tokens_per_chunk=500)
    words = answer.text.split(" ")
    assert len(words) == len(set(words)) == 7000
    assert json.dumps(answer.text, ensure_ascii=True).count("\\") == 0
