"""What is read out of streams: which chunk is the first token, how many tokens there were, what is an error."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aifactory_bench_services import llm_ollama_node, llm_openai_node
from aifactory_bench_services.llm_alike_node import decode_alike
from aifactory_bench_services.llm_reading_node import ReadingError

CUTS = st.lists(st.integers(1, 4000), max_size=30)


def openai(wire: Any, *events: Any, end: bool = True, cuts: "list[int] | None" = None, **options: Any) -> Any:
    """Return the answer made of these events, one a chunk and one a read unless cuts are given."""
    parts = [event if isinstance(event, bytes) else wire.event(event) for event in events]
    if end:
        parts.append(wire.event("[DONE]"))
    raw = wire.chunked(parts)
    if cuts is None:
        head = raw.index(b"\r\n\r\n") + 4
        cuts, at = [head], head
        for part in parts:
            at += len(wire.chunk(part))
            cuts.append(at)
    return wire.read(llm_openai_node.read, raw, cuts, **options)


def ollama(wire: Any, *objects: dict[str, Any], cuts: "list[int]" = [], **options: Any) -> Any:  # noqa: B006
    parts = [json.dumps(one).encode() + b"\n" for one in objects]
    raw = wire.chunked(parts, content_type="application/x-ndjson")
    head = raw.index(b"\r\n\r\n") + 4
    places, at = [head], head
    for part in parts:
        at += len(wire.chunk(part))
        places.append(at)
    return wire.read(llm_ollama_node.read, raw, cuts or places, **options)


def test_the_role_alone_is_no_token(wire: Any) -> None:
    answer = openai(
        wire,
        wire.chat("", role="assistant"),
        b": ping\n\n",
        wire.chat("a"),
        wire.chat("b", finish="length"),
        wire.usage(7, 2),
    )
    step = wire.step_ns
    assert (answer.header_ns, answer.first_ns, answer.first_output_ns, answer.last_ns) == (step, 4 * step, 4 * step, 5 * step)
    assert answer.end_ns == 8 * step
    assert (answer.text, answer.finish_reason, answer.error) == ("ab", "length", "")
    assert (answer.prompt_tokens, answer.output_tokens, answer.token_source) == (7, 2, "usage")


def test_the_role_with_the_first_text_is_the_first_token(wire: Any) -> None:
    answer = openai(wire, wire.chat("a", role="assistant"), wire.chat("b"), wire.chat(finish="stop"))
    assert answer.chunk_ns == [2 * wire.step_ns, 3 * wire.step_ns]


def test_thoughts_and_tools_are_tokens_and_no_output(wire: Any) -> None:
    for name, value in (
        ("reasoning_content", "hm"),
        ("reasoning", "hm"),
        ("tool_calls", [{"index": 0, "function": {"arguments": "{"}}]),
    ):
        answer = openai(wire, wire.chat("", role="assistant"), wire.chat(**{name: value}), wire.chat("a", finish="stop"))
        assert answer.chunk_ns == [3 * wire.step_ns, 4 * wire.step_ns]
        assert answer.first_output_ns == 4 * wire.step_ns
        assert answer.text == "a"


def test_empty_texts_are_no_first_token_unless_there_is_nothing_else(wire: Any) -> None:
    empty, text = wire.completion(""), wire.completion("x")
    answer = openai(wire, empty, text, empty, wire.completion("", finish="length"), wire.usage(3, 4))
    assert answer.chunk_ns == [3 * wire.step_ns]
    assert not answer.empty_text
    assert answer.output_tokens == 4
    answer = openai(wire, empty, empty, wire.completion("", finish="length"), wire.usage(3, 3))
    assert answer.empty_text
    assert answer.first_ns == 2 * wire.step_ns
    assert answer.last_ns == 4 * wire.step_ns
    answer = openai(wire, wire.chat("", role="assistant"), wire.chat(finish="stop"), wire.usage(3, 0))
    assert (answer.first_ns, answer.error, answer.output_tokens) == (None, "", 0)


def test_without_usage_chunks_are_counted_and_it_is_said(wire: Any) -> None:
    answer = openai(wire, wire.completion("a"), wire.completion("b", finish="stop"))
    assert (answer.output_tokens, answer.prompt_tokens, answer.token_source) == (2, None, "chunks")


def test_usage_in_every_chunk_says_how_many_tokens_each_has(wire: Any) -> None:
    events = []
    for running, text in ((0, None), (3, "abc"), (4, ""), (6, "de")):
        event = wire.chat(text) if text is not None else wire.chat("", role="assistant")
        events.append({**event, "usage": {"prompt_tokens": 5, "completion_tokens": running, "total_tokens": 5 + running}})
    answer = openai(wire, *events, wire.chat(finish="stop"), wire.usage(5, 7))
    assert answer.chunk_tokens == [3, 3]
    assert (answer.output_tokens, answer.token_source) == (7, "chunk_usage")


def test_the_last_usage_that_counts_stands(wire: Any) -> None:
    """Ollama's completions carry a usage of zeros in every chunk and the true one at the end."""
    zero = {"usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}}
    answer = openai(
        wire,
        {**wire.completion("a"), **zero},
        {**wire.completion("b", finish="stop"), **zero},
        wire.usage(9, 5, prompt_tokens_details={"cached_tokens": 4}),
    )
    assert (answer.prompt_tokens, answer.output_tokens, answer.cached_tokens, answer.chunk_tokens) == (9, 5, 4, None)


def test_usage_in_the_chunk_of_the_finish(wire: Any) -> None:
    """As llama-server does for completions, with its own timings."""
    usage, timings = wire.usage(8, 3)["usage"], {"cache_n": 6, "prompt_n": 2}
    last = {**wire.completion("", finish="length"), "usage": usage, "timings": timings}
    answer = openai(wire, wire.completion("a"), wire.completion("b"), last)
    assert (answer.prompt_tokens, answer.output_tokens, answer.cached_tokens, len(answer.chunk_ns)) == (8, 3, 6, 2)


@pytest.mark.parametrize(
    ("event", "text"),
    [
        ({"error": {"message": "out of memory", "type": "server_error", "code": 500}}, "out of memory"),
        ({"error": "model runner stopped"}, "model runner stopped"),
        ({"object": "error", "message": "old style", "code": 400}, "old style"),
        ({"error": {"message": "with choices"}, "choices": []}, "with choices"),
        (b'event: error\ndata: {"message": "named"}\n\n', "named"),
        (b"event: error\ndata: plain words\n\n", "plain words"),
    ],
)
@pytest.mark.parametrize("end", [True, False])
def test_an_error_inside_a_stream_is_an_error(wire: Any, event: Any, text: str, *, end: bool) -> None:
    answer = openai(wire, wire.completion("a"), event, end=end)
    assert (answer.status, answer.error, answer.error_text) == (200, "stream:error", text)
    assert answer.first_ns == 2 * wire.step_ns  # what came before is kept apart, not lost


def test_a_finish_that_is_none_is_an_error(wire: Any) -> None:
    answer = openai(wire, wire.completion("a"), wire.completion("", finish="abort"))
    assert answer.error == "stream:error"
    assert "abort" in answer.error_text


def test_a_stream_without_an_end_is_truncated(wire: Any) -> None:
    assert openai(wire, wire.completion("a"), end=False).error == "stream:truncated"
    assert not openai(wire, wire.completion("a", finish="stop"), end=False).error
    assert not openai(wire, wire.completion("a")).error


def test_an_answer_that_was_broken_off_keeps_its_times(wire: Any) -> None:
    raw = wire.chunked([wire.event(wire.completion("a")), wire.event(wire.completion("b"))], end=b"")
    for missing in range(5, 60):
        answer = wire.read(llm_openai_node.read, raw[:-missing], [150], broken=True)
        assert answer.text == "a"
        assert answer.output_tokens == 1


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"error":{"message":"The model `nope` does not exist.","code":404}}', "The model `nope` does not exist."),
        (b'{"error":"model not found"}', "model not found"),
        (b'{"object":"error","message":"too long"}', "too long"),
        (b'{"detail":[{"loc":["body","ignore_eos"]}]}', '[{"loc": ["body", "ignore_eos"]}]'),
        (b"<html>\n Bad gateway</html>", "<html> Bad gateway</html>"),
        (b"", ""),
    ],
)
def test_a_status_is_an_error_with_the_servers_words(wire: Any, body: bytes, text: str) -> None:
    for reader in (llm_openai_node.read, llm_ollama_node.read):
        answer = wire.read(reader, wire.sized(body, status="404 Not Found"))
        assert (answer.error, answer.error_text, answer.status) == ("http:404", text, 404)


