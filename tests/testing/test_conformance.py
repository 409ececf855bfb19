"""The conformance suite finds what it is for: for each check a plugin that fails it, and one that passes them all."""

import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace
from typing import Any
from unittest import SkipTest

import pytest

from aifactory_bench import UsageError
from aifactory_bench.testing import conformance_run
from aifactory_bench.testing.conformance import EVERY_KIND, SERVICES, ConformanceError, checks, main
from aifactory_bench.testing.conformance_samples import differences
from aifactory_bench.testing.conformance_script import bash_problem

PLUGIN = '''\
"""A plugin in two files.

    schema: aifactory-bench/1
    name: in-the-docstring
    services: {store: {kind: KIND}}
"""

from typing import ClassVar

from attrs import field, frozen

from aifactory_bench import (
    BIND, FOLDER, PORT, SECRET, Client, Command, DurationS, Endpoint, File, Joined, Placeholder, Service, hookimpl
)


@frozen
class Inner:
    """Part of the parameters."""

    word: str = "word"
    """Any word."""


@frozen
class StoreParameters:
    """What a recipe says."""

    folder: str = "data"
    """Where it writes."""
    words: tuple[str, ...] = ()
    """More of them."""
    options: dict[str, str] = field(factory=dict)
    """Name and value."""
    inner: Inner = field(factory=Inner)
    """A part."""
    pause_s: DurationS = DurationS(0.0)
    """Between answers, such as `pause: 10ms`."""


class Store(Service):
    """A server that says hello."""

    kind = "KIND"
    Parameters = StoreParameters
    node_module = "NODE"
    # declarations

    def get_environment(self):
        return {"PYTHONPATH": Placeholder("node"), "STORE_PASSWORD": SECRET}

    def get_files(self):
        return [File("store.conf", [f"folder {self.parameters.folder}"])]

    # steps

    def get_container_command(self):
        extra = [self.parameters.folder, *self.parameters.words, *self.parameters.options.values(), self.parameters.inner.word]
        return Command([Placeholder("python"), "-m", "NODE", BIND, PORT, *extra])


@frozen
class ToolParameters:
    """What a recipe says."""

    size: int = 1
    """Of each value."""


class Tool(Client):
    """A program that measures."""

    kind = "KIND-tool"
    Parameters = ToolParameters
    mode = "tool"
    node_module = "NODE"
    targets: ClassVar = {"main": ("KIND",)}
    # tool declarations

    def get_benchmark_commands(self, load, parameters):
        return [Command(["store-tool", "-h", self.target_endpoint.host])]


class Load(Client):
    """A load."""

    kind = "KIND-load"
    node_module = "NODE"
    targets: ClassVar = {"main": ("KIND",)}


@hookimpl
def register_jobs():
    return [Store, Tool, Load]
'''

NODE = """\
import json
import socket
import sys
import time

from aifactory_bench.node.contract import NotReady
from aifactory_bench.node.load import Batch, Driver, Protocol
from aifactory_bench.node.measurement import Counts, Measurement


def ask(endpoint, timeout_s=1.0):
    with socket.create_connection((endpoint.host, endpoint.port), timeout=timeout_s) as connection:
        connection.sendall(b"hello\\n")
        return connection.recv(64)


def probe(endpoint, secret, parameters):
    try:
        answer = ask(endpoint)
    except OSError as error:
        raise NotReady(str(error)) from None
    if answer != b"hello\\n":
        raise NotReady("it says something else")
    return {"server_name": "store"}


def counters(endpoint, secret):
    ask(endpoint)
    return {"operations": 0.0}


def sample(endpoint, secret):
    ask(endpoint)
    return {"items": 1, "spare": None}


def driver(context):
    return HelloLoad([(endpoint.host, endpoint.port) for endpoint in context.endpoints["main"]])


class HelloLoad(Driver):
    def __init__(self, addresses):
        self._addresses = addresses

    def addresses(self):
        return self._addresses

    def protocol(self, index):
        return Connection()


class Connection(Protocol):
    def request(self, count):
        return b"hello\\n" * count, Batch(["hello"] * count)

    def feed(self, data, now_ns):
        return [None] * data.count(b"\\n")


def reduce(context, outcome):
    measurement = Measurement(context.point, context.client, context.kind, context.rank, "ok")
    measurement.window_asked_s = measurement.window_s = 3.0
    try:
        told = json.loads(outcome.stdout.read_text())
    except ValueError as error:
        measurement.status, measurement.reason = "failed", f"no JSON: {error}"
        return measurement
    measurement.counts = Counts(ok=told["ok"])
    return measurement


def serve(host, port):
    listener = socket.create_server((host, port))
    while True:
        connection, _ = listener.accept()
        with connection:
            while data := connection.recv(4096):
                connection.sendall(data)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
"""

