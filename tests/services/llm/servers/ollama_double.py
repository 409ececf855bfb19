"""Stands in for the program `ollama`, which cannot be had here: `serve`, `pull MODEL`, `--version`, and its HTTP boundary.

It follows what Ollama's documentation and source say of their answers: names and order of fields, figures that are left out
when they are 0, errors as JSON with a status before a stream and as a line in it, models that are loaded by an empty prompt
and unloaded after a while. What it generates are words of its own, or what an upstream generates:

    OLLAMA_DOUBLE_LIBRARY   file, JSON: model -> {"size": bytes, "quantization": ..., "load_s": ...}; what can be pulled
    OLLAMA_DOUBLE_UPSTREAM  url of a server that answers /api/generate and /api/chat, such as the truth server; its bytes
                            are passed on as they come
    OLLAMA_DOUBLE_LLAMA     url of a llama-server: its tokens at its pace, its `timings` as the figures at the end
    OLLAMA_DOUBLE_LLAMA_KEY its key
    OLLAMA_DOUBLE_TOKEN_S   without either: time for each token, default 0.002

Ollama's own variables that it heeds: OLLAMA_HOST, OLLAMA_MODELS, OLLAMA_KEEP_ALIVE, OLLAMA_NUM_PARALLEL, OLLAMA_MAX_QUEUE,
OLLAMA_CONTEXT_LENGTH.
"""

import contextlib
import hashlib
import http.client
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ollama_double_tokens import from_llama, words

VERSION = "0.24.0-double"
_FOREVER = timedelta(days=365 * 100)
_CHUNKS = 4


