"""A real Redis server, and a tool run as the node side runs it."""

import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aifactory_bench import Client, Load, load_site
from aifactory_bench.jobs.base import parameters_to_json
from aifactory_bench.jobs.client import load_to_json, with_defaults
from aifactory_bench.node.contract import Context, ToolOutcome
from aifactory_bench.node.endpoint import Endpoint
from aifactory_bench.node.events import EventLog
from aifactory_bench.node.measurement import Measurement, from_json, to_json
from aifactory_bench.node.placeholders import resolve
from aifactory_bench.node.tool import run_tool

SAMPLES = Path(__file__).parent / "samples"
SECRET = "throwaway0123456789"


class Server:
    """One redis-server of a test."""

    def __init__(self, folder: Path, secret: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.secret = secret
        argv = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
        if secret:
            argv += ["--requirepass", secret]
        self.process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        raise AssertionError("redis-server did not start")

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint("cache", 0, "127.0.0.1", self.port, f"redis://127.0.0.1:{self.port}")

    def ask(self, *words: str) -> str:
        argv = ["redis-cli", "-p", str(self.port), "--no-auth-warning", *(("-a", self.secret) if self.secret else ()), *words]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def close(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="session")
def samples() -> Path:
    return SAMPLES


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    started: list[Server] = []

    def start(secret: str = SECRET) -> Server:
        folder = tmp_path / f"server{len(started)}"
        folder.mkdir()
        started.append(Server(folder, secret))
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture
def context_of(tmp_path: Path) -> Callable[..., Context]:
    """Make the context of one rank from what a recipe would say."""

    def make(client: Client, server: "Server | None" = None, *, secret: str | None = None, **changes: Any) -> Context:
        folder = tmp_path / "raw"
        folder.mkdir(exist_ok=True)
        if server is None:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = int(free.getsockname()[1])
            endpoint = Endpoint("cache", 0, "127.0.0.1", port, f"redis://127.0.0.1:{port}")
        else:
            endpoint = server.endpoint
        known = secret if secret is not None else (server.secret if server else SECRET)
        fields: dict[str, Any] = {
            "client": client.name,
            "kind": client.kind,
            "rank": 0,
            "ranks": 1,
            "seed": 1,
            "endpoints": {"main": (endpoint,)},
            "secrets": {"main": known},
            "service_parameters": {"main": {}},
            "parameters": parameters_to_json(client.parameters),
            "load": load_to_json(with_defaults(client.load)),
            "point": "p0000-r1",
            "repetition": 1,
            "reset": "none",
            "first": True,
            "folder": folder,
            "events": EventLog(tmp_path / "events.jsonl", client.name, 0),
        }
        return Context(**{**fields, **changes})

    return make


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., ToolOutcome]:
    """Run the commands that the job would have in its script, and return how the last one ended."""

    def go(
        client: Client,
        context: Context,
        *,
        limit_s: float = 30.0,
        during: Callable[[], None] | None = None,
        after_s: float = 0.0,
    ) -> ToolOutcome:
        point = client.compose_point(
            load_site("local"), "run", id="p", load=client.load, parameters=client.parameters, participants={}
        )
        endpoint = context.endpoints["main"][0]
        values = {
            "endpoint.main.0.host": endpoint.host,
            "endpoint.main.0.port": str(endpoint.port),
            "endpoint.main.0.secret": context.secrets["main"],
            "share.concurrency": str(context.share(int(context.load["concurrency"]))),
            "raw": str(context.folder),
        }
        commands = [[resolve(argument, values) for argument in command] for command in point.commands]
        for command in commands:
            command[0] = shutil.which(command[0]) or command[0]
        timer = threading.Timer(after_s, during) if during else None
        if timer:
            timer.start()
        try:
            return run_tool(commands, context.folder, tmp_path, context.secrets.values(), limit_s, lambda: None).outcome
        finally:
            if timer:
                timer.join()

    return go


@pytest.fixture
def outcome_of(tmp_path: Path) -> Callable[..., ToolOutcome]:
    """Make an outcome with given output, as if a tool had left it."""

    def make(stdout: str | bytes = "", stderr: str = "", **changes: Any) -> ToolOutcome:
        (tmp_path / "out").write_bytes(stdout if isinstance(stdout, bytes) else stdout.encode())
        (tmp_path / "err").write_text(stderr)
        fields: dict[str, Any] = {
            "argv": ("timeout", "9", "no-such-tool"),
            "exit_code": 0,
            "timed_out": False,
            "stopped": False,
            "start_wall_ns": 1_700_000_000_000_000_000,
            "duration_s": 3.5,
            "cpu_s": 1.0,
            "stdout": tmp_path / "out",
            "stderr": tmp_path / "err",
        }
        return ToolOutcome(**{**fields, **changes})

    return make


@pytest.fixture(scope="session")
def checked() -> Callable[[Measurement], Measurement]:
    """Return a measurement as it comes back from its file."""

    def through(measurement: Measurement) -> Measurement:
        import json

        return from_json(json.loads(json.dumps(to_json(measurement), allow_nan=False)))

    return through


@pytest.fixture
def load() -> Callable[..., Load]:
    """Make a closed-loop load that is short."""

    def make(**changes: Any) -> Load:
        return Load(**{"process": "closed", "concurrency": 10, "warmup_s": 0.0, "duration_s": 1.0, "timeout_s": 2.0, **changes})

    return make
