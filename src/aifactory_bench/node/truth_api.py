"""What the truth server answers to each path: tokens for some, facts about itself for others."""

import json
import random
import time
from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, Iterator, List, Optional, Set, Tuple, Union
from urllib.parse import parse_qs

from .truth_delays import Delay, delay_of
from .truth_http import JSON, STREAM_HEADS, Head, answer, answer_head, json_answer, json_body, same_secret
from .truth_metrics import Metrics
from .truth_options import Choices, Options
from .truth_plan import (
    ABORT,
    CHAT,
    COMPLETIONS,
    CONTENT,
    ERROR,
    GENERATE,
    HEAD,
    OLLAMA_CHAT,
    TAIL,
    Ask,
    ask_of,
    steps,
)
from .truth_record import Log, Record
from .truth_render import STAMP, STAMP_DIGITS, Piece, chunk, error_body, now_text, pieces, whole

VERSION = "0.1-truth"
_DIALECTS = {
    "/v1/completions": COMPLETIONS,
    "/v1/chat/completions": CHAT,
    "/api/generate": GENERATE,
    "/api/chat": OLLAMA_CHAT,
}
_OPEN_PATHS = frozenset({"/", "/health", "/metrics", "/version", "/api/version"})
"""Answered without the key."""
_DIGEST = "0" * 60 + "afb1"
_SIZE_BYTES = 1 << 20


@dataclass(frozen=True)
class Settings:
    """What holds for the server as a whole."""

    model: str = "truth"
    strict: bool = False
    """Refuse other models than this one and those that were pulled."""
    key: str = ""
    """Bearer token to ask for; empty: none."""
    seed: int = 1
    load: Delay = delay_of("0ms")  # noqa: RUF009 - never changed
    """Ollama: what the first request for a model waits besides."""
    pull: Delay = delay_of("0ms")  # noqa: RUF009 - never changed
    """Ollama: what pulling a model takes."""
    options: Options = Options()  # noqa: RUF009 - never changed


@dataclass
class Job:
    """A request that is answered in its time."""

    record: Record
    pieces: "Iterator[Piece]"
    ask: "Optional[Ask]" = None
    """None: nothing that takes a slot."""
    end: str = "done"
    """How it ends when all pieces are sent, where the last piece does not say."""


Reply = Union[bytes, Job]


class Refused(Exception):
    """A request for tokens that is answered with an error at once."""

    def __init__(self, status: int, text: str, kind: str) -> None:
        super().__init__(text)
        self.status = status
        self.kind = kind


