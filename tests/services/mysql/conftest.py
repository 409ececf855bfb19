"""A real MariaDB, started as the job would start it, and sysbench run as the node side runs it."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aifactory_bench import Client, Load, load_site
from aifactory_bench.jobs.base import parameters_to_json
from aifactory_bench.jobs.client import load_to_json, with_defaults
from aifactory_bench.jobs.context import JobContext
from aifactory_bench.node.contract import Context, NotReady, ToolOutcome
from aifactory_bench.node.endpoint import Endpoint
from aifactory_bench.node.events import EventLog
from aifactory_bench.node.measurement import Measurement, from_json, to_json
from aifactory_bench.node.placeholders import resolve
from aifactory_bench.node.tool import run_tool
from aifactory_bench_services import mysql_node
from aifactory_bench_services.mysql import MySQLParameters, MySQLService

SECRET = "0123456789abcdef0123456789abcdef"
SMALL = {"innodb_buffer_pool_size_bytes": 64 << 20}


def found(program: str, package: str) -> str:
    """The path of a program; without it the test is left out, or fails where all is to be there."""
    path = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if path is None:
        text = f"{program} is not there: the package {package} brings it"
        if os.environ.get("CI") == "true":
            pytest.fail(text)
        pytest.skip(text)
    return path


class Server:
    """A server of a test: data folder made, started, answering."""

    def __init__(self, folder: Path, parameters: dict[str, Any], as_user: str = "") -> None:
        self.folder = folder / "work folder # 1"
        self.folder.mkdir()
        if as_user:
            shutil.chown(folder, as_user)
            shutil.chown(self.folder, as_user)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.secret = SECRET
        self._values = {"port": str(self.port), "bind": "127.0.0.1", "secret": SECRET, "folder": str(self.folder)}
        self._as_user = as_user
        job = MySQLService("db", MySQLParameters(**{**SMALL, **parameters}))
        site = load_site("local", runs=folder)
        self.script = job.compose(site, JobContext(run_id="r", node_digest="0" * 16, time_s=60.0))
        for file in self.script.spec.files:
            path = self.folder / file.name
            path.write_text("\n".join(self._filled(file.lines)) + "\n")
            path.chmod(0o600)
            if as_user:
                shutil.chown(path, as_user)
        self.log = folder / "log"
        assert self.script.spec.service is not None
        for command in self.script.spec.service.prepare:
            with self.log.open("ab") as log:
                subprocess.run(self._argv(command), stdout=log, stderr=log, cwd=self.folder, check=True)
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self._argv(self.script.argv), stdout=log, stderr=log, cwd=self.folder)
        deadline = time.monotonic() + 20
        while True:
            try:
                self.facts = mysql_node.probe(self.endpoint, SECRET, {})
            except NotReady as error:
                said = f"{error}\n{self.log.read_text(errors='replace')}"
                assert self.process.poll() is None, said
                assert time.monotonic() < deadline, said
                time.sleep(0.02)
            else:
                return

    def _filled(self, parts: Any) -> list[str]:
        return [resolve(part, self._values) for part in parts]

    def _argv(self, command: Any) -> list[str]:
        argv = self._filled(command)
        argv[0] = shutil.which(argv[0]) or mysql_node.locate(argv[0]) or argv[0]
        drop = ["setpriv", f"--reuid={self._as_user}", "--regid=nogroup", "--clear-groups"] if self._as_user else []
        return [*drop, *argv]

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint("db", 0, "127.0.0.1", self.port, f"mysql://127.0.0.1:{self.port}")

    def ask(self, sql: str) -> list[tuple[str | None, ...]]:
        with mysql_node.connect(self.endpoint, SECRET) as connection:
            return connection.ask(sql)

    def status(self, name: str) -> float:
        return mysql_node.counters(self.endpoint, SECRET)[name]

    def pause(self, seconds: float) -> None:
        self.process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="session")
def programs() -> None:
    """What a whole run needs."""
    found("mariadbd", "mariadb-server-core")
    found("mariadb-install-db", "mariadb-server-core")
    found("sysbench", "sysbench")


@pytest.fixture(scope="session")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that leave it as it was."""
    found("mariadbd", "mariadb-server-core")
    found("mariadb-install-db", "mariadb-server-core")
    server = Server(tmp_path_factory.mktemp("mariadb"), {"innodb_flush_log_at_trx_commit": 0})
    yield server
    server.close()


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers of the test's own."""
    started: list[Server] = []
    folders: list[str] = []

    def start(as_user: str = "", **parameters: Any) -> Server:
        if parameters.get("flavour") != "mysql":
            found("mariadbd", "mariadb-server-core")
        if as_user:  # pytest's own folders are for one user
            folders.append(tempfile.mkdtemp())
            folder = Path(folders[-1])
        else:
            folder = tmp_path / f"server{len(started)}"
            folder.mkdir()
        started.append(Server(folder, parameters, as_user))
        return started[-1]

    yield start
    for server in started:
        server.close()
    for name in folders:
        shutil.rmtree(name)


