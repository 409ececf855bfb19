"""Answers of Ollama's own protocol: one JSON object a line, the last one with `done` and the server's own figures."""

from typing import Any, Dict, List, Sequence

from .llm_answer_node import CHUNKS, USAGE, Answer
from .llm_framing_node import Arrival
from .llm_reading_node import ReadingError, decode, decode_beginning, message, refuse, stamped, whole_number
from .llm_stream_node import body, lines


def read(answer: Answer, arrival: Arrival, *, broken: bool = False, truth: bool = False) -> None:
    """Fill in an answer; arguments and errors as of `llm_openai_node.read`."""
    head = arrival.head
    if head is None:
        return
    if head.status not in range(200, 300):
        refuse(answer, head, body(arrival).data)
        return
    refuse(answer, head, b"")
    events = lines(arrival)
    payloads, stamps = events.payloads, events.stamps
    try:
        objects = decode_beginning(payloads) if broken else decode(payloads)
    except ReadingError:
        # Not streamed and written over several lines, or no JSON at all.
        objects, stamps = decode([b"\n".join(payloads)]), stamps[-1:]
    streamed = len(objects) > 1 or broken or bool(objects and not objects[0].get("done"))
    _run(answer, objects, stamps, truth=truth)
    if not streamed:
        _forget_times(answer)
    if not answer.error and not broken and not answer.finish_reason:
        answer.error = "stream:truncated"
        answer.error_text = f"the stream ended after {len(answer.chunk_ns)} chunks without done"


def _run(answer: Answer, objects: Sequence[Dict[str, Any]], stamps: Sequence[int], *, truth: bool) -> None:
    texts: List[str] = []
    entries: List[Dict[str, Any]] = []
    empty: List[int] = []
    times = answer.chunk_ns
    for found, now_ns in zip(objects, stamps):
        content = found.get("message")
        text = found.get("response") if content is None else content.get("content")
        if text:
            texts.append(text)
            times.append(now_ns)
            entries.append(found)
            if answer.first_output_ns is None:
                answer.first_output_ns = now_ns
        elif _thinks(content or found):
            times.append(now_ns)
            entries.append(found)
        elif text is not None and not found.get("done"):
            empty.append(now_ns)
        if found.get("error"):
            if not answer.error:
                answer.error, answer.error_text = "stream:error", message(found)
        elif found.get("done"):
            _done(answer, found)
    answer.text = "".join(texts)
    if not times and empty and answer.output_tokens:
        answer.chunk_ns, answer.empty_text = empty, True
        answer.first_output_ns = empty[0]
    if answer.chunk_ns:
        answer.first_ns, answer.last_ns = answer.chunk_ns[0], answer.chunk_ns[-1]
        if answer.output_tokens is None:
            answer.output_tokens, answer.token_source = len(answer.chunk_ns), CHUNKS
    if truth and entries:
        answer.truth = stamped(entries)


def _thinks(content: Dict[str, Any]) -> bool:
    return bool(content.get("thinking") or content.get("tool_calls"))


def _done(answer: Answer, found: Dict[str, Any]) -> None:
    """Take the figures of the last line; a zero is left out by the server."""
    answer.finish_reason = str(found.get("done_reason") or "stop")
    if "eval_count" in found or "prompt_eval_count" in found:
        answer.output_tokens = whole_number(found.get("eval_count"))
        answer.token_source = USAGE
        if "prompt_eval_count" in found:
            answer.prompt_tokens = whole_number(found["prompt_eval_count"])
    answer.load_ns = whole_number(found.get("load_duration"))
    answer.eval_ns = whole_number(found.get("eval_duration")) or None
    answer.prompt_eval_ns = whole_number(found.get("prompt_eval_duration")) or None


def _forget_times(answer: Answer) -> None:
    """Take an answer that came as one object for what it is: it has an end, and no first token."""
    answer.chunk_ns, answer.truth = [], None
    answer.first_ns = answer.first_output_ns = None
    answer.last_ns = answer.end_ns
