"""Answers of servers that speak OpenAI's protocol: chat and completions, streamed or whole.

What counts as output is one rule for all servers: a chunk with text, with reasoning or with a part of a tool call that is
not empty. A chunk with the role alone, with an empty text, with usage alone, a comment or a ping is none.
"""

from typing import Any, Dict, List, Optional, Sequence, Union

from .llm_alike_node import decode_alike
from .llm_answer_node import CHUNK_USAGE, CHUNKS, USAGE, Answer
from .llm_framing_node import Arrival
from .llm_reading_node import ReadingError, decode, decode_beginning, message, refuse, short, stamped, whole_number
from .llm_stream_node import Events, body, events_of, server_sent_events

_DONE = b"[DONE]"
_THOUGHTS = ("reasoning_content", "reasoning", "tool_calls", "function_call")
"""Of a delta: output, but none that a reader of the answer is waiting for."""
Chunk = Union[Dict[str, Any], str]
"""As JSON, or only its text, see `llm_alike_node`."""
_FAILED = frozenset(("error", "abort"))
"""Reasons of a finish that are none."""


def read(answer: Answer, arrival: Arrival, *, broken: bool = False, truth: bool = False) -> None:
    """Fill in an answer.

    Args:
        answer: with its times of sending.
        arrival: what came; at least the header is whole.
        broken: the connection was lost before the end.
        truth: the truth server's stamps are wanted.

    Raises:
        ProtocolError: the framing makes no sense.
        ReadingError: the content makes no sense.
    """
    head = arrival.head
    if head is None:
        return
    if head.status not in range(200, 300):
        refuse(answer, head, body(arrival).data)
        return
    refuse(answer, head, b"")
    if head.content_type == "text/event-stream":
        _stream(answer, server_sent_events(arrival), broken=broken, truth=truth)
        return
    content = body(arrival)
    begin = content.data[:64].lstrip()
    if begin.startswith((b"data:", b"event:", b":")):  # whatever the server calls it
        _stream(answer, events_of(content, arrival.stamps), broken=broken, truth=truth)
    elif begin.startswith(b"{") and not broken:
        _whole(answer, content.data)
    elif not broken:
        raise ReadingError("stream:json", f"neither events nor JSON ({head.content_type or 'no type'}): {short(content.data)}")


def _stream(answer: Answer, events: Events, *, broken: bool, truth: bool) -> None:
    payloads, stamps = events.payloads, events.stamps
    done = bool(payloads) and _DONE in (payloads[-1], payloads[-1].strip())
    if done:
        payloads = payloads[:-1]
    elif _DONE in payloads:
        done, payloads = True, payloads[: payloads.index(_DONE)]
    chunks: Sequence[Chunk] = decode_beginning(payloads) if broken else decode(payloads) if truth else decode_alike(payloads)
    if events.failed is not None:
        answer.error, answer.error_text = "stream:error", _said(events.failed)
    _Reader(answer, truth=truth).run(chunks, stamps)
    if not answer.error and not broken and not done and not answer.finish_reason:
        answer.error = "stream:truncated"
        answer.error_text = f"the stream ended after {len(answer.chunk_ns)} chunks with neither a finish reason nor [DONE]"


def _said(payload: bytes) -> str:
    try:
        return message(decode([payload])[0]) or short(payload)
    except ReadingError:
        return short(payload)


def _whole(answer: Answer, data: bytes) -> None:
    """Read an answer that was not streamed: it has an end, and no first token."""
    found = decode([data])[0]
    if _failure(answer, found):
        return
    reader = _Reader(answer, truth=False)
    for choice in found.get("choices") or ():
        content = choice.get("message") or {}
        answer.text += content.get("content") or choice.get("text") or ""
        answer.finish_reason = str(choice.get("finish_reason") or answer.finish_reason)
    reader.use(found)
    reader.close()
    answer.last_ns = answer.end_ns


def _failure(answer: Answer, found: Dict[str, Any]) -> bool:
    """Note an error that stands in the place of an answer."""
    error = found.get("error") or (found if found.get("object") == "error" else None)
    if error and not answer.error:
        answer.error, answer.error_text = "stream:error", message(error) or short(str(error).encode())
    return bool(error)


