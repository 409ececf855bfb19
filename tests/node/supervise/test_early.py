"""The first moments of a job: signals before anything stands, what starts before it is needed, what was left from before."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aifactory_bench.node.endpoint import Endpoint, publish

SLOW_IMPORT = """
import pathlib, time
pathlib.Path({mark!r}).touch()
time.sleep(0.5)
"""


@pytest.fixture
def slow(package: Path, tmp_path: Path) -> "Callable[[str], Path]":
    """Make a copy of the node package in which one module takes half a second to load, and says when it begins to."""

    def make(module: str) -> Path:
        folder = tmp_path / "slow"
        shutil.copytree(package, folder)
        path = folder / "aifactory_bench" / "node" / f"{module}.py"
        docstring, rest = path.read_text().split('"""\n', 1)
        path.write_text(docstring + '"""\n' + SLOW_IMPORT.format(mark=str(tmp_path / "loading")) + rest)
        return folder

    return make


@pytest.mark.parametrize(("number", "outcome"), [(signal.SIGTERM, "stopped"), (signal.SIGUSR1, "timeout")])
def test_a_signal_while_supervise_is_loaded_is_heeded(
    service: Callable[..., Any], slow: Callable[..., Path], wait_until: Callable[..., None], number: int, outcome: str
) -> None:
    """It kills nothing: the job says how it ended."""
    job = service()
    job.package = slow("claim")
    job.server()
    wait_until((job.run.folder.parent / "loading").exists, "the import")
    job.signal(number)
    assert job.end()["outcome"] == outcome
    assert job.events("started") == []


def test_a_signal_while_ranks_is_loaded_reaches_the_ranks(
    client: Callable[..., Any], slow: Callable[..., Path], wait_until: Callable[..., None]
) -> None:
    job = client(spec={"ranks": 2})
    job.package = slow("wakeup")
    job.start_ranks()
    wait_until((job.run.folder.parent / "loading").exists, "the import")
    job.signal(signal.SIGTERM)
    for rank in range(2):
        assert job.end(rank)["outcome"] == "stopped"


def test_measure_is_loaded_while_endpoints_are_waited_for(client: Callable[..., Any], wait_until: Callable[..., None]) -> None:
    """It counts as started only when it may begin; before that it leaves nothing in the record."""
    job = client(wait_timeout_s=60).start()

    def loaded() -> bool:
        return any(b"measure" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in job.child_pids())

    wait_until(loaded, "measure")
    job.signal(signal.SIGTERM)
    record = job.end()
    assert (record["outcome"], record["exit_code"], record["signal"]) == ("stopped", None, None)
    assert job.events("started") == job.events("child_exited") == []
    assert job.child_pids() == []


def test_a_service_starts_while_the_products_module_is_loaded(service: Callable[..., Any], modules: Path) -> None:
    waiting = """
import os, pathlib, time
end = time.monotonic() + 10
while not pathlib.Path(os.environ["AFB_RUN_DIR"], "jobs", "afb-r1-hello-1", "0", "work", "starts").exists():
    assert time.monotonic() < end
    time.sleep(0.01)
"""
    (modules / "product.py").write_text(waiting + (modules / "product.py").read_text())
    job = service().server()
    job.wait_for("published")
    job.signal(signal.SIGTERM)
    job.end()


def test_an_endpoint_of_an_earlier_execution_is_not_believed(service: Callable[..., Any]) -> None:
    """After a restart by the scheduler its port may be anybody's."""
    job = service()
    path = job.run.endpoint(job.spec.token, 0)
    publish(path, Endpoint(service="hello", replica=0, host="127.0.0.1", port=7, url="tcp://127.0.0.1:7"))
    job.server("deaf").wait_for("started")
    assert not path.exists()
    job.signal(signal.SIGTERM)
    job.end()


def test_a_server_that_leaves_its_launcher_is_ours(service: Callable[..., Any], modules: Path) -> None:
    """Its parent has ended, and supervise has adopted it."""
    launcher = """
import subprocess, sys, time
server = [sys.executable, sys.argv[1], *sys.argv[2:]]
subprocess.run([sys.executable, "-c", "import subprocess, sys; subprocess.Popen(sys.argv[1:])", *server])
time.sleep(600)
"""
    (modules / "launcher.py").write_text(launcher)
    arguments = [str(modules / "launcher.py"), str(modules / "server.py"), "@{port}", "@{bind}"]
    job = service().start(sys.executable, *arguments)
    job.wait_for("published")
    job.signal(signal.SIGTERM)
    assert job.end()["outcome"] == "stopped"
    assert job.events("port_taken") == []
    assert job.child_pids() == []


def test_stop_files_that_cannot_be_read_are_told_once(service: Callable[..., Any]) -> None:
    """What a shared file system refuses for a moment ends no job."""
    job = service()
    job.run.stop.touch()  # no folder
    job.server().wait_for("published")
    (warning,) = job.events("warning")
    assert "the folder of stop files cannot be read" in warning["text"]
    job.signal(signal.SIGTERM)
    assert job.end()["outcome"] == "stopped"


def test_a_sampler_that_fails_is_told_while_the_job_runs(service: Callable[..., Any]) -> None:
    job = service(spec={"monitors": {"node": {"interval_s": 0.1}}})
    folder = job.paths.rank(0).folder
    folder.mkdir(parents=True)
    (folder / "samples").touch()  # no folder
    job.server().wait_for("published")
    assert job.wait_for("monitor_failed")["monitor"] == "node"
    assert job.process.poll() is None
    job.signal(signal.SIGTERM)
    assert job.end()["outcome"] == "stopped"
    assert len(job.events("monitor_failed")) == 1


def test_a_number_that_is_none_is_refused(service: Callable[..., Any]) -> None:
    job = service()
    done = subprocess.run(
        job.command("true"), env=job.environment({"AFB_RANK": "²"}), capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 3
    assert "AFB_RANK must be a number, found '²'" in done.stderr
