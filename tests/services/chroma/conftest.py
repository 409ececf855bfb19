"""A real Chroma in an environment of its own, and what a client is told about it."""

import dataclasses
import os
import socket
import subprocess
import time
from pathlib import Path

import attrs
import pytest

from aifactory_bench import BenchmarkOrchestrator, load_site
from aifactory_bench.jobs.base import parameters_to_json
from aifactory_bench.jobs.context import JobContext
from aifactory_bench.node.contract import Context, NotReady
from aifactory_bench.node.endpoint import Endpoint
from aifactory_bench.node.events import EventLog
from aifactory_bench.node.load import run_load
from aifactory_bench.node.placeholders import resolve
from aifactory_bench_services import chroma_load_node, chroma_node
from aifactory_bench_services.chroma import ChromaParameters, ChromaService
from aifactory_bench_services.chroma_api_node import Api
from aifactory_bench_services.chroma_load import ChromaLoadClient, ChromaLoadParameters, ChromaOperations
from aifactory_bench_services.rag_load import RagLoadClient

SECRET = "throw-away"
_ROOT = Path(__file__).parents[3]
_READY_S = 30.0


@pytest.fixture(scope="session")
def chroma_bin(leave_out):
    """The folder with `chroma` and with a Python that has its application."""
    if not list(_ROOT.glob(".venv-chroma/made-*")):
        leave_out("Chroma is not there: `.ci/chroma-server` installs it in half a minute")
    return _ROOT / ".venv-chroma/bin"


@dataclasses.dataclass
class Server:
    """A Chroma server that answers."""

    process: subprocess.Popen
    endpoint: Endpoint
    folder: Path


def start(chroma_bin, folder, **parameters):
    """Start a server as the node side would, and return it when it answers."""
    program = str(chroma_bin / ("python" if parameters.get("server") == "python" else "chroma"))
    job = ChromaService("vectors", ChromaParameters(program=program, **parameters))
    site = load_site("local", runs=folder)
    script = job.compose(site, JobContext(run_id="r", node_digest="0" * 16, time_s=60.0))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    values = {"port": str(port), "bind": "127.0.0.1", "secret": SECRET, "folder": str(folder)}
    environment = {name: resolve(value, values) for name, value in script.spec.environment.items()}
    argv = [resolve(part, values) for part in script.argv]
    assert SECRET not in " ".join(argv)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, cwd=folder, env={**os.environ, **environment})
    endpoint = Endpoint("vectors", 0, "127.0.0.1", port, f"http://127.0.0.1:{port}")
    deadline = time.monotonic() + _READY_S
    while True:
        try:
            facts = chroma_node.probe(endpoint, SECRET, parameters_to_json(job.parameters))
        except NotReady as error:
            if time.monotonic() > deadline:
                end(process)
                pytest.fail(f"{error}\n{(folder / 'log').read_text()}")
            time.sleep(0.05)
        else:
            return Server(process, dataclasses.replace(endpoint, facts=facts), folder)


def end(process):
    """End a server, whatever state it is in."""
    process.kill()
    process.wait(10)


@pytest.fixture(scope="session")
def chroma_run(chroma_bin, tmp_path_factory):
    """One `chroma run` for all tests: a start takes as long as a test."""
    server = start(chroma_bin, tmp_path_factory.mktemp("chroma run"))
    yield server
    end(server.process)


@pytest.fixture
def chroma(chroma_bin, chroma_run, tmp_path):
    """Returns a function: parameters -> a server that holds nothing; without parameters it is `chroma_run`."""
    started = []

    def serve(**parameters):
        if not parameters:
            api = Api(chroma_run.endpoint, SECRET)
            for collection in api.collections():
                api.remove(collection["name"])
            nonce = str(tmp_path)
            return dataclasses.replace(chroma_run, endpoint=dataclasses.replace(chroma_run.endpoint, nonce=nonce))
        folder = tmp_path / "work folder"
        folder.mkdir()
        started.append(start(chroma_bin, folder, **parameters))
        return started[-1]

    yield serve
    for server in started:
        end(server.process)


@pytest.fixture
def measure(tmp_path):
    """Returns a function: server, load, parameters -> what was prepared, and the measurement."""
    points = []

    def measure(server, load, *, reset="data", stop=lambda: None, before=lambda: None, **parameters):
        given = ChromaLoadParameters(**{"vectors": 600, "dimension": 16, "clusters": 20, "queries": 50, **parameters})
        points.append(given)
        folder = tmp_path / "jobs/afb-r-load-0/0/raw" / f"p{len(points):04d}-r1"
        folder.mkdir(parents=True)
        context = Context(
            client="load",
            kind="chroma-load",
            rank=0,
            ranks=1,
            seed=1,
            endpoints={"main": (server.endpoint,)},
            secrets={"main": SECRET},
            service_parameters={},
            parameters=attrs.asdict(given),
            load={"process": "closed", "warmup_s": 0.2, "duration_s": 1.0, "timeout_s": 5.0, "seed": 1, "workers": 1, **load},
            point=folder.name,
            repetition=1,
            reset=reset,
            first=True,
            folder=folder,
            events=EventLog(tmp_path / "events.jsonl", "load", 0),
        )
        prepared = chroma_load_node.prepare(context)
        driver = chroma_load_node.driver(context)
        before()
        return prepared, run_load(context, driver, time.monotonic_ns() + 100_000_000, stop), context

    return measure


@pytest.fixture
def operations():
    """Returns the class of the mix."""
    return ChromaOperations


@pytest.fixture
def run_recipe(chroma_bin, tmp_path, monkeypatch):
    """Returns a function: recipe's text -> the run, which has begun; `chroma` is on PATH."""
    monkeypatch.setenv("PATH", f"{chroma_bin}{os.pathsep}{os.environ['PATH']}")
    opened = []

    def run(text):
        path = tmp_path / "recipe.yaml"
        path.write_text(text)
        bench = BenchmarkOrchestrator(runs_dir=tmp_path / "runs", plugins=[ChromaService, ChromaLoadClient, RagLoadClient])
        opened.append(bench)
        return bench.run(path)

    yield run
    for bench in opened:
        bench.__exit__(None, None, None)
