"""Every way in which a job is ended from outside, in every phase, and that nothing of it stays behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize("name", ["hello", "all"])
def test_a_stop_file_ends_a_job(service: Callable[..., Any], name: str) -> None:
    job = service().server()
    job.wait_for("published")
    job.run.stop.mkdir()
    job.run.stop_file(name).touch()
    record = job.end()
    assert record["outcome"] == "stopped"
    assert f"stop/{name}" in job.events("stopping")[0]["reason"]


def test_a_stop_file_of_another_job_does_not(service: Callable[..., Any]) -> None:
    job = service().server()
    job.wait_for("published")
    job.run.stop.mkdir()
    job.run.stop_file("other").touch()
    time.sleep(0.3)
    assert job.process.poll() is None
    job.signal(signal.SIGTERM)
    job.end()


def test_a_stop_file_that_was_there_first(service: Callable[..., Any]) -> None:
    job = service()
    job.run.stop.mkdir()
    job.run.stop_file("all").touch()
    record = job.server().end()
    assert record["outcome"] == "stopped"
    assert job.events("started") == []


@pytest.mark.parametrize(
    ("number", "outcome"), [(signal.SIGTERM, "stopped"), (signal.SIGINT, "stopped"), (signal.SIGUSR1, "timeout")]
)
def test_signals(service: Callable[..., Any], number: int, outcome: str) -> None:
    job = service().server()
    job.wait_for("published")
    job.signal(signal.SIGHUP)
    time.sleep(0.1)
    job.signal(number)
    record = job.end()
    assert record["outcome"] == outcome
    assert record["signal"] == signal.SIGTERM  # the server's stop signal


def test_the_stop_signal_of_the_service(service: Callable[..., Any]) -> None:
    job = service(stop_signal="INT").server()
    job.wait_for("published")
    job.signal(signal.SIGTERM)
    assert job.end()["signal"] == signal.SIGINT


def test_a_stubborn_server_is_killed(service: Callable[..., Any]) -> None:
    job = service(stop_timeout_s=0.3).server("stubborn")
    job.wait_for("published")
    job.signal(signal.SIGTERM)
    record = job.end()
    assert (record["outcome"], record["signal"]) == ("stopped", signal.SIGKILL)
    assert "was killed" in job.events("warning")[0]["text"]


@pytest.mark.parametrize("phase", ["after", "prepare", "ready"])
def test_term_before_the_service_serves(service: Callable[..., Any], phase: str, wait_until: Callable[..., None]) -> None:
    spec = {"after": {"afb-r1-first-1": 1}} if phase == "after" else {}
    prepare = [["sh", "-c", "touch begun; sleep 600"]] if phase == "prepare" else []
    job = service(spec=spec, prepare=prepare).server("deaf")
    work = job.paths.rank(0).work
    if phase == "after":
        job.wait_for("phase")
    elif phase == "prepare":
        wait_until(lambda: (work / "begun").exists(), "preparation")
    else:
        job.wait_for("started")
    job.signal(signal.SIGTERM)
    record = job.end()
    assert record["outcome"] == "stopped"
    assert {"after": "queue", "prepare": "start", "ready": "ready"}[phase] in record["phases_s"]
    assert job.child_pids() == []


@pytest.mark.parametrize("delay_s", [0.0, 0.05, 0.1, 0.15, 0.25])
def test_term_at_any_moment_leaves_nothing(service: Callable[..., Any], delay_s: float) -> None:
    """Before its handlers are there TERM kills supervise as it would any program; from then on there is a record."""
    job = service().server("family")
    time.sleep(delay_s)
    job.signal(signal.SIGTERM)
    job.process.wait(20)
    if job.process.returncode == -signal.SIGTERM:
        assert not job.paths.claim.exists()
    else:
        assert job.end()["outcome"] == "stopped"
    assert job.child_pids() == []


def test_the_walltime(service: Callable[..., Any]) -> None:
    job = service(spec={"time_s": 2.0}).server()
    job.wait_for("published")
    record = job.end()
    assert record["outcome"] == "timeout"
    assert "walltime of 2 s" in record["text"]
    assert (record["ended_wall_ns"] - record["started_wall_ns"]) / 1e9 > 1.5


def test_a_lease_that_nobody_keeps(service: Callable[..., Any]) -> None:
    job = service(spec={"lease_s": 1.0})
    job.run.lease.write_text("1\n")
    job.server()
    job.wait_for("published")
    record = job.end()
    assert record["outcome"] == "lease_expired"
    assert "for 1 s" in record["text"]
    assert job.events("lease_expired") == [{"lease_s": 1.0}]
    assert job.child_pids() == []


def test_a_lease_that_somebody_keeps(service: Callable[..., Any]) -> None:
    job = service(spec={"lease_s": 1.0})
    job.server()
    job.wait_for("published")
    end = time.monotonic() + 2.5
    while time.monotonic() < end:
        job.run.lease.write_text(f"{time.monotonic_ns()}\n")
        time.sleep(0.1)
    assert job.process.poll() is None
    assert job.end()["outcome"] == "lease_expired"


def test_a_stopped_supervise_does_not_take_its_own_pause_for_silence(service: Callable[..., Any]) -> None:
    job = service(spec={"lease_s": 1.0}).server()
    job.wait_for("published")
    job.signal(signal.SIGSTOP)
    time.sleep(1.5)
    job.signal(signal.SIGCONT)
    time.sleep(0.3)
    assert job.process.poll() is None
    job.signal(signal.SIGTERM)
    assert job.end()["outcome"] == "stopped"


def test_grandchildren_go_too(service: Callable[..., Any]) -> None:
    """One of them has left its session, has lost its parent and does not heed TERM."""
    job = service().server("family")
    job.wait_for("published")
    assert len(job.child_pids()) == 3
    job.signal(signal.SIGTERM)
    assert job.end()["outcome"] == "stopped"
    assert job.child_pids() == []


def test_nothing_outlives_a_supervise_that_was_killed(service: Callable[..., Any], wait_until: Callable[..., None]) -> None:
    """Children, grandchildren, and what has left the session and lost its parent."""
    job = service().server("family")
    job.wait_for("published")
    assert len(job.child_pids()) == 3
    job.signal(signal.SIGKILL)
    job.process.wait(20)
    wait_until(lambda: job.child_pids() == [], "the last process")
    assert not job.paths.rank(0).exit.exists()


def test_supervise_goes_on_without_its_guard(service: Callable[..., Any]) -> None:
    job = service().server()
    child = job.wait_for("started")["pid"]
    job.wait_for("published")
    children = Path(f"/proc/{job.process.pid}/task/{job.process.pid}/children").read_text().split()
    (guard,) = (int(pid) for pid in children if int(pid) != child)
    os.kill(guard, signal.SIGKILL)
    time.sleep(0.3)
    job.signal(signal.SIGTERM)
    assert job.end()["outcome"] == "stopped"


def test_after_waits_for_every_rank(service: Callable[..., Any]) -> None:
    job = service(spec={"after": {"afb-r1-first-1": 2}}).server()
    for rank in (0, 1):
        job.wait_for("phase")
        time.sleep(0.2)
        assert job.events("started") == []
        paths = job.run.job("afb-r1-first-1").rank(rank)
        paths.folder.mkdir(parents=True)
        paths.exit.write_text("{}")
    job.wait_for("published")
    assert [event["name"] for event in job.events("phase")][:2] == ["queue", "start"]
    job.signal(signal.SIGTERM)
    job.end()


def test_a_second_execution_does_nothing(service: Callable[..., Any], wait_until: Callable[..., None]) -> None:
    """Same token, another job: it touches nothing of the first one's and ends well."""
    job = service().server(SLURM_JOB_ID="100")
    job.wait_for("published")
    wait_until(job.paths.rank(0).fingerprint.exists, "the fingerprint")
    before = _state(job.paths.folder)
    for job_id in ("101", "100"):
        command = job.command(sys.executable, "-c", "raise SystemExit(1)")
        second = subprocess.run(
            command, env=job.environment({"SLURM_JOB_ID": job_id}), capture_output=True, text=True, timeout=20, check=False
        )
        assert second.returncode == 0
        assert "job 100" in second.stderr
        assert "fenced" in second.stderr
    assert _state(job.paths.folder) == before
    job.signal(signal.SIGTERM)
    assert job.end()["outcome"] == "stopped"


