"""Bytes of the truth server's answers: OpenAI's events and Ollama's lines, ready before they are due.

What is to be sent is a tuple of parts: between any two of them goes the stamp of the sending, `STAMP_DIGITS` characters
wide (blanks in front are white space of JSON), so that everything else, the sizes of HTTP's chunks included, is made
before.
"""

import json
import time
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple, Union

from .truth_http import STREAM_HEADS
from .truth_plan import (
    ABORT,
    CHAT,
    COMPLETIONS,
    CONTENT,
    ERROR,
    GENERATE,
    HEAD,
    REASONING,
    ROLE,
    TAIL,
    Ask,
    Step,
    steps,
)
from .truth_record import Record
from .truth_words import words

STAMP_DIGITS = 19
STAMP = b"%19d"
_MARK = b"\0"
"""Stands for the stamp while bytes are put together; no answer holds it otherwise, since JSON escapes it."""
_BLANK = b" " * STAMP_DIGITS


_TAILS_MOST = 8192
_tails: "Dict[Tuple[bool, str, bytes, bool], Dict[Tuple[int, int], bytes]]" = {}
"""Ends of usual chunks, which are the same in all answers, by first token and number of tokens."""


class Piece(NamedTuple):
    """One thing to send, with the stamp between its parts."""

    gap_ns: int
    kind: str
    tokens: int
    parts: "Tuple[bytes, ...]"


def chunk(data: bytes) -> bytes:
    """Return a chunk of HTTP/1.1; a mark counts for the stamp that will take its place."""
    return b"%x\r\n%b\r\n" % (len(data) + data.count(_MARK) * (STAMP_DIGITS - 1), data)


def pieces(ask: Ask, record: Record, *, chunked: bool) -> "Iterator[Piece]":
    """Yield a streamed answer piece by piece; each is made when it is asked for.

    chunked: False for a client of HTTP/1.0, to whom the end of the connection is the end of the answer.
    """
    render: "Union[_OpenAi, _Ollama]" = _OpenAi(ask, record) if ask.dialect in {COMPLETIONS, CHAT} else _Ollama(ask, record)
    head = STREAM_HEADS[render.content_type, chunked]
    usual = render.usual() if isinstance(render, _OpenAi) and chunked else None
    for step in steps(ask):
        if usual is not None and step.kind == CONTENT and step.first and not step.last:
            yield Piece(step.gap_ns, CONTENT, step.tokens, usual(step.first, step.tokens))
            continue
        if step.kind == HEAD:
            data, head = head + _framed(render.opening(), chunked), b""
        elif step.kind == ABORT:
            data = b""
        else:
            data = _framed(render.events(step), chunked)
            if step.kind in {TAIL, ERROR} and chunked:
                data += b"0\r\n\r\n"
        if head and step.kind != ABORT:
            data, head = head + _framed(render.opening() if step.kind == ROLE else [], chunked) + data, b""
        yield Piece(step.gap_ns, step.kind, step.tokens, tuple(data.split(_MARK)))


def whole(ask: Ask, record: Record, first_ns: int, last_ns: int) -> "Tuple[bytes, ...]":
    """Return the body of an answer that is not streamed, as parts; first_ns, last_ns: when a stream would have sent tokens."""
    if ask.dialect in {COMPLETIONS, CHAT}:
        return tuple(_OpenAi(ask, record).whole().split(_MARK))
    return tuple(_Ollama(ask, record).whole(first_ns, last_ns).split(_MARK))


def error_body(dialect: str, status: int, message: str, kind: str) -> bytes:
    """Return the JSON of an error in the words of a dialect."""
    if dialect in {COMPLETIONS, CHAT}:
        return _json({"error": {"message": message, "type": kind, "param": None, "code": status}})
    return _json({"error": message})


def _framed(events: "List[bytes]", chunked: bool) -> bytes:
    return b"".join([chunk(event) for event in events] if chunked else events)


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


