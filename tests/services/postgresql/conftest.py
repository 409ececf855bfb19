"""A real PostgreSQL server, pgbench run as the node side runs it, and whole runs as a user that PostgreSQL accepts."""

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

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
from aifactory_bench_services import postgresql_node
from aifactory_bench_services.postgresql_wire_node import Client as Connection

ROOT = Path(__file__).parents[3]
SAMPLES = Path(__file__).parent / "samples"
SECRET = "throwaway0123456789"
PLUGINS = ROOT / "plugins/services/aifactory_bench_services"


@pytest.fixture(scope="session")
def as_user(leave_out: Callable[[str], NoReturn]) -> tuple[str, ...]:
    """What a command is put behind so that PostgreSQL does not see root: another user by name, with the same files."""
    if os.getuid() != 0:
        return ()
    daemon = pwd.getpwnam("daemon")
    prefix = ("unshare", "--user", f"--map-user={daemon.pw_uid}", f"--map-group={daemon.pw_gid}", "--")
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        leave_out("we are root, which PostgreSQL refuses, and user namespaces are not allowed here")
    return prefix


@pytest.fixture(scope="session")
def programs(leave_out: Callable[[str], NoReturn]) -> Path:
    """Folder of the system's PostgreSQL programs."""
    found = shutil.which("postgres") or postgresql_node.locate("postgres")
    if found is None:
        leave_out("no PostgreSQL server is installed (Debian: postgresql-15)")
    return Path(str(found)).resolve().parent  # Debian's own folder, where pgbench is too


@pytest.fixture(scope="session")
def pgvector_programs(leave_out: Callable[[str], NoReturn]) -> Path:
    """Folder of the programs of a server that has pgvector."""
    made = subprocess.run(
        [ROOT / ".ci/pgvector"], env={**os.environ, "PYTHON": sys.executable}, capture_output=True, text=True, check=False
    )
    found = list(ROOT.glob(".venv-pgserver/lib/*/site-packages/pgserver/pginstall/bin"))
    if made.returncode or not found:
        leave_out(f"no server with pgvector: .ci/pgvector said {made.stderr[-500:]}")
    return found[0]


@pytest.fixture(scope="session")
def samples() -> Path:
    return SAMPLES