def _state(folder: Path) -> "dict[str, bytes]":
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "spec.json"}


def test_of_many_executions_one_runs(service: Callable[..., Any], wait_until: Callable[..., None]) -> None:
    job = service()
    command = job.command(sys.executable, str(job.modules / "server.py"), "@{port}", "@{bind}")
    processes = [
        subprocess.Popen(command, env=job.environment({"SLURM_JOB_ID": str(number)}), stderr=subprocess.DEVNULL)
        for number in range(5)
    ]
    wait_until(lambda: len([process for process in processes if process.poll() is None]) == 1, "all but one to end")
    wait_until(lambda: bool(job.events("published")), "the endpoint")
    (running,) = (process for process in processes if process.poll() is None)
    running.terminate()
    assert [process.wait(20) for process in processes] == [0] * 5
    assert len(job.events("started")) == 1


def test_a_restart_by_the_scheduler_runs_again(service: Callable[..., Any]) -> None:
    """Same job id, next restart: the record of the execution before is taken away at once."""
    job = service().server(SLURM_JOB_ID="100")
    job.wait_for("published")
    job.signal(signal.SIGTERM)
    job.end()
    job.server(SLURM_JOB_ID="100", SLURM_RESTART_COUNT="1")
    _wait_for_restart(job)
    assert not job.paths.rank(0).exit.exists()
    job.signal(signal.SIGTERM)
    record = job.end()
    assert (record["outcome"], record["restart"]) == ("stopped", 1)


