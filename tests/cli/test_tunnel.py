"""`tunnel`, to a service that really runs."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from aifactory_bench import BenchmarkOrchestrator
from aifactory_bench.cli.tunnel import command
from aifactory_bench.errors import RunError

needs_redis = pytest.mark.skipif(
    shutil.which("redis-server") is None and os.environ.get("CI") != "true", reason="redis-server is not installed"
)
RECIPE = "schema: aifactory-bench/1\nname: alone\nservices:\n  cache: {kind: redis}\n"


def start(run: str, runs: Path, *options: str) -> "subprocess.Popen[str]":
    """Start the command as a process."""
    argv = [sys.executable, "-m", "aifactory_bench", "tunnel", run, "cache", "--runs-dir", str(runs), *options]
    return subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )


def lines(child: "subprocess.Popen[str]", count: int) -> "list[str]":
    """Return the next lines that it prints."""
    assert child.stdout is not None
    return [child.stdout.readline().strip() for _ in range(count)]


@needs_redis
def test_until_ctrl_c_and_until_the_service_ends(tmp_path: Path) -> None:
    """The url works; the password is shown on demand only; both ends are told and well."""
    runs = tmp_path / "runs"
    recipe = tmp_path / "alone.yaml"
    recipe.write_text(RECIPE)
    with BenchmarkOrchestrator(runs_dir=runs) as bench:
        service = bench.start_service(recipe)
        run = service.partition("/")[0]
        quiet, told = start(run, runs), start(run, runs, "--show-secret")
        url, kept = lines(quiet, 2)
        _url, shown = lines(told, 2)
        port = int(url.split()[1].rsplit(":", 1)[1])
        password = shown.removeprefix("password: ")
        assert kept.startswith(f"password: in {runs}/{run}/endpoints/")
        assert len(password) == 32
        assert password not in kept
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(f"AUTH {password}\r\nPING\r\n".encode())
            answer = b""
            while not answer.endswith(b"PONG\r\n"):
                answer += client.recv(100)
        quiet.send_signal(signal.SIGINT)
        quiet.communicate(timeout=20)
        assert quiet.returncode == 0
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
        assert bench.stop_service(service)
        began = time.monotonic()
        _out, err = told.communicate(timeout=30)
        assert told.returncode == 0
        assert "cache: the service has ended: " in err
        assert time.monotonic() - began < 20


def test_no_such_run(tmp_path: Path) -> None:
    found = CliRunner().invoke(command, ["nosuch", "cache", "--runs-dir", str(tmp_path)], standalone_mode=False).exception
    assert isinstance(found, RunError)
    assert "no run nosuch" in str(found)
