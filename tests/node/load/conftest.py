"""A truthful server, a product that speaks to it, and the context of a measurement."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aifactory_bench.node.contract import Context
from aifactory_bench.node.events import EventLog
from aifactory_bench.node.load import ALL, Batch, Driver, Outcome, Protocol, ProtocolError, RefusedError


class TruthServer:
    """Answers every line with a line; counts what it saw. `reply` decides what to say, or None for nothing."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.seen = 0
        self.connected = 0
        self.reply: Callable[[bytes], bytes | None] = lambda line: line + b"\n"
        self.send_pieces = False
        self.close_after = 0
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connected += 1
            self._open.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        buffer = b""
        answered = 0
        try:
            while data := connection.recv(65536):
                *lines, buffer = (buffer + data).split(b"\n")
                for line in lines:
                    with self._lock:
                        self.seen += 1
                    reply = self.reply(line)
                    answered += 1
                    closing = bool(self.close_after) and answered >= self.close_after
                    if closing:
                        # With the answer: a client that reads it and asks again must not find the connection still open.
                        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
                    if reply is not None:
                        self._send(connection, reply)
                    if closing:
                        connection.close()
                        return
        except OSError:
            return

    def _send(self, connection: socket.socket, data: bytes) -> None:
        if not self.send_pieces:
            connection.sendall(data)
            return
        for at in range(len(data)):
            connection.sendall(data[at : at + 1])

    def hang_up(self) -> None:
        """Close every connection and refuse new ones."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in self._open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def close(self) -> None:
        """End everything."""
        with contextlib.suppress(OSError):
            self.hang_up()
        for thread in self._threads:
            thread.join(5)
        for connection in self._open:
            connection.close()


class Lines(Protocol):
    """`get` or `put`, one a line; a reply that begins with `!` is an error, `?` a miss."""

    def __init__(self, driver: "LineDriver") -> None:
        self._driver = driver
        self._buffer = b""
        self._pending = 0
        self._sent = 0

    def hello(self) -> bytes:
        return self._driver.login

    def welcome(self, data: bytes) -> bool:
        if data.startswith(b"!"):
            raise RefusedError("reply:DENIED", data.decode().strip())
        return data.endswith(b"\n")

    def request(self, count: int) -> tuple[bytes, Batch]:
        if self._driver.broken:
            raise ArithmeticError("the product is broken")
        names = ["put" if (self._sent + number) % 5 == 4 else "get" for number in range(count)]
        self._sent += count
        self._pending += count
        return "".join(f"{name}\n" for name in names).encode(), Batch(names)

    def feed(self, data: bytes, now_ns: int) -> Any:
        if data.startswith(b"\0"):
            raise ProtocolError("a zero byte")
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        self._pending -= len(lines)
        outcomes = [self._outcome(line) for line in lines]
        return ALL if self._driver.whole and lines and not self._pending and not any(outcomes) else outcomes

    def _outcome(self, line: bytes) -> Outcome | None:
        if line.startswith(b"!"):
            return Outcome(error=f"reply:{line[1:].decode()}", text="it said no")
        return Outcome(note="miss") if line.startswith(b"?") else None


class LineDriver(Driver):
    """Speaks to a `TruthServer`."""

    def __init__(self, *ports: int, pipeline: int = 1, whole: bool = True, login: bytes = b"", broken: bool = False) -> None:
        self.pipeline = pipeline
        self.whole = whole
        self.login = login
        self.broken = broken
        self._ports = ports

    def addresses(self) -> list[tuple[str, int]]:
        return [("127.0.0.1", port) for port in self._ports]

    def protocol(self, index: int) -> Protocol:
        return Lines(self)

    def metrics(self, ok: Any, notes: Any) -> dict[str, dict[str, Any]]:
        return {"misses": {"value": notes.get("miss", 0), "unit": "request"}} if ok.get("get") else {}


@pytest.fixture
def server() -> Iterator[TruthServer]:
    """A truthful server."""
    server = TruthServer()
    yield server
    server.close()


@pytest.fixture
def line_driver() -> type[LineDriver]:
    """The class of a product that speaks to `server`."""
    return LineDriver


@pytest.fixture
def context_of(tmp_path: Path) -> Callable[..., Context]:
    """Returns a function: load figures -> context."""

    def make(rank: int = 0, ranks: int = 1, **load: Any) -> Context:
        load = {"process": "closed", "warmup_s": 0.1, "duration_s": 0.3, "timeout_s": 2.0, "seed": 7, "workers": 1, **load}
        return Context(
            client="load",
            kind="lines",
            rank=rank,
            ranks=ranks,
            seed=7 + rank,
            endpoints={},
            secrets={},
            service_parameters={},
            parameters={},
            load=load,
            point="p0000-r1",
            repetition=1,
            reset="none",
            first=True,
            folder=tmp_path,
            events=EventLog(tmp_path / f"events-{rank}.jsonl", "load", rank),
        )

    return make


@pytest.fixture
def soon() -> Callable[[], int]:
    """Returns a function: the time at which a warm-up may begin, long enough from now to connect."""
    return lambda: time.monotonic_ns() + 50_000_000


@pytest.fixture
def workers() -> Callable[[], list[int]]:
    """Returns a function: process ids of the workers that run now."""

    ours = Path("/proc/self/cmdline").read_bytes()  # of what was forked; servers that other tests have started are no workers

    def children() -> list[int]:
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
                    same = Path(f"/proc/{name}/cmdline").read_bytes() == ours
                except OSError:
                    continue
                if same and int(fields[1]) == os.getpid() and fields[0] != "Z":
                    found.append(int(name))
        return found

    return children