def _wait_for_restart(job: Any) -> None:
    deadline = time.monotonic() + 20
    while not any(event["restart"] == 1 and event["type"] == "published" for event in job.events()):
        assert time.monotonic() < deadline, job.stderr()
        time.sleep(0.02)


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"v": 99}', '{"v": 1}'])
def test_an_unusable_specification(service: Callable[..., Any], text: "str | None") -> None:
    job = service()
    command = job.command("true")
    job.paths.spec.unlink()
    if text is not None:
        job.paths.spec.write_text(text)
    done = subprocess.run(command, env=job.environment({}), capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 3
    assert str(job.paths.spec) in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("variable", "value"), [("AFB_RANK", "1"), ("AFB_RANK", "x"), ("SLURM_PROCID", "7")])
def test_a_rank_that_the_job_does_not_have(service: Callable[..., Any], variable: str, value: str) -> None:
    job = service().start("true", **{variable: value})
    assert job.process.wait(20) == 3
    assert "specification cannot be used" in job.stderr()


def test_a_run_folder_that_cannot_be_written(service: Callable[..., Any]) -> None:
    """A file stands where the rank's folder should be; permissions would not stop root."""
    job = service()
    job.paths.folder.mkdir(parents=True)
    (job.paths.folder / "0").write_text("in the way")
    job.server()
    assert job.process.wait(20) == 3
    assert "the job cannot be begun" in job.stderr()
    assert "Traceback" not in job.stderr()


def test_a_full_disk_stops_the_service(service: Callable[..., Any]) -> None:
    """The file-size limit of a process is a disk that fills up when the record is to be written."""
    job = service()
    command = job.command(sys.executable, str(job.modules / "server.py"), "@{port}", "@{bind}")
    shell = ["bash", "-c", 'ulimit -f 4; exec "$@"', "sh", *command]
    (job.paths.folder / "0").mkdir()
    (job.paths.folder / "0" / "events.jsonl").write_text("x" * 4000 + "\n")
    done = subprocess.run(shell, env=job.environment({}), capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 3
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert job.child_pids() == []


@pytest.mark.parametrize(
    "arguments", [[], ["nonsense"], ["supervise"], ["ranks"], ["ranks", "0", "--", "true"], ["ranks", "2", "true"]]
)
def test_a_wrong_command_line(service: Callable[..., Any], arguments: "list[str]") -> None:
    command = [sys.executable, "-m", "aifactory_bench.node", *arguments]
    done = subprocess.run(command, env=service().environment({}), capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    assert "usage: node" in done.stderr


def test_the_record_is_json_with_known_keys(service: Callable[..., Any]) -> None:
    job = service().server("exit7")
    record = job.end()
    assert json.loads(job.paths.rank(0).exit.read_text()) == record
    assert {"v", "outcome", "text", "exit_code", "signal", "log_tail", "started_wall_ns", "ended_wall_ns", "phases_s"} <= set(
        record
    )
    assert record["v"] == 1