_number = itertools.count()


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Callable[..., SimpleNamespace]]:
    """Write the plugin with changes (old, new), each for the file in which its old text stands; forget it after the test."""
    before = set(sys.modules)

    def write(*changes: tuple[str, str]) -> SimpleNamespace:
        number = next(_number)
        kind, node = f"store{number}", f"store{number}_node"
        texts = [PLUGIN, NODE]
        for old, new in changes:
            (place,) = (place for place, text in enumerate(texts) if old in text)
            texts[place] = texts[place].replace(old, new, 1)
        path = tmp_path / f"{kind}.py"
        path.write_text(texts[0].replace("KIND", kind).replace("NODE", node))
        (tmp_path / f"{node}.py").write_text(texts[1])
        return SimpleNamespace(kind=kind, tool=f"{kind}-tool", load=f"{kind}-load", path=path)

    yield write
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def found(kind: str, name: str, **options: Any) -> str:
    """Return what a check says; empty: it passed."""
    (check,) = [check for check in checks(kind, **options)[1] if check.name == name]
    try:
        check()
    except ConformanceError as error:
        return str(error)
    return ""


def test_a_good_plugin_passes_every_check(plugin, tmp_path):
    """A service, a tool and a load; and nothing is left out."""
    made = plugin()
    (tmp_path / "samples.json").write_text(
        json.dumps({"one": {"stdout": "one.json", "expect": {"status": "ok", "counts": {"ok": 7}}}})
    )
    (tmp_path / "one.json").write_text('{"ok": 7}')
    names = {}
    for kind, options in ((made.kind, {}), (made.tool, {"samples": tmp_path / "samples.json"}), (made.load, {})):
        argument, every = checks(kind, plugins=[made.path], **options)
        assert argument == "check"
        names[kind] = [check.name for check in every]
        for check in every:
            check()
    assert names == {
        made.kind: [*EVERY_KIND, *SERVICES],
        made.tool: [*EVERY_KIND, "samples"],
        made.load: [*EVERY_KIND],
    }