def test_nonsense_is_an_error_of_the_stream(wire: Any) -> None:
    for event in ("{broken", "[1]", '"text"', "{}],[{}"):
        with pytest.raises(ReadingError, match="no JSON object"):
            openai(wire, wire.completion("a"), wire.event(event))
    with pytest.raises(ReadingError, match="neither events nor JSON"):
        wire.read(llm_openai_node.read, wire.sized(b"<html>", content_type="text/html"))
    with pytest.raises(ReadingError, match="compresses"):
        wire.read(llm_openai_node.read, wire.sized(b"{}", more="Content-Encoding: gzip\r\n"))


def test_payloads_that_make_sense_only_together_are_nonsense(wire: Any) -> None:
    with pytest.raises(ReadingError):
        openai(wire, wire.event('{"choices":[]}, {"choices":[]'), wire.event("}"))


def test_events_under_another_name(wire: Any) -> None:
    raw = wire.chunked([wire.event(wire.completion("a", finish="stop"))], content_type="text/plain")
    assert wire.read(llm_openai_node.read, raw).text == "a"


def test_an_answer_in_one_piece_has_an_end_and_no_first_token(wire: Any) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "abc"}, "finish_reason": "stop"}
    raw = wire.sized(json.dumps({"choices": [choice], "usage": wire.usage(4, 3)["usage"]}, indent=1).encode())
    answer = wire.read(llm_openai_node.read, raw, [50])
    assert (answer.first_ns, answer.last_ns, answer.chunk_ns) == (None, 2 * wire.step_ns, [])
    assert (answer.text, answer.output_tokens, answer.error) == ("abc", 3, "")


