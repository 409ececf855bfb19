"""Load tools of others as the node side runs them: a context, and the executables that stand in for them."""

import json
import os
import shutil
from collections.abc import Callable
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
from aifactory_bench.script.commands import encode

SAMPLES = Path(__file__).parent / "samples"
DOUBLES = Path(__file__).parent / "doubles"
SECRET = "throwaway0123456789"
URL = "http://127.0.0.1:8123"


@pytest.fixture
def double(monkeypatch, tmp_path) -> Callable[[str], None]:
    """Put the replaying executables where the tools would be; return a function that picks the recorded run."""
    monkeypatch.setenv("PATH", f"{DOUBLES}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("LLM_DOUBLE_LOG", str(tmp_path / "calls"))
    return lambda case: monkeypatch.setenv("LLM_DOUBLE", case)


@pytest.fixture
def calls(tmp_path) -> Callable[[], list[dict[str, Any]]]:
    """Return what the executables were called with: `argv`, and the variables that matter."""
    return lambda: [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]


@pytest.fixture
def context_of(tmp_path: Path) -> Callable[..., Context]:
    """Make the context of one rank from what a recipe would say."""

    def make(client: Client, **changes: Any) -> Context:
        folder = tmp_path / "raw"
        folder.mkdir(exist_ok=True)
        fields: dict[str, Any] = {
            "client": client.name,
            "kind": client.kind,
            "rank": 0,
            "ranks": client.replicas,
            "seed": 1,
            "endpoints": {"main": (Endpoint("llm", 0, "127.0.0.1", 8123, URL),)},
            "secrets": {"main": SECRET},
            "service_parameters": {"main": {}},
            "parameters": parameters_to_json(client.parameters),
            "load": load_to_json(with_defaults(client.load, type(client))),
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
def run(tmp_path: Path, monkeypatch) -> Callable[..., ToolOutcome]:
    """Run the command that the job would have in its script, with its files and variables, and return how it ended."""

    def go(client: Client, context: Context, *, limit_s: float = 30.0) -> ToolOutcome:
        point = client.compose_point(
            load_site("local"), "run", id="p", load=client.load, parameters=client.parameters, participants={}
        )
        values = {
            "endpoint.main.0.url": URL,
            "endpoint.main.0.secret": SECRET,
            "raw": str(context.folder),
            "folder": str(tmp_path),
            "seed.point": "4711",
            "share.rate": str((context.load["rate_per_s"] or 0) / context.ranks),
        }
        for name in ("concurrency", "connections", "requests"):
            total = context.load.get(name) or context.parameters.get(name)
            if total is not None:
                values[f"share.{name}"] = str(context.share(total))
        for file in client.get_files():
            (tmp_path / file.name).write_text("\n".join(resolve(line, values) for line in file.encoded()) + "\n")
        for name, value in client.get_environment().items():
            monkeypatch.setenv(name, resolve(encode(value), values))
        commands = [[resolve(argument, values) for argument in command] for command in point.commands]
        for command in commands:
            command[0] = shutil.which(command[0]) or command[0]
        return run_tool(commands, context.folder, tmp_path, [SECRET], limit_s, lambda: None).outcome

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
            "start_wall_ns": 1_795_813_000_000_000_000,
            "duration_s": 13.5,
            "cpu_s": 8.0,
            "stdout": tmp_path / "out",
            "stderr": tmp_path / "err",
        }
        return ToolOutcome(**{**fields, **changes})

    return make


@pytest.fixture(scope="session")
def checked() -> Callable[[Measurement], Measurement]:
    """Return a measurement as it comes back from its file."""
    return lambda measurement: from_json(json.loads(json.dumps(to_json(measurement), allow_nan=False)))


@pytest.fixture
def load() -> Callable[..., Load]:
    """Make a closed-loop load that is short."""

    def make(**changes: Any) -> Load:
        return Load(**{"process": "closed", "concurrency": 2, "warmup_s": 0.0, "duration_s": 1.0, **changes})

    return make


@pytest.fixture
def open_load() -> Callable[..., Load]:
    """Make an open-loop load, as that of the recorded runs."""

    def make(**changes: Any) -> Load:
        return Load(**{"process": "poisson", "rate_per_s": 5.0, "warmup_s": 1.0, "duration_s": 2.0, **changes})

    return make