SHELL = 'return Command(["bash", "-c", {}])'
COMMAND = 'return Command([Placeholder("python"), "-m", "NODE", BIND, PORT, *extra])'
TIMEOUT = ("timeout_s=1.0", "timeout_s=600")
PAUSE = '{} = DurationS(0.0)\n    """Between answers, such as `pause: 10ms`."""'
FAILING = {
    "no docstring": ("documented", ('"""A server that says hello."""', ""), "Store has no docstring"),
    "no text": ("documented", ('"""Where it writes."""', ""), "StoreParameters.folder has no text"),
    "no text inside": ("documented", ('"""Any word."""', ""), "Inner.word has no text"),
    "not frozen": (
        "parameters",
        ("@frozen\nclass Inner", "from attrs import define\n@define\nclass Inner"),
        "Inner is not frozen",
    ),
    "no JSON": (
        "parameters",
        ("pause_s: DurationS = DurationS(0.0)", 'pause_s: DurationS = DurationS(float("nan"))'),
        "parameters cannot travel to the node as JSON",
    ),
    "other keys": ("parameters", ("field(factory=dict)", "field(factory=lambda: {1: 'x'})"), "something else on the node"),
    "wrong notation": ("parameters", ("`pause: 10ms`", "`pause: 10`"), "`pause: 10` must be a duration"),
    "no YAML": ("parameters", ("`pause: 10ms`", "`pause: [`"), "`pause: \\[` is not YAML"),
    "unit without its name": (
        "parameters",
        (
            'pause_s: DurationS = DurationS(0.0)\n    """Between answers, such as `pause: 10ms`."""',
            PAUSE.format("pause: DurationS"),
        ),
        "StoreParameters.pause is a DurationS: call it pause_s; a recipe then says `pause`",
    ),
    "another unit's name": ("parameters", ("pause_s: DurationS", "pause_ms: DurationS"), "call it pause_s"),
    "milliseconds": ("parameters", ("pause_s: DurationS", "pause_ms: float"), "write `pause_s: DurationS`"),
    "seconds": (
        "parameters",
        ("pause_s: DurationS = DurationS(0.0)", "pause_s: int | None = None"),
        "write `pause_s: DurationS`",
    ),
    "megabytes": (
        "parameters",
        ("pause_s: DurationS", "size_mb: int"),
        "write `size_bytes: SizeBytes`; a recipe then says `size`",
    ),
    "bytes": ("parameters", ("pause_s: DurationS", "size_bytes: int"), "write `size_bytes: SizeBytes`"),
    "rate": (
        "parameters",
        ("pause_s: DurationS", "calls_per_s: float"),
        "write `calls_per_s: RatePerS`; a recipe then says `calls`",
    ),
    "image": ("declarations", ("# declarations", 'default_image = "redis 7"'), "default_image 'redis 7' must be a reference"),
    "scheme": ("declarations", ("# declarations", 'scheme = "1x"'), "scheme '1x' cannot begin a url"),
    "signal": ("declarations", ("# declarations", 'stop_signal = "SIGTERM"'), "stop_signal 'SIGTERM' is no signal"),
    "stop timeout": ("declarations", ("# declarations", "stop_timeout_s = 0"), "stop_timeout_s must be a number above 0"),
    "ready timeout": (
        "declarations",
        ("# declarations", 'default_ready_timeout_s = float("inf")'),
        "default_ready_timeout_s must be a number above 0, got inf",
    ),
    "reason": (
        "declarations",
        ("# declarations", "credential_in_arguments = True"),
        "credential_in_arguments must be a sentence",
    ),
    "docstring": ("recipes", ("{kind: KIND}", "{kind: KIND, port: 1}"), "docstring of .*: services.store.port: unknown key"),
    "not pure": (
        "renders",
        (COMMAND, "import random\n        " + COMMAND.replace("*extra", "random.random()")),
        "does not give the same each time",
    ),
    "step fails": ("renders", (COMMAND, "raise KeyError('x')"), "on the site local: .*KeyError"),
    "shell": ("quoted", (COMMAND, SHELL.format('"serve " + self.parameters.folder')), "parameters.folder gets into a shell"),
    "single quotes": (
        "quoted",
        (COMMAND, SHELL.format("f\"serve '{self.parameters.folder}'\"")),
        "parameters.folder gets into a shell",
    ),
    "double quotes": (
        "quoted",
        (COMMAND, "import json\n        " + SHELL.format("f'serve {json.dumps(self.parameters.folder)}'")),
        "parameters.folder gets into a shell",
    ),
    "text in a list": (
        "quoted",
        (COMMAND, SHELL.format('" ".join(["serve", *self.parameters.words])')),
        "parameters.words gets into a shell",
    ),
    "key of a mapping": (
        "quoted",
        (COMMAND, SHELL.format('" ".join(["serve", *self.parameters.options])')),
        "parameters.options gets into a shell",
    ),
    "text inside": (
        "quoted",
        (COMMAND, SHELL.format('"serve " + self.parameters.inner.word')),
        "parameters.inner.word gets into a shell",
    ),
    "script file": (
        "quoted",
        ('"store.conf", [f"folder {self.parameters.folder}"]', '"start.sh", [f"serve {self.parameters.folder}"]'),
        "parameters.folder gets into a shell",
    ),
    "setup": (
        "quoted",
        (
            "# steps",
            'def get_setup_commands(self):\n        return [Command(["sh", "-c", "mkdir " + self.parameters.folder])]',
        ),
        "parameters.folder gets into a shell",
    ),
    "step trips": ("quoted", (COMMAND, "assert '$' not in self.parameters.folder\n        " + COMMAND), "AssertionError"),
    "secret": (
        "secrets",
        ("BIND, PORT, *extra", "BIND, PORT, Joined(['--password=', SECRET])"),
        "a password is an argument of",
    ),
    "needless reason": ("secrets", ("# declarations", 'credential_in_arguments = "no other way"'), "leave it out"),
    "not on a node": ("packed", ("import json\n", "import json\nimport attrs\n"), "`import attrs` is not there on a node"),
    "match": ("packed", ("import time\n", "import time\n\nmatch 1:\n    case _:\n        pass\n"), "not Python 3.9"),
    "union": ("packed", ("def serve(host, port):", "def serve(host: str | None, port):"), "`X | Y` in an annotation"),
    "zip": ("packed", ("def serve(", "NAMES = dict(zip('ab', 'cd', strict=True))\n\n\ndef serve("), r"zip\(strict=...\)"),
    "no probe": ("functions", ("def probe(", "def prob("), r"has no probe\(endpoint, secret, parameters\)"),
    "arguments": ("functions", ("def probe(endpoint, secret, parameters)", "def probe(endpoint)"), "probe must take"),
    "async": ("functions", ("def sample(", "async def sample("), "must be a plain function"),
    "no function": ("functions", ("def serve(", "locate = 3\n\n\ndef serve("), "locate is no function"),
    "pull without alive": (
        "functions",
        ("# steps", 'def get_model_pull_commands(self):\n        return [Command(["pull"])]'),
        "has no alive",
    ),
    "hangs": ("not-ready", TIMEOUT, "has not come back for 1 s from a server that says nothing"),
    "hangs in the hole": ("not-ready", TIMEOUT, "has not come back for 1 s from a port that swallows connections"),
    "always ready": (
        "not-ready",
        ('raise NotReady("it says something else")', "pass"),
        "calls a server that says nonsense ready",
    ),
    "other error": (
        "not-ready",
        ("except OSError as error", "except KeyError as error"),
        "raised ConnectionRefusedError at a closed",
    ),
    "no word": ("not-ready", ("raise NotReady(str(error))", "raise NotReady()"), "without a text"),
    "made-up counters": (
        "no-made-up-numbers",
        ('ask(endpoint)\n    return {"operations": 0.0}', 'return {"operations": 0.0}'),
        r"counters\(\) returned .* there is no server",
    ),
    "made-up sample": ("no-made-up-numbers", ('ask(endpoint)\n    return {"items"', 'return {"items"'), r"sample\(\) returned"),
}