def test_the_truth_servers_stamps_are_of_content_only(wire: Any) -> None:
    role = {**wire.chat("", role="assistant"), "afb": [10, 11]}
    first, second = {**wire.chat("a"), "afb": [10, 20]}, {**wire.chat("b", finish="stop"), "afb": [10, 30]}
    assert openai(wire, role, first, second, truth=True).truth == [(10, 20), (10, 30)]
    assert openai(wire, role, first, wire.chat("b", finish="stop"), truth=True).truth is None
    assert openai(wire, role, first, second).truth is None


@given(
    texts=st.lists(st.sampled_from(["a", "ü", "😀", "", '"\\', "\r\n"]), min_size=1, max_size=10), cuts=CUTS, crlf=st.booleans()
)
@settings(max_examples=100, deadline=None)
def test_cuts_change_nothing_but_times(wire: Any, texts: list[str], cuts: list[int], *, crlf: bool) -> None:
    end = "\r\n" if crlf else "\n"
    events = [wire.event(wire.chat("", role="assistant"), line_end=end)]
    events += [wire.event(wire.chat(text), line_end=end) for text in texts]
    events += [wire.event(wire.chat(finish="stop"), line_end=end), wire.event(wire.usage(3, len(texts)), line_end=end)]
    whole, cut = openai(wire, *events), openai(wire, *events, cuts=cuts)
    for name in ("text", "output_tokens", "prompt_tokens", "token_source", "error", "finish_reason", "empty_text"):
        assert getattr(whole, name) == getattr(cut, name)
    assert whole.text == "".join(texts)
    assert len(whole.chunk_ns) == len(cut.chunk_ns)
    assert cut.chunk_ns == sorted(cut.chunk_ns)


