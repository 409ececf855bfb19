"""A service deployed by the real supervise, as a job script would."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import aifactory_bench
import aifactory_bench_services
from aifactory_bench import Service, load_site
from aifactory_bench.jobs.context import JobContext
from aifactory_bench.node import endpoint as endpoints
from aifactory_bench.node.events import read_events
from aifactory_bench.node.paths import RunPaths
from aifactory_bench.node.spec import spec_to_json

LIMIT_S = 60.0
"""Longer than anything takes on a busy machine; reached only when a test fails."""


class Deployed:
    """One service of one run."""

    def __init__(self, folder: Path, job: Service, path: str, ready_timeout_s: float) -> None:
        context = JobContext(
            run_id="r",
            node_digest="0" * 16,
            time_s=600.0,
            monitors={"service": {"interval_s": 0.2}},
            ready_timeout_s=ready_timeout_s,
        )
        self.script = job.compose(load_site("local", runs=folder), context)
        self.run = RunPaths(folder / "r")
        self.job = self.run.job(self.script.token)
        self.rank = self.job.rank(0)
        self.job.folder.mkdir(parents=True)
        self.job.spec.write_text(spec_to_json(self.script.spec))
        sources = [str(Path(module.__file__).parents[1]) for module in (aifactory_bench, aifactory_bench_services)]
        environment = {
            **os.environ,
            "PATH": path,
            "PYTHONPATH": os.pathsep.join(sources),
            "AFB_RUN_DIR": str(self.run.folder),
        }
        argv = [sys.executable, "-m", "aifactory_bench.node", "supervise", str(self.job.spec), "--", *self.script.argv]
        with (folder / "stderr").open("w") as stderr:
            self.process = subprocess.Popen(argv, env=environment, stdout=stderr, stderr=stderr)

    def endpoint(self, limit_s: float = LIMIT_S) -> endpoints.Endpoint:
        """Wait until the service is ready; return where it is."""
        path = self.run.endpoint(self.script.token, 0)
        end = time.monotonic() + limit_s
        while (found := endpoints.read(path)) is None:
            assert self.process.poll() is None, f"{self.record()['text']}\n{self.log()}"
            assert time.monotonic() < end, self.log()
            time.sleep(0.02)
        return found

    @property
    def secret(self) -> str:
        """The run's throw-away password."""
        return self.run.secret(self.script.token).read_text()

    def log(self) -> str:
        """What the program and its helpers said."""
        return self.rank.log.read_text(errors="replace") if self.rank.log.exists() else ""

    def events(self, type: str) -> list[dict[str, Any]]:
        """Data of the events of a type."""
        return [event["data"] for event, _ in read_events(self.rank.events) if event["type"] == type]

    def samples(self, rows: int = 1) -> list[dict[str, str]]:
        """Wait until the service's monitor has written so many rows; return them."""
        path = self.rank.samples / "service.csv"
        end = time.monotonic() + LIMIT_S
        while True:
            text = path.read_text() if path.exists() else ""
            found = list(csv.DictReader(text[: text.rfind("\n") + 1].splitlines()))
            if len(found) >= rows:
                return found
            assert time.monotonic() < end, self.events("monitor_failed")
            time.sleep(0.05)

    def record(self) -> dict[str, Any]:
        """Wait for its end; return how it ended."""
        self.process.wait(LIMIT_S)
        record: dict[str, Any] = json.loads(self.rank.exit.read_text())
        return record

    def stop(self) -> dict[str, Any]:
        """Ask it to end; return how it ended."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.record()


@pytest.fixture
def deploy(tmp_path: Path) -> Iterator[Callable[..., Deployed]]:
    """Start a service; programs: folder in front of PATH. Its own figures are read every 0.2 s."""
    started: list[Deployed] = []

    def deploy(job: Service, programs: Path | str = "", ready_timeout_s: float = LIMIT_S) -> Deployed:
        folder = tmp_path / f"deployed{len(started)}"
        folder.mkdir()
        path = os.pathsep.join(filter(None, (str(programs), os.environ["PATH"])))
        started.append(Deployed(folder, job, path, ready_timeout_s))
        return started[-1]

    yield deploy
    for deployed in started:
        if deployed.process.poll() is None:
            deployed.process.send_signal(signal.SIGTERM)
            try:
                deployed.process.wait(LIMIT_S)
            except subprocess.TimeoutExpired:
                deployed.process.kill()
                deployed.process.wait()


@pytest.fixture
def ollama_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], Path]:
    """Returns a function: what can be pulled -> a folder with the double of `ollama`."""

    def make(library: dict[str, Any]) -> Path:
        folder = tmp_path / "ollama"
        folder.mkdir(exist_ok=True)
        (folder / "library.json").write_text(json.dumps(library))
        monkeypatch.setenv("OLLAMA_DOUBLE_LIBRARY", str(folder / "library.json"))
        program = folder / "ollama"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).with_name("ollama_double.py")} "$@"\n')
        program.chmod(0o755)
        return folder

    return make
