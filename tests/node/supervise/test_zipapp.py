"""The node program as it travels, on the oldest and the newest Python, with a real Redis."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aifactory_bench.script.bundle import build_node_program

_PROBE = """
import socket
from aifactory_bench.node.contract import NotReady

def probe(endpoint, secret, parameters):
    try:
        with socket.create_connection((endpoint.host, endpoint.port), timeout=2) as connection:
            connection.sendall(b"*2\\r\\n$4\\r\\nAUTH\\r\\n$32\\r\\n" + secret.encode() + b"\\r\\n*1\\r\\n$4\\r\\nPING\\r\\n")
            answer = b""
            while answer.count(b"\\n") < 2 and not answer.startswith(b"-"):
                answer += connection.recv(100)
    except OSError as error:
        raise NotReady(str(error))
    if answer != b"+OK\\r\\n+PONG\\r\\n":
        raise NotReady(answer.decode())
    return {"server_name": "redis"}
"""


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """The zipapp."""
    path = tmp_path / "node.pyz"
    path.write_bytes(build_node_program([]).data)
    return path


@pytest.mark.parametrize("version", ["3.9", "3.13"])
def test_redis_under_the_zipapp(
    service: Callable[..., Any], archive: Path, modules: Path, python_of: Callable[[str], str], version: str
) -> None:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    python = python_of(version)
    (modules / "redis_probe.py").write_text(_PROBE)
    job = service(spec={"node_module": "redis_probe", "monitors": {"node": {"interval_s": 0.2}}, "lease_s": 60.0})
    job.paths.folder.mkdir(parents=True)
    argv = ["redis-server", "--port", "@{port}", "--bind", "@{bind}", "--save", "", "--requirepass", "@{secret}"]
    supervise = job.command(*argv)[4:]
    environment = {**os.environ, "PYTHONPATH": str(modules), "AFB_RUN_DIR": str(job.run.folder)}
    stderr = (job.run.folder / f"stderr-{job.spec.token}").open("w")
    with stderr:
        job.process = subprocess.Popen([python, str(archive), "supervise", *supervise], env=environment, stderr=stderr)
    assert job.wait_for("ready")["facts"] == {"server_name": "redis"}
    job.wait_for("published")
    job.signal(signal.SIGTERM)
    record = job.end()
    assert (record["outcome"], record["exit_code"]) == ("stopped", 0)
    assert "ready to exit, bye bye" in record["log_tail"]
    assert job.events("monitor_failed") == []
    assert job.child_pids() == []


@pytest.mark.parametrize("arguments", [["--help"], ["ranks", "2", "--", sys.executable, "-c", "pass"]])
def test_the_zipapp_finds_its_commands(archive: Path, arguments: "list[str]") -> None:
    done = subprocess.run([sys.executable, str(archive), *arguments], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