class Api:
    """Answers requests; asks nothing of sockets."""

    def __init__(
        self, settings: Settings, log: Log, metrics: Metrics, running: "Callable[[], Tuple[List[Record], int]]"
    ) -> None:
        self._settings = settings
        self._choices = Choices(settings.options)
        self._log = log
        self._metrics = metrics
        self._running = running
        self._models: "Dict[str, None]" = {settings.model: None}
        self._loaded: "Set[str]" = set()
        self._number = 0

    def reply(self, head: Head, body: bytes, received_ns: int, read_late_ns: int) -> Reply:
        """Return the whole answer, or how it is to be given in its time."""
        dialect = _DIALECTS.get(head.path)
        if dialect is not None:
            return self._tokens(dialect, head, body, Record(self._next(), head.path, received_ns, read_late_ns))
        if head.path not in _OPEN_PATHS and not self._allowed(head):
            return json_answer(401, {"error": "Unauthorized"}, keep=head.keep)
        if head.path == "/api/pull":
            return self._pull(head, body, received_ns, read_late_ns)
        facts = self._facts(head)
        if facts is None:
            data = b"" if head.method == "HEAD" else _line({"error": f"no such path: {head.path}"})
            return answer(404, data, keep=head.keep)
        if head.method not in {"GET", "HEAD"}:
            return json_answer(405, {"error": f"{head.path} is read with GET"}, keep=head.keep)
        kind, data = facts
        if head.method == "HEAD":
            return answer_head(200, kind, len(data), keep=head.keep)
        return answer(200, data, kind, keep=head.keep)

    def rehearse(self) -> None:
        """Make an answer of each kind for nobody, so that the first request is answered as fast as the others."""
        for dialect in _DIALECTS.values():
            body = {"model": self._settings.model, "prompt": "", "messages": [], "options": {"num_predict": 3}, "max_tokens": 3}
            ask = ask_of(dialect, {**body, "afb_truth": True}, self._choices, (0, 0))
            record = Record(0, "", time.monotonic_ns(), 0)
            for piece in pieces(ask, record, chunked=True):
                (STAMP % record.received_ns).join(piece.parts)
            whole(ask, record, record.received_ns, record.received_ns)

    # Tokens.

    def _tokens(self, dialect: str, head: Head, body: bytes, record: Record) -> Reply:
        try:
            ask = self._understood(dialect, head, body, record.number)
        except Refused as refused:
            record.status, record.end = refused.status, "refused"
            self._log.add(record)
            self._metrics.add(record, "", 0)
            text = error_body(dialect, refused.status, str(refused), refused.kind)
            return answer(refused.status, text, keep=head.keep)
        record.stream, record.prompt_tokens = ask.stream, ask.prompt_tokens
        options = ask.options
        if ask.faulty and options.error_status:
            record.status = options.error_status
            return Job(record, iter([self._failure(ask, head, options.error_status, 0)]), ask, "error")
        if dialect in {GENERATE, OLLAMA_CHAT}:
            loading = self._loading(ask, head, json_body(body) or {}, record)
            if isinstance(loading, Job):
                return loading
            ask = loading
        if ask.stream:
            return Job(record, pieces(ask, record, chunked=head.chunked), ask)
        return Job(record, self._whole(ask, head, record), ask)

    def _understood(self, dialect: str, head: Head, body: bytes, number: int) -> Ask:
        if not self._allowed(head):
            raise Refused(401, "the bearer token is missing or wrong", "AuthenticationError")
        if head.method != "POST":
            raise Refused(405, f"{head.path} is asked with POST", "MethodNotAllowed")
        asked = json_body(body)
        if asked is None:
            raise Refused(400, "the body must be a JSON object", "BadRequestError")
        try:
            ask = ask_of(dialect, asked, self._choices, (self._settings.seed, number))
        except ValueError as error:
            raise Refused(400, str(error), "BadRequestError") from None
        ask = replace(ask, model=ask.model or self._settings.model)
        if self._settings.strict and ask.model not in self._models:
            raise Refused(404, f"model {ask.model!r} not found; there are: {', '.join(self._models)}", "NotFoundError")
        return ask

    def _loading(self, ask: Ask, head: Head, body: "Dict[str, Any]", record: Record) -> "Union[Ask, Job]":
        """Keep account of Ollama's models in memory; a request that is for nothing else is answered here."""
        unload = body.get("keep_alive") in (0, "0", "0s")
        nothing = not (body.get("prompt") if ask.dialect == GENERATE else body.get("messages"))
        load_ns = 0
        if ask.model not in self._loaded and not (nothing and unload):
            load_ns = self._settings.load.draw_ns(ask.random_of)
        if unload:
            self._loaded.discard(ask.model)
        else:
            self._loaded.add(ask.model)
        if nothing:
            said: "Dict[str, Any]" = {"model": ask.model, "created_at": now_text().decode()}
            said.update({"message": {"role": "assistant", "content": ""}} if ask.dialect == OLLAMA_CHAT else {"response": ""})
            said.update(done=True, done_reason="unload" if unload else "load")
            return Job(record, iter([Piece(load_ns, TAIL, 0, (json_answer(200, said, keep=head.keep),))]))
        return replace(ask, load_ns=load_ns)

    def _whole(self, ask: Ask, head: Head, record: Record) -> "Iterator[Piece]":
        plan = list(steps(ask))
        gap_ns = sum(step.gap_ns for step in plan)
        tokens = sum(step.tokens for step in plan)
        first = next((number for number, step in enumerate(plan) if step.tokens), len(plan) - 1)
        first_ns = record.start_ns + sum(step.gap_ns for step in plan[: first + 1])
        end = plan[-1].kind
        if end == ERROR:
            record.status = 500
            yield self._failure(ask, head, 500, gap_ns)
            return
        parts = whole(ask, record, first_ns, record.start_ns + gap_ns)
        size = sum(map(len, parts)) + STAMP_DIGITS * (len(parts) - 1)
        front = answer_head(200, JSON, size, keep=head.keep) + parts[0]
        if end == ABORT:
            yield Piece(gap_ns, HEAD, 0, (front[: len(front) - len(parts[0]) // 2],))
            yield Piece(0, ABORT, 0, (b"",))
            return
        yield Piece(gap_ns, CONTENT, tokens, (front, *parts[1:]))

    @staticmethod
    def _failure(ask: Ask, head: Head, status: int, gap_ns: int) -> Piece:
        body = error_body(ask.dialect, status, ask.options.error_message, "InternalServerError")
        return Piece(gap_ns, ERROR, 0, (answer(status, body, keep=head.keep),))

    # The rest.

    def _pull(self, head: Head, body: bytes, received_ns: int, read_late_ns: int) -> Reply:
        asked = json_body(body)
        name = None if asked is None else asked.get("model", asked.get("name"))
        if head.method != "POST" or asked is None or not isinstance(name, str) or not name:
            return json_answer(400, {"error": '/api/pull is asked with POST and {"model": name}'}, keep=head.keep)
        record = Record(0, head.path, received_ns, read_late_ns)
        return Job(record, self._pulled(name, head, stream=asked.get("stream") is not False))

    def _pulled(self, name: str, head: Head, *, stream: bool) -> "Iterator[Piece]":
        total_ns = self._settings.pull.draw_ns(random.Random(f"{self._settings.seed} pull {name}"))
        if not stream:
            yield Piece(total_ns, TAIL, 0, (json_answer(200, {"status": "success"}, keep=head.keep),))
            self._models[name] = None
            return
        layer = {"status": f"pulling {_DIGEST[:12]}", "digest": f"sha256:{_DIGEST}", "total": _SIZE_BYTES}
        lines: "List[Tuple[int, Dict[str, Any]]]" = [(0, {"status": "pulling manifest"})]
        lines += [(total_ns // 4, {**layer, "completed": _SIZE_BYTES * part // 4}) for part in (1, 2, 3, 4)]
        lines += [(0, {"status": status}) for status in ("verifying sha256 digest", "writing manifest", "success")]
        first = STREAM_HEADS["application/x-ndjson", head.chunked]
        for number, (gap_ns, line) in enumerate(lines):
            data = _line(line)
            last = number == len(lines) - 1
            data = (chunk(data) + (b"0\r\n\r\n" if last else b"")) if head.chunked else data
            yield Piece(gap_ns, TAIL if last else HEAD, 0, (first + data,))
            first = b""
        self._models[name] = None

    def _facts(self, head: Head) -> "Optional[Tuple[str, bytes]]":
        """Return type and body of what the server says about itself, or None where there is no such path."""
        path = head.path
        if path == "/":
            return "text/plain", b"Ollama is running"
        if path == "/health":
            return "text/plain", b""
        if path == "/metrics":
            running, waiting = self._running()
            return "text/plain; version=0.0.4; charset=utf-8", self._metrics.text(running, waiting)
        if path == "/afb/log":
            return JSON, self._log_of(head)
        values: "Dict[str, Dict[str, Any]]" = {
            "/version": {"version": VERSION},
            "/api/version": {"version": VERSION},
            "/v1/models": {"object": "list", "data": [_openai_model(name) for name in self._models]},
            "/api/tags": {"models": [_ollama_model(name) for name in self._models]},
            "/api/ps": {"models": [_ollama_model(name) for name in sorted(self._loaded)]},
        }
        value = values.get(path)
        return None if value is None else (JSON, _line(value))

    def _log_of(self, head: Head) -> bytes:
        query = parse_qs(head.query)
        data: "Dict[str, Any]" = self._log.summary()
        if query.get("records") != ["0"]:
            data["records"] = list(self._log.records())
        if query.get("reset") == ["1"]:
            self._log.clear()
        return _line(data)

    def _allowed(self, head: Head) -> bool:
        return not self._settings.key or same_secret(head.token, self._settings.key)

    def _next(self) -> int:
        self._number += 1
        return self._number


def _line(value: "Dict[str, Any]") -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _openai_model(name: str) -> "Dict[str, Any]":
    return {"id": name, "object": "model", "created": int(time.time()), "owned_by": "aifactory-bench", "max_model_len": 1 << 20}


def _ollama_model(name: str) -> "Dict[str, Any]":
    details = {
        "parent_model": "",
        "format": "gguf",
        "family": "truth",
        "families": ["truth"],
        "parameter_size": "1M",
        "quantization_level": "F32",
    }
    return {
        "name": name,
        "model": name,
        "modified_at": "2026-01-01T00:00:00Z",
        "size": _SIZE_BYTES,
        "digest": _DIGEST,
        "details": details,
    }