@pytest.mark.parametrize("case", FAILING.values(), ids=FAILING)
def test_a_plugin_that_breaks_the_promise_is_found(plugin, case):
    """By the check that is for it, with a text that says what is wrong."""
    name, change, text = case
    made = plugin(change)
    said = found(
        made.kind, name, plugins=[made.path], probe_limit_s=1.5 if name == "not-ready" and change is not TIMEOUT else 1.0
    )
    assert re.search(text, said), said


def test_a_module_that_needs_more_than_the_standard_library_when_it_runs_is_found(plugin):
    """The import inside of a call by name is seen only when the module is really imported."""
    made = plugin(("import time\n", "import time\n\n__import__('attrs')\n"))
    assert "with the standard library alone: ModuleNotFoundError: No module named 'attrs'" in found(
        made.kind, "packed", plugins=[made.path]
    )


def test_a_module_that_only_a_newer_python_can_import_is_found(plugin, python_of, monkeypatch):
    """Where the oldest Python is installed it is asked."""
    made = plugin(("import time\n", "import time\nfrom typing import TypeAlias\n"))
    assert found(made.kind, "packed", plugins=[made.path]) == ""
    monkeypatch.setenv("PATH", f"{Path(python_of('3.9')).parent}:{os.environ['PATH']}")
    assert "cannot be imported by python3.9" in found(made.kind, "packed", plugins=[made.path])