class Server:
    """One server of a test."""

    def __init__(self, programs: Path, as_user: tuple[str, ...], folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.folder, self.secret = folder, SECRET
        password = folder / "password"
        password.write_text(SECRET)
        auth = ("--auth=scram-sha-256", f"--pwfile={password}", "-U", "postgres", "--locale=C", "-E", "UTF8")
        argv = [*as_user, str(programs / "initdb"), "-D", str(folder / "data"), *auth, "--no-sync"]
        subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)
        # Transactions of autovacuum are counted like any other, and here counts must be equal to the last one.
        settings = (
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "fsync=off",
            "autovacuum=off",
            f"port={self.port}",
        )
        options = [word for setting in settings for word in ("-c", setting)]
        log = (folder / "log").open("wb")
        argv = [*as_user, str(programs / "postgres"), "-D", str(folder / "data"), *options]
        self.process = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)
        log.close()
        deadline = time.monotonic() + 20
        while True:
            try:
                postgresql_node.probe(self.endpoint, SECRET, {})
            except postgresql_node.NotReady:
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.05)
            else:
                return

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint("db", 0, "127.0.0.1", self.port, f"postgresql://127.0.0.1:{self.port}")

    def connect(self, database: str = "postgres", user: str = "postgres") -> Connection:
        return Connection("127.0.0.1", self.port, user, database, self.secret, 10.0)

    def close(self) -> None:
        self.process.send_signal(signal.SIGQUIT)  # at once; nothing of it is kept
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def server(programs: Path, as_user: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    one = Server(programs, as_user, tmp_path_factory.mktemp("postgresql"))
    yield one
    one.close()


@pytest.fixture(scope="session")
def vector_server(
    pgvector_programs: Path, as_user: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    one = Server(pgvector_programs, as_user, tmp_path_factory.mktemp("pgvector"))
    yield one
    one.close()


@pytest.fixture
def load() -> Callable[..., Load]:
    """Make a load that is short."""

    def make(**changes: Any) -> Load:
        return Load(**{"process": "closed", "concurrency": 4, "warmup_s": 0.0, "duration_s": 1.0, **changes})

    return make


@pytest.fixture
def context_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Context]:
    """Make the context of one rank from what a recipe would say, and the environment that the job would have."""

    def make(client: Client, endpoint: Endpoint, **changes: Any) -> Context:
        folder = tmp_path / f"raw{changes.get('rank', 0)}"
        folder.mkdir(exist_ok=True)
        if client.mode == "tool":
            values = {"endpoint.main.0.secret": SECRET}
            for name, value in client.get_environment().items():
                monkeypatch.setenv(name, resolve(str(value), values))
        load = load_to_json(with_defaults(client.load, type(client)))
        point = client.compose_point(
            load_site("local"), "run", id="p", load=client.load, parameters=client.parameters, participants={}
        )
        fields: dict[str, Any] = {
            "client": client.name,
            "kind": client.kind,
            "rank": 0,
            "ranks": client.replicas,
            "seed": int(load["seed"]),
            "endpoints": {"main": (endpoint,)},
            "secrets": {"main": SECRET},
            "service_parameters": {"main": {}},
            "parameters": parameters_to_json(client.parameters),
            "load": load,
            "point": "p0000-r1",
            "repetition": 1,
            "reset": "none",
            "first": True,
            "folder": folder,
            "events": EventLog(tmp_path / "events.jsonl", client.name, 0),
            "commands": tuple(map(tuple, point.commands)),
        }
        return Context(**{**fields, **changes})

    return make


@pytest.fixture
def run(tmp_path: Path, programs: Path) -> Callable[..., ToolOutcome]:
    """Run the command that the job would have in its script, and return how it ended."""

    def go(client: Client, context: Context, *, during: Callable[[], None] | None = None, after_s: float = 0.0) -> ToolOutcome:
        endpoint = context.endpoints["main"][0]
        work = tmp_path / "work"
        work.mkdir(exist_ok=True)
        for file in client.get_files():
            (work / file.name).write_text("\n".join(file.encoded()) + "\n")
        rate = context.load.get("rate_per_s")
        values = {
            "endpoint.main.0.url": endpoint.url,
            "share.concurrency": str(context.share(int(context.load["concurrency"] or 0))),
            "share.connections": str(context.share(int(context.load["connections"] or 0))),
            "share.rate": str((rate or 0) / context.ranks),
            "raw": str(context.folder),
            "folder": str(work),
            "rank": str(context.rank),
            "replicas": str(context.ranks),
            "seed": str(context.seed),
        }
        command = [resolve(argument, values) for argument in context.commands[0]]
        command[0] = str(programs / "pgbench")
        timer = threading.Timer(after_s, during) if during else None
        if timer:
            timer.start()
        try:
            return run_tool([command], context.folder, tmp_path, context.secrets.values(), 30.0, lambda: None).outcome
        finally:
            if timer:
                timer.join()

    return go


@pytest.fixture(scope="session")
def checked() -> Callable[[Measurement], Measurement]:
    """Return a measurement as it comes back from its file."""

    def through(measurement: Measurement) -> Measurement:
        return from_json(json.loads(json.dumps(to_json(measurement), allow_nan=False)))

    return through


class Ran(NamedTuple):
    """One run of the command line."""

    code: int
    text: str
    folder: Path
    took_s: float

    @property
    def measurements(self) -> dict[str, dict[str, Any]]:
        """By client."""
        summary = json.loads((self.folder / "summary.json").read_text())
        return {each["client"]: each for point in summary["points"] for each in point["measurements"]}

    def rank(self, client: str) -> dict[str, Any]:
        """Return the only document of a client's rank 0."""
        (path,) = self.folder.glob(f"jobs/*-{client}-0/0/measurements/*.json")
        document: dict[str, Any] = json.loads(path.read_text())
        return document


@pytest.fixture
def run_recipe(tmp_path: Path, as_user: tuple[str, ...]) -> Callable[..., Ran]:
    """Run a recipe with the command line, as a user that PostgreSQL accepts unless told otherwise."""

    def go(
        text: str,
        *,
        root: bool = False,
        path: Path | None = None,
        during: Callable[[Path], None] | None = None,
    ) -> Ran:
        recipe, folder = tmp_path / "recipe.yaml", tmp_path / "runs/one"
        recipe.write_text(text)
        installed = {point.name for point in entry_points(group="aifactory_bench")}
        loose = [name for name in ("postgresql", "pgbench", "pgvector") if name not in installed]
        plugins = [word for name in loose for word in ("--plugin", str(PLUGINS / f"{name}.py"))]
        argv = [*(() if root else as_user), sys.executable, "-m", "aifactory_bench", "run", *plugins]
        argv += ["--runs-dir", str(tmp_path / "runs"), "--run-id", "one", "--quiet", str(recipe)]
        environment = {**os.environ, "PATH": f"{path}{os.pathsep}{os.environ['PATH']}" if path else os.environ["PATH"]}
        began = time.monotonic()
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
        try:
            if during:
                during(folder)
            said, _ = process.communicate(timeout=90)
        finally:
            process.kill()
        return Ran(process.returncode, said, folder, time.monotonic() - began)

    return go