class Refused(Exception):
    """A request that is not served: status and text of the error."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def address() -> tuple[str, int]:
    host, _, port = os.environ.get("OLLAMA_HOST", "127.0.0.1:11434").rpartition(":")
    return host or "127.0.0.1", int(port)


def full(name: str) -> str:
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def seconds(text: Any) -> float | None:
    """A duration as Ollama takes it: `5m`, `300s`, a number of seconds; negative is for ever, None."""
    match = re.fullmatch(r"(-?[0-9.]+)(ms|s|m|h)?", str(text))
    if match is None:
        raise Refused(400, f'time: invalid duration "{text}"')
    value = float(match[1]) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[match[2] or "s"]
    return None if value < 0 else value


class Store:
    """Models on disk, one JSON file each."""

    def __init__(self) -> None:
        self.folder = Path(os.environ.get("OLLAMA_MODELS") or Path(os.environ["HOME"], ".ollama/models")) / "double"
        self.folder.mkdir(parents=True, exist_ok=True)
        library = os.environ.get("OLLAMA_DOUBLE_LIBRARY")
        self.library: dict[str, Any] = json.loads(Path(library).read_text()) if library else {}

    def _path(self, name: str) -> Path:
        return self.folder / full(name).replace("/", "_")

    def get(self, name: str) -> dict[str, Any]:
        path = self._path(name)
        if not path.exists():
            raise Refused(404, f"model '{name}' not found")
        entry: dict[str, Any] = json.loads(path.read_text())
        return entry

    def entries(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in sorted(self.folder.iterdir())]

    def pull(self, name: str) -> Iterator[dict[str, Any]]:
        yield {"status": "pulling manifest"}
        given = self.library.get(full(name), self.library.get(name))
        if given is None:
            yield {"error": "pull model manifest: file does not exist"}
            return
        digest, size = hashlib.sha256(full(name).encode()).hexdigest(), int(given.get("size", 1000))
        for part in range(1, _CHUNKS + 1):
            time.sleep(float(given.get("pull_s", 0)) / _CHUNKS)
            yield {
                "status": f"pulling {digest[:12]}",
                "digest": f"sha256:{digest}",
                "total": size,
                "completed": size * part // _CHUNKS,
            }
        yield {"status": "verifying sha256 digest"}
        yield {"status": "writing manifest"}
        entry = {
            "name": full(name),
            "model": full(name),
            "modified_at": now(),
            "size": size,
            "digest": digest,
            "details": {
                "parent_model": "",
                "format": "gguf",
                "family": "llama",
                "families": ["llama"],
                "parameter_size": given.get("parameters", "0.5M"),
                "quantization_level": given.get("quantization", "Q4_K_M"),
            },
            "load_s": float(given.get("load_s", 0)),
        }
        self._path(name).write_text(json.dumps(entry))
        yield {"status": "success"}


class Memory:
    """The one model that is loaded, the slots that work, and those who wait for them."""

    def __init__(self) -> None:
        self.lock = threading.Condition()
        self.loading = threading.Lock()
        self.model: dict[str, Any] | None = None
        self.expires: datetime | None = None
        self.busy = self.waiting = 0
        self.slots = int(os.environ.get("OLLAMA_NUM_PARALLEL") or 1)
        self.queue = int(os.environ.get("OLLAMA_MAX_QUEUE") or 512)

    def load(self, entry: dict[str, Any], keep_alive: Any) -> int:
        """Bring a model into memory; return the nanoseconds that it took."""
        began = time.monotonic_ns()
        with self.loading:
            self.forget_expired()
            if self.model is None or self.model["name"] != entry["name"]:
                time.sleep(entry["load_s"])
                self.model = entry
            keep_s = seconds(os.environ.get("OLLAMA_KEEP_ALIVE") or "5m" if keep_alive is None else keep_alive)
            self.expires = datetime.now(UTC) + (_FOREVER if keep_s is None else timedelta(seconds=keep_s))
        return time.monotonic_ns() - began

    def forget_expired(self) -> None:
        if self.expires is not None and self.expires <= datetime.now(UTC) and not self.busy:
            self.model = self.expires = None

    @contextlib.contextmanager
    def slot(self) -> Iterator[None]:
        with self.lock:
            if self.busy >= self.slots and self.waiting >= self.queue:
                raise Refused(503, "server busy, please try again.  maximum pending requests exceeded")
            self.waiting += 1
            self.lock.wait_for(lambda: self.busy < self.slots)
            self.waiting -= 1
            self.busy += 1
        try:
            yield
        finally:
            with self.lock:
                self.busy -= 1
                self.lock.notify_all()


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    store: Store
    memory: Memory

    def log_message(self, format: str, *arguments: Any) -> None:
        say(f"[GIN] {format % arguments}")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if self.path == "/":
            self.reply(200, b"Ollama is running", "text/plain; charset=utf-8")
        elif self.path == "/api/version":
            self.reply_json(200, {"version": VERSION})
        elif self.path == "/api/tags":
            shown = [{name: value for name, value in entry.items() if name != "load_s"} for entry in self.store.entries()]
            self.reply_json(200, {"models": shown})
        elif self.path == "/api/ps":
            self.reply_json(200, {"models": self.running()})
        else:
            self.reply(404, b"404 page not found", "text/plain")

    def running(self) -> list[dict[str, Any]]:
        self.memory.forget_expired()
        model, expires = self.memory.model, self.memory.expires
        if model is None or expires is None:
            return []
        entry = {name: value for name, value in model.items() if name not in {"modified_at", "load_s"}}
        context = int(os.environ.get("OLLAMA_CONTEXT_LENGTH") or 4096)
        return [{**entry, "expires_at": expires.isoformat(), "size_vram": 0, "context_length": context}]

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        try:
            if not body:
                raise Refused(400, "missing request body")
            request = json.loads(body)
            if self.path == "/api/pull":
                self.pull(request)
            elif self.path in {"/api/generate", "/api/chat"}:
                self.generate(request, body)
            else:
                self.reply(404, b"404 page not found", "text/plain")
        except Refused as error:
            self.reply_json(error.status, {"error": str(error)})
        except ValueError as error:
            self.reply_json(400, {"error": str(error)})

    def pull(self, request: dict[str, Any]) -> None:
        lines = self.store.pull(request.get("model") or request.get("name") or "")
        if request.get("stream", True):
            self.stream(lines)
            return
        last = list(lines)[-1]
        self.reply_json(500 if "error" in last else 200, last)

    def generate(self, request: dict[str, Any], body: bytes) -> None:
        entry = self.store.get(request.get("model") or "")
        chat = self.path == "/api/chat"
        empty = not request.get("messages") if chat else not request.get("prompt")
        if empty and request.get("keep_alive") in {0, "0"}:
            self.memory.model = self.memory.expires = None
            self.reply_json(200, self.line(request, "", done=True, done_reason="unload"))
            return
        with self.memory.slot() if not empty else contextlib.nullcontext():
            load_ns = self.memory.load(entry, request.get("keep_alive"))
            if empty:
                self.reply_json(200, self.line(request, "", done=True, done_reason="load"))
            elif upstream := os.environ.get("OLLAMA_DOUBLE_UPSTREAM"):
                self.pass_on(upstream, body)
            else:
                lines = self.lines(request, load_ns, time.monotonic_ns())
                if request.get("stream", True):
                    self.stream(lines)
                else:
                    self.reply_json(200, self.whole(list(lines), chat=chat))

    def line(self, request: dict[str, Any], text: str, *, done: bool, **more: Any) -> dict[str, Any]:
        said = {"message": {"role": "assistant", "content": text}} if self.path == "/api/chat" else {"response": text}
        figures = {name: value for name, value in more.items() if value}  # a figure that is 0 is left out
        return {"model": request["model"], "created_at": now(), **said, "done": done, **figures}

    def lines(self, request: dict[str, Any], load_ns: int, began_ns: int) -> Iterator[dict[str, Any]]:
        prompt = request.get("prompt") or "\n".join(message.get("content", "") for message in request.get("messages", ()))
        limit = int(request.get("options", {}).get("num_predict", 16))
        llama = os.environ.get("OLLAMA_DOUBLE_LLAMA")
        figures: dict[str, Any] = {}
        for text in from_llama(llama, prompt, limit, figures) if llama else words(prompt, limit, figures):
            yield self.line(request, text, done=False)
        total_ns = time.monotonic_ns() - began_ns + load_ns
        yield self.line(request, "", done=True, **{"total_duration": total_ns, "load_duration": load_ns, **figures})

    @staticmethod
    def whole(lines: list[dict[str, Any]], *, chat: bool) -> dict[str, Any]:
        last = lines[-1]
        if chat:
            text = "".join(line["message"]["content"] for line in lines)
            return {**last, "message": {"role": "assistant", "content": text}}
        return {**last, "response": "".join(line["response"] for line in lines)}

    def pass_on(self, upstream: str, body: bytes) -> None:
        parts = urlsplit(upstream)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        try:
            connection.request("POST", self.path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.getheader("Content-Type") or "")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            while data := answer.read1(65536):
                self.chunk(data)
            self.chunk(b"")
        finally:
            connection.close()

    def stream(self, lines: Iterator[dict[str, Any]]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for line in lines:
            self.chunk(json.dumps(line).encode() + b"\n")
        self.chunk(b"")

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def reply_json(self, status: int, value: Any) -> None:
        self.reply(status, json.dumps(value).encode(), "application/json; charset=utf-8")

    def reply(self, status: int, data: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def serve() -> int:
    # Ollama makes a key of its own in its home, and cannot start where it may not write there.
    home = Path(os.environ["HOME"], ".ollama")
    home.mkdir(parents=True, exist_ok=True)
    (home / "id_ed25519").touch()
    Handler.store, Handler.memory = Store(), Memory()
    try:
        server = ThreadingHTTPServer(address(), Handler)
    except OSError as error:
        say(f"Error: listen tcp {':'.join(map(str, address()))}: bind: {error.strerror}")
        return 1
    server.daemon_threads = True
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    say(f"Listening on {':'.join(map(str, address()))} (version {VERSION})")
    server.serve_forever(poll_interval=0.05)
    server.server_close()
    return 0


def pull(name: str) -> int:
    host, port = address()
    connection = http.client.HTTPConnection("127.0.0.1" if host == "0.0.0.0" else host, port, timeout=60)
    try:
        connection.request("POST", "/api/pull", json.dumps({"model": name}), {"Content-Type": "application/json"})
        for line in connection.getresponse():
            event = json.loads(line)
            if "error" in event:
                say(f"Error: {event['error']}")
                return 1
            say(event["status"])
    except OSError:
        say("Error: could not connect to ollama server, run 'ollama serve' to start it")
        return 1
    finally:
        connection.close()
    return 0


def main(arguments: list[str]) -> int:
    match arguments:
        case ["serve"]:
            return serve()
        case ["pull", name]:
            return pull(name)
        case ["--version"]:
            say(f"Warning: could not connect to a running Ollama instance\nWarning: client version is {VERSION}")
            return 0
    say(f'Error: unknown command {arguments!r} for "ollama"')
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