@st.composite
def streams(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Many chunks, most of them alike."""
    chat = draw(st.booleans())
    texts = st.sampled_from(["a", "b ", "ü", '"', "\\", '\\"', "", '","content":"', "\n", "x" * 30])
    chunks: list[dict[str, Any]] = []
    for text in draw(st.lists(texts, min_size=8, max_size=30)):
        delta = {"role": "assistant", "content": text} if draw(st.integers(0, 9)) == 0 else {"content": text}
        choice: dict[str, Any] = {"index": 0, "finish_reason": None, **({"delta": delta} if chat else {"text": text})}
        odd = draw(st.integers(0, 40))
        if odd == 0:
            choice["finish_reason"] = "stop"
        chunk: dict[str, Any] = {"id": "1", "choices": [choice], **({"usage": None} if draw(st.booleans()) else {})}
        if odd == 1:
            chunk["usage"] = {"prompt_tokens": 3, "completion_tokens": len(chunks)}
        if odd == 2:
            choice.update({"delta": {"reasoning_content": text}} if chat else {"text": None})
        if odd == 3:
            chunk["choices"] = [choice, choice]
        chunks.append(chunk)
    return chunks


@given(streams(), st.booleans())
@settings(max_examples=200, deadline=None)
def test_what_is_alike_is_read_as_what_is_not(wire: Any, chunks: list[dict[str, Any]], escaped: bool) -> None:
    """With the truth server every chunk is parsed; without, only those that differ in more than their text."""
    events = [b"data: " + json.dumps(chunk, ensure_ascii=escaped).encode() + b"\n\n" for chunk in chunks]
    parsed, alike = openai(wire, *events, truth=True), openai(wire, *events)
    for name in parsed.__slots__:
        assert getattr(parsed, name) == getattr(alike, name), name


def test_one_stream_of_each_server_is_read_by_its_likeness(wire: Any) -> None:
    """Otherwise the short way would be no way at all."""
    for chunk in (wire.chat, wire.completion):
        payloads = [json.dumps(chunk(text)).encode() for text in ("a", "b", "c", "d", '"', "e", "f", "g")]
        assert [item if isinstance(item, str) else None for item in decode_alike(payloads)] == [*"abcd", None, *"efg"]


DONE = {
    "response": "",
    "done": True,
    "done_reason": "length",
    "load_duration": 5_000,
    "prompt_eval_count": 26,
    "prompt_eval_duration": 7_000,
    "eval_count": 5,
    "eval_duration": 9_000,
}


def test_ollamas_lines(wire: Any) -> None:
    answer = ollama(wire, {"response": "a", "done": False}, {"response": "b", "done": False}, DONE)
    step = wire.step_ns
    assert (answer.text, answer.chunk_ns, answer.end_ns) == ("ab", [2 * step, 3 * step], 5 * step)
    assert (answer.prompt_tokens, answer.output_tokens, answer.token_source) == (26, 5, "usage")
    assert (answer.load_ns, answer.prompt_eval_ns, answer.eval_ns) == (5_000, 7_000, 9_000)
    assert (answer.finish_reason, answer.error) == ("length", "")


def test_ollamas_chat_thinks_before_it_speaks(wire: Any) -> None:
    thinks = {"message": {"role": "assistant", "content": "", "thinking": "hm"}, "done": False}
    speaks = {"message": {"role": "assistant", "content": "a"}, "done": False}
    last = {**DONE, "message": {"role": "assistant", "content": ""}}
    answer = ollama(wire, thinks, speaks, last)
    assert (answer.first_ns, answer.first_output_ns, answer.text) == (2 * wire.step_ns, 3 * wire.step_ns, "a")


def test_ollama_leaves_zeros_out(wire: Any) -> None:
    """A prompt that was in the cache as a whole has no count; a model that was there has no load."""
    last = {"response": "", "done": True, "done_reason": "stop", "eval_count": 1, "eval_duration": 3}
    answer = ollama(wire, {"response": "a", "done": False}, last)
    assert (answer.prompt_tokens, answer.output_tokens, answer.load_ns) == (None, 1, 0)


def test_ollamas_error_line_is_an_error(wire: Any) -> None:
    answer = ollama(wire, {"response": "a", "done": False}, {"error": "an error was encountered while running the model"})
    assert answer.error == "stream:error"
    assert "running the model" in answer.error_text
    assert ollama(wire, {"response": "a", "done": False}).error == "stream:truncated"


def test_ollama_in_one_piece(wire: Any) -> None:
    for indent in (None, 1):
        body = json.dumps({**DONE, "response": "abc"}, indent=indent).encode()
        answer = wire.read(llm_ollama_node.read, wire.sized(body), [60])
        assert (answer.text, answer.first_ns, answer.last_ns, answer.output_tokens) == ("abc", None, 2 * wire.step_ns, 5)
        assert (answer.chunk_ns, answer.error) == ([], "")
