"""A service that runs already and wants a token: it is referred to, handed on, and stands nowhere but in one private file."""

import stat
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Optional

import pytest
from attrs import frozen

from aifactory_bench import BenchmarkOrchestrator, Client, RecipeError

TOKEN = "sk-0123456789abcdef-is-never-shown"
NODE = """
import http.client
from aifactory_bench.node.contract import NotReady
from aifactory_bench.node.load import Batch, Driver, Outcome, Protocol


def probe(endpoint, secret, parameters):
    connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=2)
    connection.request("GET", "/", headers={"Authorization": "Bearer " + secret})
    answer = connection.getresponse()
    connection.close()
    if answer.status != 200:
        raise NotReady(f"{answer.status} for the token {secret!r}")
    return {}


def driver(context):
    if context.parameters["breaks"]:
        raise RuntimeError(f"cannot make a driver for {context.secrets}")
    return Ask(context.endpoints["main"][0], context.secrets["main"])


class Ask(Driver):
    unit = "request"

    def __init__(self, endpoint, secret):
        self.endpoint, self.secret = endpoint, secret

    def addresses(self):
        return [(self.endpoint.host, self.endpoint.port)]

    def protocol(self, index):
        return Connection(self.secret)


class Connection(Protocol):
    def __init__(self, secret):
        self.line = f"GET / HTTP/1.1\\r\\nHost: x\\r\\nAuthorization: Bearer {secret}\\r\\n\\r\\n".encode()
        self.secret, self.data = secret, b""

    def request(self, count):
        return self.line * count, Batch(["get"] * count)

    def feed(self, data, now_ns):
        self.data += data
        outcomes = []
        while b"\\r\\n\\r\\n" in self.data:
            head, _, self.data = self.data.partition(b"\\r\\n\\r\\n")
            good = head.startswith(b"HTTP/1.1 200")
            outcomes.append(None if good else Outcome(error="refused", text=f"bad key {self.secret}"))
        return outcomes
"""
RECIPE = """\
schema: aifactory-bench/1
name: outside
services:
  api: {external: {url: "http://127.0.0.1:PORT", secret: "REFERENCE"}, ready: {timeout: 2s}}
clients:
  load: {kind: bearer-load, target: api, load: {process: constant, rate: 100/s, connections: 2, warmup: 0s, duration: 500ms}}
"""


@frozen
class BearerParameters:
    """Of the client that asks with a token."""

    breaks: Optional[str] = None


class BearerLoad(Client):
    """Asks with a token."""

    kind = "bearer-load"
    Parameters = BearerParameters
    node_module = "afb_bearer.bearer_node"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        given = self.headers.get("Authorization", "")
        self.server.given.add(given)
        self.server.asked += 1
        good = given == f"Bearer {TOKEN}" and self.server.asked <= self.server.good_for
        self.send_response(200 if good else 401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def server():
    """An HTTP server that takes one token, and remembers what it was given."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.given, server.asked, server.good_for = set(), 0, 1 << 30
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def outside(tmp_path, monkeypatch, server):
    """Write the recipe with a reference; its client's module can be found."""
    package = tmp_path / "site" / "afb_bearer"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "bearer_node.py").write_text(NODE)
    monkeypatch.syspath_prepend(str(package.parent))
    yield lambda reference: write(tmp_path, RECIPE.replace("PORT", str(server.server_port)).replace("REFERENCE", reference))
    for name in [name for name in sys.modules if name.startswith("afb_bearer")]:
        del sys.modules[name]


def write(folder: Path, text: str) -> Path:
    path = folder / "outside.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("reference", ["env:AFB_TEST_TOKEN", "file:"])
def test_the_token_reaches_the_service_and_one_private_file(outside, runs, server, tmp_path, monkeypatch, reference):
    """From the variable or the file where the run is begun; of all that the run leaves only that file has it."""
    if reference == "file:":
        (tmp_path / "token").write_text(f"{TOKEN}\n")
        reference = f"file:{tmp_path / 'token'}"
    else:
        monkeypatch.setenv("AFB_TEST_TOKEN", TOKEN)
    with BenchmarkOrchestrator(runs_dir=runs, plugins=[BearerLoad]) as bench:
        run = bench.run(outside(reference))
        (point,) = run.wait().points
    (measurement,) = point.measurements
    assert (measurement.counts["error"], measurement.counts["ok"] > 20) == (0, True), measurement
    assert server.given == {f"Bearer {TOKEN}"}
    assert holders(runs) == [run.folder / "endpoints" / "external-api" / "secret"]
    assert stat.S_IMODE(holders(runs)[0].stat().st_mode) == 0o600
    assert reference in (run.folder / "recipe.yaml").read_text()


def holders(folder: Path) -> "list[Path]":
    """Return the files that have the token."""
    return [path for path in folder.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]


