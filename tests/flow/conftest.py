"""The whole line with a real Redis server."""

import json
import subprocess
import sys
import time

import pytest

from aifactory_bench.submitters.process import belonging

RECIPE = """\
schema: aifactory-bench/1
name: small
services:
  cache: {kind: redis}
clients:
  load:
    kind: redis-load
    target: cache
    parameters: {keys: 500}
    load: {process: poisson, rate: 400/s, warmup: 200ms, duration: DURATION}
"""


@pytest.fixture
def recipe(tmp_path):
    """Write a small recipe, with more lines at its end if wanted; returns its path."""

    def write(more="", *, duration="1s", text=RECIPE):
        path = tmp_path / "small.yaml"
        path.write_text(text.replace("DURATION", duration) + more)
        return path

    return write


@pytest.fixture
def runs(tmp_path):
    """The folder of runs; nothing may run in it when the test is over."""
    folder = tmp_path / "runs"
    yield folder
    for run in folder.iterdir() if folder.exists() else ():
        deadline = time.monotonic() + 15
        while pids := list(belonging(f"AFB_RUN_DIR={run}", run)):
            assert time.monotonic() < deadline, f"{run.name} leaves processes: {pids}"
            time.sleep(0.1)


@pytest.fixture
def command(runs):
    """Start the command line as a process."""
    started = []

    def start(*arguments):
        child = subprocess.Popen(
            [sys.executable, "-m", "aifactory_bench", *map(str, arguments), "--runs-dir", str(runs)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(child)
        return child

    yield start
    for child in started:
        child.kill()
        child.communicate()


@pytest.fixture
def cli(command):
    """Run the command line to its end; returns exit code, standard output, standard error."""

    def run(*arguments, timeout=90):
        child = command(*arguments)
        out, err = child.communicate(timeout=timeout)
        return child.returncode, out, err

    return run


@pytest.fixture
def wait_for():
    """Wait until something is true."""

    def wait(condition, limit_s=30.0):
        deadline = time.monotonic() + limit_s
        while not (value := condition()):
            assert time.monotonic() < deadline, "waited too long"
            time.sleep(0.05)
        return value

    return wait


@pytest.fixture
def objects():
    """Read the JSON lines of `--json`."""
    return lambda out: [json.loads(line) for line in out.splitlines()]