CLIENTS = {
    "unknown target": (
        "declarations",
        ('targets: ClassVar = {"main": ("KIND",)}\n    # tool', 'targets: ClassVar = {"main": ("rediss",)}\n    # tool'),
        "no service of kind rediss is known",
    ),
    "slos": ("declarations", ("# tool declarations", 'slos: ClassVar = ["latency"]'), "slos must be a tuple of names"),
    "timeout": (
        "declarations",
        ("# tool declarations", "default_timeout_s = -1"),
        "default_timeout_s must be a number above 0",
    ),
    "pool": (
        "declarations",
        ("# tool declarations", "default_connections = 0"),
        "default_connections must be a number above 0",
    ),
    "no reduce": ("functions", ("def reduce(", "def reduced("), r"has no reduce\(context, outcome\)"),
    "secret": (
        "secrets",
        ("self.target_endpoint.host", "self.target_endpoint.secret"),
        "a password is an argument of 'store-tool'",
    ),
    "no command": (
        "renders",
        ('return [Command(["store-tool", "-h", self.target_endpoint.host])]', "return []"),
        "returned nothing, but the mode is 'tool'",
    ),
}


@pytest.mark.parametrize("case", CLIENTS.values(), ids=CLIENTS)
def test_a_client_that_breaks_the_promise_is_found(plugin, case):
    """The same for clients."""
    name, change, text = case
    made = plugin(change)
    said = found(made.tool, name, plugins=[made.path])
    assert re.search(text, said), said


def test_a_text_quoted_by_the_rules_is_no_finding(plugin):
    """`shlex.quote` is enough."""
    made = plugin((COMMAND, "import shlex\n        " + SHELL.format('"serve " + shlex.quote(self.parameters.folder)')))
    assert found(made.kind, "quoted", plugins=[made.path]) == ""


def test_a_text_that_the_class_refuses_is_no_finding(plugin):
    """A validator that lets no such text through."""
    refuse = dedent(
        """\
        def plain(_self, _attribute, value):
            if not value.isalnum():
                raise ValueError("must be plain")


        @frozen
        class StoreParameters:"""
    )
    made = plugin(
        ("@frozen\nclass StoreParameters:", refuse),
        ('folder: str = "data"', 'folder: str = field(default="data", validator=plain)'),
        (COMMAND, SHELL.format('"serve " + self.parameters.folder')),
    )
    assert found(made.kind, "quoted", plugins=[made.path]) == ""


def test_a_declared_secret_is_no_finding(plugin):
    """The class says why there is no other way."""
    made = plugin(
        ("BIND, PORT, *extra", "BIND, PORT, SECRET, *extra"), ("# declarations", 'credential_in_arguments = "it reads no file"')
    )
    assert found(made.kind, "secrets", plugins=[made.path]) == ""
    assert found(made.kind, "declarations", plugins=[made.path]) == ""


def test_what_bash_cannot_read():
    """Its own words are told."""
    assert bash_problem("echo ok\n") == ""
    assert "unexpected" in bash_problem("if true; then\n")


def test_recipes(plugin, tmp_path):
    """A folder gives those that hold the kind; what is wrong in one is told with its place."""
    made = plugin()
    (tmp_path / "other.yaml").write_text("schema: aifactory-bench/1\nname: x\nservices: {a: {kind: nobody}}\n")
    good = tmp_path / "good.yaml"
    good.write_text(
        f"schema: aifactory-bench/1\nname: x\nservices: {{a: {{kind: {made.kind}, parameters: {{folder: here}}}}}}\n"
    )
    options: dict[str, Any] = {"plugins": [made.path], "recipes": [tmp_path]}
    assert found(made.kind, "recipes", **options) == ""
    (check, *_) = checks(made.kind, **options)[1]
    assert check.subject.example.parameters.folder == "here"
    good.write_text(good.read_text().replace("folder", "foldr"))
    assert "did you mean" in found(made.kind, "recipes", **options)
    assert "good.yaml:3:" in found(made.kind, "recipes", **options)
    with pytest.raises(UsageError, match="has nothing of kind"):
        checks(made.kind, plugins=[made.path], recipes=[tmp_path / "other.yaml"])
    with pytest.raises(UsageError, match="no file or folder"):
        checks(made.kind, plugins=[made.path], recipes=[tmp_path / "missing.yaml"])


