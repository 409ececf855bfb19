"""Whole runs on this machine against real LLM servers, and what was kept of every request."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from aifactory_bench.submitters.process import belonging


class Run(NamedTuple):
    """A run that has ended."""

    folder: Path
    code: int
    summary: dict[str, Any]
    errors: str

    @property
    def measurement(self) -> dict[str, Any]:
        """The only one."""
        (measurement,) = self.summary["points"][0]["measurements"]
        return measurement

    def of(self, client: str) -> dict[str, Any]:
        """Return the one of a client."""
        return next(one for one in self.summary["points"][0]["measurements"] if one["client"] == client)

    @property
    def reasons(self) -> set[str]:
        return {reason["code"] for reason in self.measurement["reasons"]}

    def ranks(self, client: str = "load") -> list[dict[str, Any]]:
        """Return what each rank of a client has written of the first point."""
        paths = sorted(self.folder.glob(f"jobs/*-{client}-0/*/measurements/*.json"))
        return [json.loads(path.read_text()) for path in paths]

    def records(self, client: str = "load") -> list[dict[str, np.ndarray]]:
        """Return the columns of each generator, in order."""
        paths = sorted(self.folder.glob(f"jobs/*-{client}-0/*/raw/*/requests-*.npz"))
        return [dict(np.load(path)) for path in paths]

    def log(self, service: str = "llm") -> Path:
        """Return what a service wrote."""
        return self.folder / f"jobs/afb-r-{service}-0/0/log"


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Start a run of a recipe's text as a user does; nothing of it may run when the test is over."""
    started = []

    def start(text: str) -> subprocess.Popen[str]:
        path = tmp_path / "recipe.yaml"
        path.write_text(text)
        argv = [
            sys.executable,
            "-m",
            "aifactory_bench",
            "run",
            path,
            "--run-id",
            "r",
            "--json",
            "--runs-dir",
            tmp_path / "runs",
        ]
        child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(child)
        return child

    yield start
    for child in started:
        child.kill()
        child.communicate()
    folder = tmp_path / "runs/r"
    deadline = time.monotonic() + 15
    while pids := list(belonging(f"AFB_RUN_DIR={folder}", folder)):
        assert time.monotonic() < deadline, f"the run leaves processes: {pids}"
        time.sleep(0.1)


@pytest.fixture
def ended(tmp_path: Path) -> Callable[[subprocess.Popen[str]], Run]:
    """Wait for a run."""

    def wait(child: subprocess.Popen[str], limit_s: float = 100) -> Run:
        out, err = child.communicate(timeout=limit_s)
        assert out.strip(), err
        return Run(tmp_path / "runs/r", child.returncode, json.loads(out.splitlines()[-1]), err)

    return wait


@pytest.fixture
def run(command: Callable[[str], subprocess.Popen[str]], ended: Callable[[subprocess.Popen[str]], Run]) -> Callable[[str], Run]:
    """Run a recipe's text to its end."""
    return lambda text, **options: ended(command(text), **options)


@pytest.fixture
def pids_of(tmp_path: Path) -> Callable[[str], list[int]]:
    """Returns a function: name of a program -> processes of the run that run it."""
    folder = tmp_path / "runs/r"

    def find(program: str) -> list[int]:
        found = []
        for pid in belonging(f"AFB_RUN_DIR={folder}", folder):
            try:
                if os.path.basename(os.readlink(f"/proc/{pid}/exe")) == program:
                    found.append(pid)
            except OSError:  # it has just ended
                continue
        return found

    return find


@pytest.fixture
def phase_begun(tmp_path: Path) -> Callable[[str], bool]:
    """Returns a function: name of a phase -> whether the client has begun it."""
    path = tmp_path / "runs/r/jobs/afb-r-load-0/0/events.jsonl"
    return lambda name: path.exists() and f'"name": "{name}"' in path.read_text()


@pytest.fixture
def until() -> Callable[[Callable[[], Any]], None]:
    """Wait for something."""

    def wait(condition: Callable[[], Any], limit_s: float = 60) -> None:
        deadline = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < deadline, "waited too long"
            time.sleep(0.1)

    return wait