class _OpenAi:
    """Events of `/v1/completions` and `/v1/chat/completions`."""

    content_type = "text/event-stream; charset=utf-8"

    def __init__(self, ask: Ask, record: Record) -> None:
        self._ask = ask
        self._chat = ask.dialect == CHAT
        self._eol = b"\r\n" if ask.options.line_end == "crlf" else b"\n"
        self._truth = b',"afb":[%d,%b]' % (record.received_ns, _MARK) if ask.options.truth else b""
        name = f"chatcmpl-afb-{record.number}" if self._chat else f"cmpl-afb-{record.number}"
        self._names = b'"id":"%b","object":"%b","created":%d,"model":%b' % (
            name.encode(),
            b"%b",
            time.time(),
            _json(ask.model).replace(b"%", b"%%"),
        )
        kind = b"chat.completion.chunk" if self._chat else b"text_completion"
        self._head = b"data: {" + self._names % kind + self._truth + b',"choices":['
        self._number = self._sent = 0
        self._usage_parts: "Tuple[bytes, bytes, bytes]" = self._usage_template()

    def opening(self) -> "List[bytes]":
        """Return what goes with the head of the answer."""
        return [b": made by the truth server" + 2 * self._eol] if self._ask.options.comment_every else []

    def events(self, step: Step) -> "List[bytes]":
        """Return the events of one step, each to be a chunk of its own."""
        if step.kind == TAIL:
            return self._tail()
        self._sent = step.first + step.tokens
        if step.kind == ERROR:
            options = self._ask.options
            name = b"event: error" + self._eol if options.error_event else b""
            body = error_body(self._ask.dialect, 500, options.error_message, "InternalServerError")
            if self._truth:
                body = body[:-1] + self._truth + b"}"
            return [name + b"data: " + body + 2 * self._eol]
        reason = self._ask.finish_reason.encode() if step.last and self._ask.options.finish == "with_last" else b""
        return [self._event(self._choice(step, reason), last=step.last)]

    def usual(self) -> "Optional[Callable[[int, int], Tuple[bytes, ...]]]":
        """Return what makes the parts of the usual chunk faster than `events` does, or None where none is usual.

        The usual chunk has tokens of text, but not the first or the last, no usage and no comment.
        """
        ask = self._ask
        if ask.usage == "every" or ask.options.comment_every:
            return None
        before, mark, _ = self._head.partition(_MARK)
        tails = _tails.setdefault((self._chat, ask.options.text, self._eol, bool(mark)), {})
        fronts: "Dict[int, bytes]" = {}
        after = len(before) + len(mark)
        stamp_bytes = STAMP_DIGITS * len(mark)

        def parts(first: int, tokens: int) -> "Tuple[bytes, ...]":
            tail = tails.get((first, tokens))
            if tail is None:
                tail = self._event(self._choice(Step(0, CONTENT, first, tokens), b""), last=False)[after:] + b"\r\n"
                if len(tails) < _TAILS_MOST:
                    tails[first, tokens] = tail
            size = len(tail)
            front = fronts.get(size)
            if front is None:
                front = fronts[size] = b"%x\r\n%b" % (len(before) + stamp_bytes + size - 2, before)
            return (front, tail) if mark else (front + tail,)

        return parts

    def whole(self) -> bytes:
        """Return the body of an answer that is not streamed."""
        ask, text = self._ask, self._ask.options.text
        said = words(ask.reasoning, ask.output_tokens - ask.reasoning, text)
        reason = b'"logprobs":null,"finish_reason":"%b"' % ask.finish_reason.encode()
        if self._chat:
            thought = b',"reasoning_content":' + _json(words(0, ask.reasoning, text)) if ask.reasoning else b""
            message = b'{"role":"assistant","content":%b%b}' % (_json(said), thought)
            choice = b'{"index":0,"message":%b,%b}' % (message, reason)
        else:
            choice = b'{"index":0,"text":%b,%b}' % (_json(said), reason)
        usage = b"" if ask.options.usage == "none" else self._usage(ask.output_tokens)
        kind = b"chat.completion" if self._chat else b"text_completion"
        return b"{" + self._names % kind + self._truth + b',"choices":[' + choice + b"]" + usage + b"}"

    def _event(self, choice: bytes, *, last: bool) -> bytes:
        ask = self._ask
        with_usage = ask.usage == "every" or (ask.usage == "last" and last)
        event = self._head + choice + b"]" + (self._usage(self._sent) if with_usage else b"") + b"}" + 2 * self._eol
        self._number += 1
        every = ask.options.comment_every
        return b": still here" + 2 * self._eol + event if every and self._number % every == 0 else event

    def _choice(self, step: Step, reason: bytes) -> bytes:
        text = words(step.first, step.tokens, self._ask.options.text).encode() if step.tokens else b""
        end = b',"logprobs":null,"finish_reason":"%b"}' % reason if reason else b',"logprobs":null,"finish_reason":null}'
        if not self._chat:
            return b'{"index":0,"text":"' + text + b'"' + end
        role = b""
        if step.kind == ROLE or (step.first == 0 and step.tokens and self._ask.options.role == "with_first"):
            role = b'"role":"assistant",'
        name = b'"reasoning_content":"' if step.kind == REASONING else b'"content":"'
        return b'{"index":0,"delta":{' + role + name + text + b'"}' + end

    def _tail(self) -> "List[bytes]":
        ask, events = self._ask, []
        if ask.options.finish == "own" or ask.output_tokens == 0:
            delta = b'"delta":{}' if self._chat else b'"text":""'
            reason = ask.finish_reason.encode()
            choice = b'{"index":0,%b,"logprobs":null,"finish_reason":"%b"}' % (delta, reason)
            events.append(self._event(choice, last=ask.output_tokens == 0))
        if ask.usage in {"own", "every"}:
            events.append(self._head + b"]" + self._usage(ask.output_tokens) + b"}" + 2 * self._eol)
        if ask.options.done:
            events.append(b"data: [DONE]" + 2 * self._eol)
        return events

    def _usage(self, output: int) -> bytes:
        before, between, after = self._usage_parts
        return b"%b%d%b%d%b" % (before, self._ask.prompt_tokens + output, between, output, after)

    def _usage_template(self) -> "Tuple[bytes, bytes, bytes]":
        ask = self._ask
        after = b""
        if ask.options.cached_tokens is not None:
            after = b',"prompt_tokens_details":{"cached_tokens":%d}' % ask.options.cached_tokens
        if ask.reasoning:
            after += b',"completion_tokens_details":{"reasoning_tokens":%d}' % ask.reasoning
        return b',"usage":{"prompt_tokens":%d,"total_tokens":' % ask.prompt_tokens, b',"completion_tokens":', after + b"}"