def test_a_parameter_without_default_needs_a_recipe(plugin, tmp_path):
    """Nobody can guess it."""
    made = plugin(('folder: str = "data"', "folder: str"))
    assert "folder must be set, and no recipe says to what" in found(made.kind, "renders", plugins=[made.path])
    recipe = tmp_path / "store.yaml"
    recipe.write_text(
        f"schema: aifactory-bench/1\nname: x\nservices: {{a: {{kind: {made.kind}, parameters: {{folder: here}}}}}}\n"
    )
    assert found(made.kind, "renders", plugins=[made.path], recipes=[recipe]) == ""


SAMPLES = {
    "wrong number": ({"expect": {"status": "ok", "counts": {"ok": 8}}}, (), "counts.ok is 7, expected 8"),
    "not there": ({"expect": {"status": "ok", "metrics": {"hits": {}}}}, (), "metrics.hits is not there"),
    "taken": (
        {},
        ("except ValueError as error:", 'except ValueError as error:\n        told = {"ok": 1}\n    if 0:'),
        "stdout cut to 50% is taken",
    ),
    "raises": (
        {},
        ("except ValueError as error:", "except KeyError as error:"),
        r"stdout cut to 0%: reduce\(\) raised JSONDecodeError",
    ),
    "no reason": ({}, ('f"no JSON: {error}"', '""'), "without a reason"),
    "no measurement": (
        {},
        ('measurement.counts = Counts(ok=told["ok"])\n    return measurement', "return told"),
        "must return a Measurement",
    ),
    "arguments": (
        {},
        ('context.rank, "ok")', ")"),
        r"^- one: reduce\(\) raised TypeError: .*missing 2 required positional arguments: 'rank' and 'status'$",
    ),
    "no counts": (
        {},
        ('Counts(ok=told["ok"])', '{"ok": told["ok"]}'),
        r"^- one: reduce\(\) returned a Measurement whose counts must be Counts\(ok=..., error=...\), got {'ok': 7}$",
    ),
    "counts of text": ({}, ('Counts(ok=told["ok"])', 'Counts(ok=str(told["ok"]))'), "counts.ok must be a number, got '7'"),
    "no window": (
        {},
        ("measurement.window_s = 3.0", "measurement.window_s = None"),
        "window_asked_s must be a number, got None",
    ),
    "no health": ({}, ("measurement.counts =", "measurement.health = None\n    measurement.counts ="), "health must be Health"),
    "no status": ({}, ('context.rank, "ok")', 'context.rank, "good")'), "status is 'good'; it must be ok, cut or failed"),
    "no recipe": ({"load": {"speed": 3}}, (), "unknown key"),
}


@pytest.mark.parametrize("case", SAMPLES.values(), ids=SAMPLES)
def test_a_parser_that_reads_wrong_is_found(plugin, tmp_path, case):
    """Numbers that are not those of the sample, and output cut short that is taken for a measurement."""
    more, change, text = case
    made = plugin(*([change] if change else []))
    (tmp_path / "one.json").write_text('{"ok": 7}')
    listed = {"one": {"stdout": "one.json", "expect": {"status": "ok"}, **more}}
    (tmp_path / "samples.json").write_text(json.dumps(listed))
    said = found(made.tool, "samples", plugins=[made.path], samples=tmp_path / "samples.json")
    assert re.search(text, said, re.MULTILINE), said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "Expecting property name"),
        ("[]", "must be an object of samples"),
        ('{"a": {"expect": {}}}', "`expect` must be an object with at least `status`"),
        ('{"a": {"expct": {}}}', "unknown expct; known: expect"),
        ('{"a": {"expect": {"status": "ok"}, "stdout": "no.txt"}}', "there is no file"),
        ('{"a": {"expect": {"status": "ok"}, "truncate": ["x"]}}', "'x' is none of its files"),
    ],
)
def test_a_list_of_samples_that_is_wrong(plugin, tmp_path, text, said):
    """One clear word."""
    made = plugin()
    (tmp_path / "samples.json").write_text(text)
    assert said in found(made.tool, "samples", plugins=[made.path], samples=tmp_path / "samples.json")