@pytest.fixture
def context_of(tmp_path: Path) -> Callable[..., Context]:
    """Make the context of one rank from what a recipe would say."""

    def make(client: Client, server: Server | None = None, **changes: Any) -> Context:
        folder = tmp_path / "0" / "raw" / "p0000-r1"
        folder.mkdir(parents=True, exist_ok=True)
        work = folder.parent.parent / "work"
        work.mkdir(exist_ok=True)
        for file in client.get_files():  # as the job does at its beginning
            (work / file.name).write_text("\n".join(resolve(line, {}) for line in file.encoded()) + "\n")
        endpoint = server.endpoint if server else Endpoint("db", 0, "127.0.0.1", 1, "mysql://127.0.0.1:1")
        point = client.compose_point(
            load_site("local"), "run", id="p0000-r1", load=client.load, parameters=client.parameters, participants={}
        )
        fields: dict[str, Any] = {
            "client": client.name,
            "kind": client.kind,
            "rank": 0,
            "ranks": 1,
            "seed": 1,
            "endpoints": {"main": (endpoint,)},
            "secrets": {"main": SECRET},
            "service_parameters": {"main": {}},
            "parameters": parameters_to_json(client.parameters),
            "load": load_to_json(with_defaults(client.load)),
            "point": "p0000-r1",
            "repetition": 1,
            "reset": "none",
            "first": True,
            "folder": folder,
            "events": EventLog(tmp_path / "events.jsonl", client.name, 0),
            "commands": tuple(tuple(command) for command in point.commands),
        }
        return Context(**{**fields, **changes})

    return make


@pytest.fixture
def run() -> Callable[..., ToolOutcome]:
    """Run the commands that the job would run at the point, and return how the last one ended."""
    found("sysbench", "sysbench")

    def go(
        client: Client,
        context: Context,
        *,
        limit_s: float = 30.0,
        during: Callable[[], None] | None = None,
        after_s: float = 0.0,
    ) -> ToolOutcome:
        endpoint = context.endpoints["main"][0]
        work = context.folder.parent.parent / "work"
        rate_per_s = context.load.get("rate_per_s")
        values = {
            "endpoint.main.0.host": endpoint.host,
            "endpoint.main.0.port": str(endpoint.port),
            "folder": str(work),
            "rank": str(context.rank),
            "seed.point": "4711",
            "share.concurrency": str(context.share(int(context.load["concurrency"] or 0))),
            "share.connections": str(context.share(int(context.load["connections"] or 0))),
            "share.rate": format((rate_per_s or 0) / context.ranks, ".10g"),
        }
        commands = [[resolve(argument, values) for argument in command] for command in context.commands]
        for command in commands:
            command[0] = shutil.which(command[0]) or command[0]
        timer = threading.Timer(after_s, during) if during else None
        if timer:
            timer.start()
        try:
            return run_tool(commands, context.folder, work, context.secrets.values(), limit_s, lambda: None).outcome
        finally:
            if timer:
                timer.join()

    return go


@pytest.fixture
def outcome_of(tmp_path: Path) -> Callable[..., ToolOutcome]:
    """Make an outcome with given output, as if a tool had left it."""

    def make(stdout: str = "", stderr: str = "", **changes: Any) -> ToolOutcome:
        (tmp_path / "out").write_text(stdout)
        (tmp_path / "err").write_text(stderr)
        fields: dict[str, Any] = {
            "argv": ("no-such-tool",),
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
        fields = {"process": "closed", "concurrency": 4, "warmup_s": 0.0, "duration_s": 1.0}
        if changes.get("process") == "poisson":
            del fields["concurrency"]
        return Load(**{**fields, **changes})

    return make
