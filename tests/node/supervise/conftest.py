"""A job on this machine, run by the real supervise in a process of its own, with small servers that the tests can steer."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Optional

import pytest

from aifactory_bench import node
from aifactory_bench.node.events import read_events
from aifactory_bench.node.paths import RunPaths
from aifactory_bench.node.spec import ClientSpec, PointSpec, ServiceSpec, Spec, TargetSpec, spec_to_json

LIMIT_S = 20.0
"""Longer than anything takes on a busy machine; reached only when a test fails."""

# Says hello to whoever connects. Options, in any order, make it misbehave.
SERVER = """
import os, signal, socket, subprocess, sys, time
port, bind, options = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
print("server starts", *options, "password", os.environ.get("PASSWORD"), flush=True)
with open("starts", "a") as stream:
    stream.write(f"{port}\\n")
starts = len(open("starts").read().split())
if "exit0" in options: sys.exit(0)
if "exit7" in options: print("\\x1b[31mcannot go on\\x1b[0m\\x07", flush=True); sys.exit(7)
if "taken-once" in options and starts == 1: print("bind: Address already in use", flush=True); sys.exit(1)
if "taken" in options: print("bind: Address already in use", flush=True); sys.exit(1)
if "deaf" in options: time.sleep(600)
if "stubborn" in options: signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "family" in options:
    orphan = [sys.executable, "-c", "import os, signal, time; os.setsid(); signal.signal(15, signal.SIG_IGN); time.sleep(600)"]
    subprocess.Popen([sys.executable, "-c", f"import subprocess; subprocess.Popen({orphan!r})"]).wait()
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
listener = socket.socket()
if "no-reuse" not in options:
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind((bind, port))
listener.listen()
if "slow" in options: time.sleep(0.5)
end = time.monotonic() + 0.5
listener.settimeout(0.1)
while not ("short" in options and time.monotonic() > end):
    try:
        connection, _ = listener.accept()
    except socket.timeout:
        continue
    connection.sendall(b"hello\\n")
    connection.close()
sys.exit(0)
"""

# The product's node module.
PRODUCT = """
import os, socket, time
from aifactory_bench.node.contract import NotReady

def probe(endpoint, secret, parameters):
    if parameters.get("hang"):
        time.sleep(600)
    try:
        with socket.create_connection((endpoint.host, endpoint.port), timeout=2) as connection:
            connection.settimeout(2)
            if connection.recv(16) == b"hello\\n":
                return {"server_name": "hello", "secret_length": len(secret)}
    except OSError as error:
        raise NotReady(f"nothing there, secret {secret}: {error}")
    raise NotReady("something else is there")

def locate(name):
    return os.environ.get("PRODUCT_HOME", "/nowhere") + "/hello-server" if name == "hello-server" else None
"""

# Takes the place of `measure`, in a copy of the node package: these are tests of supervise alone.
MEASURE = """
import json, os, pathlib, signal, sys, time
from .spec import read_spec

def main(arguments):
    spec = read_spec(arguments[0])
    folder = pathlib.Path(os.environ["AFB_JOB_DIR"], os.environ["AFB_RANK"])
    plan = spec.client.points[0].parameters
    assert arguments[-1] == "--wait"
    os.environ.update(json.loads(sys.stdin.read()))
    def keep(*_):
        for point in spec.client.points:
            (folder / "measurements" / f"{point.id}.json").write_text("{}")
        sys.exit(0)
    if not plan.get("deaf"):
        signal.signal(signal.SIGTERM, keep)
    print("measuring", plan, os.environ.get("URL"), flush=True)
    time.sleep(plan.get("seconds", 0))
    if "exit" in plan:
        return plan["exit"]
    keep()