def test_differences():
    """Numbers are close, mappings are compared key by key."""
    assert list(differences({"a": {"b": 1.0}, "c": [1]}, {"a": {"b": 1.0 + 1e-9, "x": 2}, "c": [1]})) == []
    assert list(differences({"a": {"b": 1}}, {"a": 3})) == ["a is 3, expected a mapping"]
    assert list(differences(True, 1)) == []
    assert list(differences([1], [2], "here")) == ["here is [2], expected [1]"]


@pytest.fixture
def recipe(tmp_path) -> Callable[[SimpleNamespace], Path]:
    """Write a recipe of half a second."""

    def write(made: SimpleNamespace) -> Path:
        path = tmp_path / "run.yaml"
        path.write_text(
            "schema: aifactory-bench/1\nname: run\n"
            f"services: {{store: {{kind: {made.kind}, ready: {{timeout: 20s}}}}}}\n"
            f"clients: {{load: {{kind: {made.load}, target: store, load: {{concurrency: 1, warmup: 0s, duration: 500ms}}}}}}\n"
        )
        return path

    return write


def test_a_service_is_started_and_stopped(plugin, recipe):
    """With the supervise that a run has."""
    made = plugin()
    assert found(made.kind, "starts-and-stops", plugins=[made.path], run=recipe(made)) == ""


RUNS = {
    "ends": (
        "def serve(host, port):",
        "def serve(host, port):\n    raise SystemExit('no licence')",
        "it ended before it was ready: .*no licence",
    ),
    "deaf": (
        "listener = socket.create_server((host, port))",
        "import signal\n    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n    listener = socket.create_server((host, port))",
        "did not end within stop_timeout_s, 1 s, and was killed",
    ),
    "text": ('return {"operations": 0.0}', 'return {"operations": "0"}', "must be a number, got '0'"),
    "no dict": ('return {"operations": 0.0}', "return [1]", "must return a dict"),
    "counts itself": ('return {"operations": 0.0}', 'return {"operations": time.monotonic()}', "counters\\(\\) counts itself"),
    "other names": ('{"items": 1, "spare": None}', "{str(time.monotonic()): 1}", "gave other names the second time"),
    "fails": ('ask(endpoint)\n    return {"items"', 'raise KeyError("x")\n    return {"items"', "sample\\(\\) raised KeyError"),
}


@pytest.mark.parametrize("case", RUNS.values(), ids=RUNS)
def test_a_service_that_does_not_live_as_it_should_is_found(plugin, recipe, case):
    """Its end, and its figures."""
    old, new, text = case
    made = plugin((old, new), ("# declarations", "stop_timeout_s = 1"))
    said = found(made.kind, "starts-and-stops", plugins=[made.path], run=recipe(made))
    assert re.search(text, said), said


def test_what_is_started_is_what_the_recipe_to_run_says(plugin, recipe, tmp_path):
    """Not what another recipe wants of a larger machine."""
    made = plugin((COMMAND, "assert self.parameters.folder == 'data'\n        " + COMMAND))
    (tmp_path / "large.yaml").write_text(
        f"schema: aifactory-bench/1\nname: x\nservices: {{a: {{kind: {made.kind}, parameters: {{folder: large}}}}}}\n"
    )
    options: dict[str, Any] = {"plugins": [made.path], "recipes": [tmp_path / "large.yaml"]}
    assert found(made.kind, "starts-and-stops", run=recipe(made), **options) == ""
    assert "AssertionError" in found(made.kind, "renders", **options)