class _Reader:
    """Goes through the chunks of one stream."""

    def __init__(self, answer: Answer, *, truth: bool) -> None:
        self._answer = answer
        self._truth = truth
        self._usage: Optional[Dict[str, Any]] = None
        self._timings: Optional[Dict[str, Any]] = None
        self._running: List[int] = []
        """Tokens so far as of each content chunk, as long as every one says it."""
        self._empty: List[int] = []
        """Times of chunks with an empty text; a token may stand behind them."""
        self._role_seen = False

    def run(self, chunks: Sequence[Chunk], stamps: Sequence[int]) -> None:
        """Take all chunks in order; the loop is the cost of a token, so the common chunk takes the short way."""
        answer = self._answer
        texts: List[str] = []
        times = answer.chunk_ns
        entries: List[Dict[str, Any]] = []
        for found, now_ns in zip(chunks, stamps):
            if isinstance(found, str):  # the text of a chunk as one before it
                if answer.first_output_ns is None:
                    answer.first_output_ns = now_ns
                texts.append(found)
                times.append(now_ns)
                continue
            choices = found.get("choices")
            if choices:
                choice = choices[0]
                delta = choice.get("delta")
                text = choice.get("text") if delta is None else delta.get("content")
                if text and len(choices) == 1:
                    if answer.first_output_ns is None:
                        answer.first_output_ns = now_ns
                    texts.append(text)
                    times.append(now_ns)
                    entries.append(found)
                elif self._other(choices, now_ns, texts):
                    times.append(now_ns)
                    entries.append(found)
                if choice.get("finish_reason"):
                    self._finish(found, choice)
            if "usage" in found or "timings" in found:
                self.use(found)
                if entries and entries[-1] is found:
                    self._running.append(whole_number((found.get("usage") or {}).get("completion_tokens")))
            if "error" in found or not choices:
                _failure(answer, found)
        answer.text = "".join(texts)
        if times:
            answer.first_ns, answer.last_ns = times[0], times[-1]
        if self._truth and entries:
            answer.truth = stamped(entries)
        self.close()

    def _other(self, choices: Sequence[Dict[str, Any]], now_ns: int, texts: List[str]) -> bool:
        """Return whether a chunk that is not the common one carries output."""
        answer, carries = self._answer, False
        for choice in choices:
            delta = choice.get("delta")
            if delta is None:
                delta = {"content": choice.get("text")}
            text = delta.get("content") or delta.get("refusal")
            if text:
                texts.append(text)
                carries = True
                if answer.first_output_ns is None:
                    answer.first_output_ns = now_ns
            elif any(delta.get(name) for name in _THOUGHTS):
                carries = True
            elif delta.get("content") is not None and ("role" not in delta or self._role_seen):
                self._empty.append(now_ns)
            self._role_seen = self._role_seen or "role" in delta
        return carries

    def _finish(self, found: Dict[str, Any], choice: Dict[str, Any]) -> None:
        answer = self._answer
        answer.finish_reason = str(choice["finish_reason"])
        if answer.finish_reason in _FAILED and not _failure(answer, found) and not answer.error:
            answer.error, answer.error_text = "stream:error", f"the server ended it with the reason {answer.finish_reason!r}"

    def use(self, found: Dict[str, Any]) -> None:
        """Take the usage of a chunk; the last one that counts anything stands."""
        usage, timings = found.get("usage"), found.get("timings")
        if isinstance(usage, dict) and (usage.get("completion_tokens") or usage.get("prompt_tokens")):
            self._usage = usage
        if isinstance(timings, dict):
            self._timings = timings

    def close(self) -> None:
        """Count tokens, by the best that the server said."""
        answer, usage = self._answer, self._usage
        if usage is not None:
            answer.prompt_tokens = whole_number(usage.get("prompt_tokens"))
            answer.output_tokens = whole_number(usage.get("completion_tokens"))
            answer.token_source = USAGE
            cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
            if cached is None and self._timings is not None:
                cached = self._timings.get("cache_n")
            answer.cached_tokens = whole_number(cached) if cached is not None else None
            self._count_chunks()
        elif answer.chunk_ns:
            answer.output_tokens = len(answer.chunk_ns)
            answer.token_source = CHUNKS
        if not answer.chunk_ns and self._empty and answer.output_tokens:
            answer.chunk_ns, answer.empty_text = self._empty, True
            answer.first_ns = answer.first_output_ns = self._empty[0]
            answer.last_ns = self._empty[-1]

    def _count_chunks(self) -> None:
        answer, running = self._answer, self._running
        if len(running) < 2 or len(running) != len(answer.chunk_ns) or not running[0]:
            return
        before = [0, *running[:-1]]
        if all(now >= then for now, then in zip(running, before)):
            answer.chunk_tokens = [now - then for now, then in zip(running, before)]
            answer.token_source = CHUNK_USAGE