class _Ollama:
    """Lines of `/api/generate` and `/api/chat`."""

    content_type = "application/x-ndjson"

    def __init__(self, ask: Ask, record: Record) -> None:
        self._ask = ask
        self._record = record
        self._chat = ask.dialect != GENERATE
        self._truth = b',"afb":[%d,%b]' % (record.received_ns, _MARK) if ask.options.truth else b""
        self._model = b'{"model":' + _json(ask.model) + b',"created_at":"'

    def opening(self) -> "List[bytes]":
        """Return what goes with the head of the answer: nothing."""
        return []

    def events(self, step: Step) -> "List[bytes]":
        """Return the line of one step."""
        if step.kind == ERROR:
            return [_json({"error": self._ask.options.error_message})[:-1] + self._truth + b"}\n"]
        if step.kind == TAIL:
            stamps = self._record.token_stamps_ns() or [time.monotonic_ns()]
            return [self._line(b"", b"", self._end(stamps[0], stamps[-1]))]
        text = words(step.first, step.tokens, self._ask.options.text).encode() if step.tokens else b""
        thought, said = (text, b"") if step.kind == REASONING else (b"", text)
        return [self._line(thought, said, b',"done":false}\n')]

    def whole(self, first_ns: int, last_ns: int) -> bytes:
        """Return the body of an answer that is not streamed; first_ns, last_ns: when a stream would have sent tokens."""
        ask, text = self._ask, self._ask.options.text
        thought = words(0, ask.reasoning, text).encode()
        said = words(ask.reasoning, ask.output_tokens - ask.reasoning, text).encode()
        return self._line(thought, said, self._end(first_ns, last_ns))[:-1]

    def _line(self, thought: bytes, said: bytes, end: bytes) -> bytes:
        thinking = b',"thinking":"%b"' % thought if thought else b""
        if self._chat:
            content = b',"message":{"role":"assistant","content":"%b"%b}' % (said, thinking)
        else:
            content = b',"response":"%b"%b' % (said, thinking)
        return self._model + now_text() + b'"' + self._truth + content + end

    def _end(self, first_ns: int, last_ns: int) -> bytes:
        """Return the end of the last line; as in Ollama, figures that are 0 are left out."""
        ask, record = self._ask, self._record
        figures = {"total_duration": max(last_ns, time.monotonic_ns()) - record.received_ns, "load_duration": ask.load_ns}
        if ask.usage != "none":
            figures.update(
                prompt_eval_count=ask.prompt_tokens,
                prompt_eval_duration=first_ns - record.start_ns - ask.load_ns,
                eval_count=ask.output_tokens,
                eval_duration=last_ns - first_ns,
            )
        shown = b"".join([b',"%b":%d' % (name.encode(), value) for name, value in figures.items() if value > 0])
        return b',"done":true,"done_reason":"%b"%b}\n' % (ask.finish_reason.encode(), shown)


_second: "List[Any]" = [0, b""]


def now_text() -> bytes:
    """Return the time of day as Ollama writes it, such as `2026-01-02T03:04:05.123456789Z`."""
    now_ns = time.time_ns()
    seconds = now_ns // 1_000_000_000
    if _second[0] != seconds:
        _second[:] = [seconds, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)).encode()]
    return b"%b.%09dZ" % (_second[1], now_ns % 1_000_000_000)