def test_what_a_module_says_of_the_token_is_masked(outside, runs, server, monkeypatch):
    """A service that refuses it ends the run; what the probe complains of goes into records and logs without the token."""
    monkeypatch.setenv("AFB_TEST_TOKEN", f"wrong-{TOKEN}")
    with BenchmarkOrchestrator(runs_dir=runs, plugins=[BearerLoad]) as bench:
        run = bench.run(outside("env:AFB_TEST_TOKEN"))
        summary = run.wait()
    assert summary.missing
    assert "401 for the token" in (run.folder / "jobs").glob("*/0/exit.json").__next__().read_text()
    assert holders(runs) == [run.folder / "endpoints" / "external-api" / "secret"]


def test_errors_that_quote_the_token_are_masked(outside, runs, server, monkeypatch):
    """Of requests, and of the product's own module."""
    monkeypatch.setenv("AFB_TEST_TOKEN", TOKEN)
    server.good_for = 1  # for the probe
    with BenchmarkOrchestrator(runs_dir=runs, plugins=[BearerLoad]) as bench:
        run = bench.run(outside("env:AFB_TEST_TOKEN"))
        run.wait()
        (written,) = run.folder.glob("jobs/*/0/measurements/*.json")
        assert "bad key ***" in written.read_text()
        server.good_for = 1 << 30
        broken = bench.run(outside("env:AFB_TEST_TOKEN"), overrides=["clients.load.parameters.breaks=now"])
        broken.wait()
        (written,) = broken.folder.glob("jobs/*/0/measurements/*.json")
        assert "cannot make a driver for {'main': '***'}" in written.read_text()
        (log,) = broken.folder.glob("jobs/*/0/log")
        assert "RuntimeError: cannot make a driver for {'main': '***'}" in log.read_text()
    assert [path.name for path in holders(runs)] == ["secret", "secret"]


def test_a_run_is_taken_up_without_the_variable(outside, runs, server, monkeypatch):
    """What was put into the run folder when the run was begun is what a further attempt uses."""
    monkeypatch.setenv("AFB_TEST_TOKEN", TOKEN)
    with BenchmarkOrchestrator(runs_dir=runs, plugins=[BearerLoad]) as bench:
        run = bench.run(outside("env:AFB_TEST_TOKEN"))
        run.wait()
    monkeypatch.delenv("AFB_TEST_TOKEN")
    for measured in run.folder.glob("jobs/*/0/measurements/*.json"):
        measured.unlink()
    server.given.clear()
    with BenchmarkOrchestrator(runs_dir=runs, plugins=[BearerLoad]) as bench:
        (point,) = bench.attach(run.run_id).wait().points
    assert point.measurements[0].counts["ok"] > 20
    assert server.given == {f"Bearer {TOKEN}"}


def test_a_secret_that_is_not_in_the_run_folder(outside, runs, server, monkeypatch):
    """The job says where it should be, and asks nothing."""
    monkeypatch.setenv("AFB_TEST_TOKEN", TOKEN)
    with BenchmarkOrchestrator(runs_dir=runs, plugins=[BearerLoad]) as bench:
        run = bench.run(outside("env:AFB_TEST_TOKEN"))
        run.wait()
        for path in (*run.folder.glob("jobs/*/0/measurements/*.json"), *run.folder.glob("endpoints/*/secret")):
            path.unlink()
        server.given.clear()
        bench.attach(run.run_id).wait()
    texts = [path.read_text() for path in run.folder.glob("jobs/*/0/exit.json")]
    assert any("the secret of the external service api is not in the run folder" in text for text in texts)
    assert server.given == set()


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        ("env:AFB_TEST_ABSENT", "the variable AFB_TEST_ABSENT is not set where the run is begun"),
        ("env:AFB_TEST_EMPTY", "env:AFB_TEST_EMPTY is empty"),
        ("env:AFB_TEST_LINES", "must be one line of text"),
        ("file:/nowhere/token", "/nowhere/token cannot be read where the run is begun: No such file"),
        ("file:/", "/ is no file"),
    ],
)
def test_a_secret_that_is_not_there_stops_it_all(outside, runs, monkeypatch, reference, text):
    """Before there is a run folder, and with the key that refers to it; a plan can be made without it."""
    monkeypatch.setenv("AFB_TEST_EMPTY", " \n")
    monkeypatch.setenv("AFB_TEST_LINES", f"{TOKEN}\nX-Other: 1")
    with BenchmarkOrchestrator(runs_dir=runs, plugins=[BearerLoad]) as bench:
        recipe = bench.load_recipe(outside(reference))
        assert bench.plan(recipe).points
        with pytest.raises(RecipeError, match=r"^services\.api\.external\.secret: ") as error:
            bench.run(recipe)
    assert text in str(error.value)
    assert TOKEN not in str(error.value)
    assert not runs.exists()