def test_a_port_that_is_still_taken_is_found(plugin, recipe, monkeypatch):
    """By somebody who got away from the sweep."""
    made = plugin()
    monkeypatch.setattr(conformance_run, "_listens", lambda _endpoint: True)
    assert "somebody still listens on its port" in found(made.kind, "starts-and-stops", plugins=[made.path], run=recipe(made))


def test_without_the_program_there_is_nothing_to_start(plugin, recipe):
    """A skip, which pytest knows."""
    made = plugin((COMMAND, 'return Command(["no-such-server"])'))
    (check,) = [
        check for check in checks(made.kind, plugins=[made.path], run=recipe(made))[1] if check.name == "starts-and-stops"
    ]
    with pytest.raises(SkipTest, match="no-such-server"):
        check()


def test_a_client_measures(plugin, recipe):
    """And one whose requests all fail is found."""
    made = plugin()
    assert found(made.load, "measures", plugins=[made.path], run=recipe(made)) == ""
    bad = plugin(
        ("return [None] * data", 'from aifactory_bench.node.load import Outcome\n        return [Outcome("x")] * data')
    )
    assert "not one request ended well" in found(bad.load, "measures", plugins=[bad.path], run=recipe(bad))


def test_unknown_kind():
    """The known ones are listed."""
    with pytest.raises(UsageError, match=r"there is no kind 'reddis'; known: .*redis"):
        checks("reddis")


def test_the_command(plugin, capsys):
    """What passed and what failed, with the reasons, and an exit code for scripts."""
    made = plugin()
    assert main([made.load, "--plugin", str(made.path)]) == 0
    assert f"{made.load}: 9 of 9 checks passed" in capsys.readouterr().out
    bad = plugin(('"""A load."""', ""))
    assert main([bad.load, "--plugin", str(bad.path)]) == 1
    said = capsys.readouterr().out
    assert "FAILED   documented" in said
    assert "           - Load has no docstring" in said
    assert f"{bad.load}: 8 of 9 checks passed" in said
    assert main(["reddis"]) == 2
    assert capsys.readouterr().err.startswith("conformance: there is no kind 'reddis'")


def test_the_command_counts_what_was_skipped(plugin, tmp_path, capsys):
    """As neither passed nor failed; a service whose probe hangs is not started at all, it would be waited for in vain."""
    missing = plugin((COMMAND, COMMAND.replace('Placeholder("python")', '"no-such-server"')))
    hanging = plugin(("        answer = ask(endpoint)\n    except", "        answer = ask(endpoint, 5)\n    except"))
    for made, code, counted, why in (
        (missing, 0, "11 of 12 checks passed, 1 skipped", "the program 'no-such-server' is not on PATH"),
        (hanging, 1, "10 of 12 checks passed, 1 skipped", "not-ready has failed"),
    ):
        recipe = tmp_path / f"{made.kind}.yaml"
        recipe.write_text(f"schema: aifactory-bench/1\nname: x\nservices: {{a: {{kind: {made.kind}}}}}\n")
        assert main([made.kind, "--plugin", str(made.path), "--run", str(recipe)]) == code
        said = capsys.readouterr().out
        assert f"skipped  starts-and-stops: {why}" in said
        assert said.endswith(f"{made.kind}: {counted}\n")


def test_the_command_notes_a_service_without_an_image(plugin, capsys):
    """It passes, and works where there is no container runtime."""
    made = plugin()
    assert main([made.kind, "--plugin", str(made.path)]) == 0
    assert "note     it has no default_image" in capsys.readouterr().out
    assert main([made.load, "--plugin", str(made.path)]) == 0
    with_image = plugin(("# declarations", 'default_image = "docker://redis:7.4"'))
    assert main([with_image.kind, "--plugin", str(with_image.path)]) == 0
    assert "note" not in capsys.readouterr().out


def test_it_is_a_module_that_can_be_run():
    """As the documentation says it, for a kind of ours."""
    done = subprocess.run(
        [sys.executable, "-m", "aifactory_bench.testing.conformance", "redis-load"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "9 of 9 checks passed" in done.stdout
