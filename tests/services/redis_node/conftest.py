"""A real server with a password, and measurements of it."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aifactory_bench.node.contract import Context, NotReady
from aifactory_bench.node.endpoint import Endpoint
from aifactory_bench.node.events import EventLog
from aifactory_bench.node.load import run_load
from aifactory_bench.node.measurement import Measurement
from aifactory_bench_services import redis_messages_node, redis_node
from aifactory_bench_services.redis_resp_node import Client

SECRET = "s3cret"


class Server:
    """A real redis-server."""

    secret = SECRET

    def __init__(self, program: str, folder: Path, *more: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        argv = [
            program,
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            str(folder),
            "--requirepass",
            SECRET,
            *more,
        ]
        self.process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
        self.endpoint = Endpoint("cache", 0, "127.0.0.1", port, f"redis://127.0.0.1:{port}", nonce=str(self.process.pid))
        deadline = time.monotonic() + 20
        while True:
            try:
                redis_node.probe(self.endpoint, SECRET, {"cluster": bool(more)})
            except NotReady:
                assert time.monotonic() < deadline, "redis-server does not answer"
                time.sleep(0.02)
            else:
                break

    def ask(self, *command: "bytes | str | int") -> Any:
        with Client(self.endpoint.host, self.endpoint.port, SECRET, 10) as client:
            return client.ask(*command)

    def close(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def program() -> str:
    found = shutil.which("redis-server") or redis_node.locate("redis-server")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("redis-server is not installed")
        pytest.skip("redis-server is not installed")
    return found


@pytest.fixture
def server(program: str, tmp_path: Path) -> Iterator[Server]:
    server = Server(program, tmp_path)
    yield server
    server.close()


@pytest.fixture
def cluster(program: str, tmp_path: Path) -> Iterator[list[Server]]:
    """Three servers that are to be a cluster, and are none yet."""
    started: list[Server] = []
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            bus = str(probe.getsockname()[1])
        started.append(Server(program, folder, "--cluster-enabled", "yes", "--cluster-port", bus))
    yield started
    for server in started:
        server.close()


@pytest.fixture
def context_of(tmp_path: Path) -> Callable[..., Context]:
    def make(
        *servers: Server,
        rank: int = 0,
        ranks: int = 1,
        reset: str = "none",
        secret: str = SECRET,
        kind: str = "redis-load",
        service: "dict[str, Any] | None" = None,
        only: "dict[str, Any] | None" = None,
        **changes: Any,
    ) -> Context:
        load = {
            "process": "closed",
            "concurrency": 5,
            "warmup_s": 0.1,
            "duration_s": 0.4,
            "timeout_s": 3.0,
            "seed": 3,
            "workers": 1,
        }
        parameters: dict[str, Any] = {"operations": {"get": 10, "set": 1}, "keys": 500, "value_size_bytes": 20, "pipeline": 1}
        for name, value in changes.items():
            (parameters if name in parameters else load)[name] = value
        parameters = {**parameters, **(only or {})} if kind == "redis-load" else dict(only or {})
        return Context(
            client="load",
            kind=kind,
            rank=rank,
            ranks=ranks,
            seed=3 + rank,
            endpoints={"main": tuple(server.endpoint for server in servers)},
            secrets={"main": secret},
            service_parameters={"main": service or {}},
            parameters=parameters,
            load=load,
            point="p0000-r1",
            repetition=1,
            reset=reset,
            first=True,
            folder=tmp_path,
            events=EventLog(tmp_path / "events.jsonl", "load", rank),
        )

    return make


@pytest.fixture
def drive() -> Callable[..., Measurement]:
    """Returns a function: context, stop -> the load driven, on the keys as they are."""

    def drive(context: Context, stop: "Callable[[], str | None]" = lambda: None) -> Measurement:
        module = redis_node if context.kind == "redis-load" else redis_messages_node
        return run_load(context, module.driver(context), time.monotonic_ns() + 150_000_000, stop)

    return drive


@pytest.fixture
def measure(drive: Callable[..., Measurement]) -> Callable[..., Measurement]:
    """Returns a function: context, stop -> keys brought into place and the load driven."""

    def measure(context: Context, stop: "Callable[[], str | None]" = lambda: None) -> Measurement:
        redis_node.prepare(context)
        return drive(context, stop)

    return measure
