"""A truth server in a process of its own, and a client that reads bytes and nothing else."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

TIMEOUT_S = 10.0


@dataclass
class Answer:
    """What came back, piece by piece."""

    pieces: list[tuple[int, bytes]] = field(default_factory=list)
    """When it was read (CLOCK_MONOTONIC ns), and what."""
    sent_ns: int = 0
    how: str = "open"
    """`whole`, `closed` (an end of the connection within it or as its end), `reset`."""
    raw: bytearray = field(default_factory=bytearray)

    @property
    def head(self):
        return self.raw.partition(b"\r\n\r\n")[0].decode()

    @property
    def status(self):
        return int(self.head.split(" ")[1])

    @property
    def header(self):
        return dict(line.split(": ", 1) for line in self.head.split("\r\n")[1:])

    @property
    def chunks(self):
        """Of HTTP, without the last, empty one."""
        data, at, found = bytes(self.raw), self.raw.find(b"\r\n\r\n") + 4, []
        while at < len(data):
            after = data.index(b"\r\n", at) + 2
            end = after + int(data[at:after], 16)
            found.append(data[after:end])
            assert data[end : end + 2] == b"\r\n"
            at = end + 2
        return found[:-1] if found and found[-1] == b"" else found

    @property
    def body(self):
        """Without the framing."""
        if "transfer-encoding" in self.header:
            return b"".join(self.chunks)
        return self.raw.partition(b"\r\n\r\n")[2]

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def data(self):
        """Of each event, in order."""
        events = re.split(r"\r\n\r\n|\n\n", self.body.decode())
        lines = [line for event in events for line in event.splitlines() if line.startswith("data: ")]
        return [line.removeprefix("data: ") for line in lines]

    @property
    def objects(self):
        """JSON of the events, without the end."""
        return [json.loads(text) for text in self.data if text != "[DONE]"]

    @property
    def lines(self):
        """JSON of the lines."""
        return [json.loads(line) for line in self.body.splitlines()]

    @property
    def text(self):
        """What a model would have said."""
        choices = [choice for item in self.objects for choice in item.get("choices", ())]
        return "".join(choice.get("text") or choice.get("delta", {}).get("content") or "" for choice in choices)

    def complete(self):
        end = self.raw.find(b"\r\n\r\n")
        if end < 0:
            return False
        size = re.search(rb"content-length: (\d+)", self.raw[:end])
        if size:
            return len(self.raw) - end - 4 >= int(size[1])
        return b"chunked" in self.raw[:end] and self.raw.endswith(b"\r\n0\r\n\r\n")


class Client:
    """One connection."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data):
        """Send, and return when that began: afterwards the server may have had it for a while."""
        sent_ns = time.monotonic_ns()
        self.socket.sendall(data)
        return sent_ns

    def read(self, sent_ns=0):
        answer = Answer(sent_ns=sent_ns)
        while not answer.complete():
            try:
                data = self.socket.recv(1 << 16)
            except ConnectionResetError:
                answer.how = "reset"
                return answer
            if not data:
                answer.how = "closed"
                return answer
            answer.pieces.append((time.monotonic_ns(), data))
            answer.raw += data
        answer.how = "whole"
        return answer

    def ask(self, path, body=None, **keywords):
        return self.read(self.send(request(path, body, **keywords)))

    def close(self):
        self.socket.close()


def request(path, body=None, method="", headers=(), version="HTTP/1.1"):
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{method or ('GET' if body is None else 'POST')} {path} {version}", "host: localhost", *headers]
    return "\r\n".join([*lines, f"content-length: {len(data)}", "", ""]).encode() + data


def spawn(*options, environment=(), command=(sys.executable, "-m", "aifactory_bench.node.truth_server")):
    """Start a server on a free port; returns the process and its port."""
    server = subprocess.Popen(
        [*command, "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **dict(environment)},
    )
    line = server.stdout.readline()
    found = re.search(r":(\d+)$", line.strip())
    assert found, line + server.stderr.read()
    return server, int(found[1])


def end(server, number=signal.SIGTERM):
    """Stop it, and return what it had to complain about."""
    server.send_signal(number)
    _, errors = server.communicate(timeout=TIMEOUT_S)
    return server.returncode, errors


def chat(*, tokens=4, **afb):
    common = {"model": "m", "stream": True, "max_tokens": tokens, "afb": {"ttft": "2ms", "gap": "1ms", **afb}}
    return {**common, "messages": [{"role": "user", "content": "one two three"}]}


def completion(*, tokens=4, **afb):
    common = {"model": "m", "stream": True, "max_tokens": tokens, "afb": {"ttft": "2ms", "gap": "1ms", **afb}}
    return {**common, "prompt": "one two three"}


class Truth:
    """A server, and connections to it."""

    def __init__(self, port, pid):
        self.port = port
        self.pid = pid
        self.open = []

    chat_body = staticmethod(chat)
    completion_body = staticmethod(completion)

    def client(self):
        self.open.append(Client(self.port))
        return self.open[-1]

    def ask(self, path, body=None, **keywords):
        return self.client().ask(path, body, **keywords)

    def chat(self, *, tokens=4, **afb):
        """A stream of chat, with options."""
        return self.ask("/v1/chat/completions", chat(tokens=tokens, **afb))

    def complete(self, *, tokens=4, **afb):
        return self.ask("/v1/completions", completion(tokens=tokens, **afb))

    def log(self, **query):
        """The log, without the requests of earlier tests."""
        return self.ask("/afb/log" + ("?" + "&".join(f"{name}={value}" for name, value in query.items()) if query else "")).json

    def last(self):
        return self.log()["records"][-1]


@contextmanager
def running(*options, **keywords):
    server, port = spawn(*options, **keywords)
    code, errors = 0, ""
    truth = Truth(port, server.pid)
    try:
        yield truth
    finally:
        if server.returncode is None:
            code, errors = end(server)
        for client in truth.open:
            client.close()
        assert (code, errors) == (0, "")


@pytest.fixture(scope="module")
def shared() -> Any:
    """One server for all tests of a file: what it does is said in the requests."""
    with running() as truth:
        yield truth


@pytest.fixture
def truth(shared):
    """The shared server, with connections that end with the test."""
    mine = Truth(shared.port, shared.pid)
    mine.log(reset=1)
    yield mine
    for client in mine.open:
        client.close()


@pytest.fixture
def serve():
    """Start servers with options of their own."""
    return running