"""


class Job:
    """One job: its specification, its supervise, what it left."""

    def __init__(self, run: Path, spec: Spec, modules: Path, package: Path) -> None:
        self.run = RunPaths(run)
        self.spec = spec
        self.modules = modules
        self.package = package
        self.paths = self.run.job(spec.token)
        self.process: Optional[subprocess.Popen[str]] = None

    def command(self, *argv: str) -> list[str]:
        self.paths.folder.mkdir(parents=True, exist_ok=True)
        self.paths.spec.write_text(spec_to_json(self.spec))
        tail = ["--", *argv] if argv else []
        return [sys.executable, "-m", "aifactory_bench.node", "supervise", str(self.paths.spec), *tail]

    def environment(self, more: "dict[str, str]") -> "dict[str, str]":
        path = os.pathsep.join([str(self.modules), str(self.package)])
        return {**os.environ, "PYTHONPATH": path, "AFB_RUN_DIR": str(self.run.folder), **more}

    def start(self, *argv: str, **more: str) -> "Job":
        """Start supervise with a command and variables of its environment."""
        return self._start(self.command(*argv), more)

    def start_ranks(self) -> "Job":
        """Start all ranks of a client, as the batch script does where there is no srun."""
        supervise = self.command()
        return self._start([*supervise[:3], "ranks", str(self.spec.ranks), "--", *supervise], {})

    def _start(self, command: "list[str]", more: "dict[str, str]") -> "Job":
        with (self.run.folder / f"stderr-{self.spec.token}").open("w") as stderr:
            self.process = subprocess.Popen(command, env=self.environment(more), stdout=stderr, stderr=stderr)
        return self

    def server(self, *options: str, **more: str) -> "Job":
        """Start supervise over the test server."""
        return self.start(sys.executable, str(self.modules / "server.py"), "@{port}", "@{bind}", *options, **more)

    def stderr(self) -> str:
        """What supervise said so far."""
        return (self.run.folder / f"stderr-{self.spec.token}").read_text()

    def events(self, type: Optional[str] = None, rank: int = 0) -> "list[dict[str, Any]]":
        found = [event for event, _ in read_events(self.paths.rank(rank).events)]
        return [event["data"] for event in found if event["type"] == type] if type else found

    def wait_for(self, type: str, rank: int = 0) -> "dict[str, Any]":
        """Wait for an event; return its data."""
        assert self.process is not None

        def there_or_over() -> bool:
            over = self.process is not None and self.process.poll() is not None
            return bool(self.events(type, rank)) or over

        wait_until(there_or_over, f"event {type}")
        found = self.events(type, rank)
        assert found, f"ended without event {type}: {self.stderr()}"
        return found[0]

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def end(self, rank: int = 0) -> "dict[str, Any]":
        """Wait for supervise to end; return `exit.json`."""
        assert self.process is not None
        self.process.wait(LIMIT_S)
        record: dict[str, Any] = json.loads(self.paths.rank(rank).exit.read_text())
        ok = record["outcome"] in {"completed", "stopped"}
        assert self.process.returncode == (0 if ok else 3), self.stderr()
        return record

    def child_pids(self) -> "list[int]":
        """Processes that the job's family started and that still live."""
        mark = f"AFB_TOKEN={self.spec.token}".encode()
        folder = f"AFB_RUN_DIR={self.run.folder}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    variables = (entry / "environ").read_bytes().split(b"\0")
                except OSError:
                    continue
                if mark in variables and folder in variables:
                    found.append(int(entry.name))
        return found


def wait_until(condition: Callable[[], bool], what: str, limit_s: float = LIMIT_S) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.02)


@pytest.fixture(name="wait_until")
def wait_until_fixture() -> Callable[..., None]:
    """Wait for a condition, or fail and say for what."""
    return wait_until


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the node package, `measure` replaced; as bare as on a node."""
    folder = tmp_path_factory.mktemp("package")
    shutil.copytree(
        Path(node.__file__).parent, folder / "aifactory_bench" / "node", ignore=shutil.ignore_patterns("__pycache__")
    )
    (folder / "aifactory_bench" / "__init__.py").touch()
    (folder / "aifactory_bench" / "node" / "measure.py").write_text(MEASURE)
    return folder


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    """A folder on the path of Python with the test's server and the product's node module."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "server.py").write_text(SERVER)
    (folder / "product.py").write_text(PRODUCT)
    return folder


@pytest.fixture
def jobs(tmp_path: Path, modules: Path, package: Path) -> "Iterator[Callable[..., Job]]":
    """Make jobs of one run; whatever still runs at the end of the test is killed."""
    made: list[Job] = []
    run = tmp_path / "run"
    run.mkdir()

    def make(name: str = "hello", **fields: Any) -> Job:
        defaults: dict[str, Any] = {
            "run_id": "r1",
            "job": name,
            "token": f"afb-r1-{name}-1",
            "role": "client" if "client" in fields else "service",
            "kind": "hello",
            "attempt": 1,
            "ranks": 1,
            "time_s": 120.0,
            "lease_s": None,
            "node_module": "product",
        }
        made.append(Job(run, Spec(**{**defaults, **fields}), modules, package))
        return made[-1]

    yield make
    for job in made:
        if job.process is not None and job.process.poll() is None:
            job.process.send_signal(signal.SIGCONT)
            job.process.kill()
            job.process.wait()


@pytest.fixture
def service(jobs: Callable[..., Job]) -> Callable[..., Job]:
    """Make a service; keywords are those of `ServiceSpec`, and `spec` for the rest."""

    def make(name: str = "hello", spec: Optional[dict[str, Any]] = None, **fields: Any) -> Job:
        fields = {"clients": {}, "ready_timeout_s": 15.0, "stop_timeout_s": 5.0, **fields}
        return jobs(name, service=ServiceSpec(**fields), **(spec or {}))

    return make


@pytest.fixture
def client(jobs: Callable[..., Job]) -> Callable[..., Job]:
    """Make a client with a stand-in for `measure`; `plan` steers it: seconds, exit, deaf."""

    def make(
        name: str = "load", plan: Optional[dict[str, Any]] = None, points: int = 1, spec: Any = None, **fields: Any
    ) -> Job:
        made = [
            PointSpec(id=f"p{index:04d}-r1", repetition=1, reset="none", parameters=plan or {}, load={}, participants={})
            for index in range(points)
        ]
        target = TargetSpec(service="hello", token="afb-r1-hello-1", replicas=1)
        fields = {"targets": {"main": target}, "points": made, "wait_timeout_s": 15.0, **fields}
        return jobs(name, client=ClientSpec(**fields), **(spec or {}))

    return make
