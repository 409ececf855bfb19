"""A process is told from another one that got its pid."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aifactory_bench.submitters.process import ProcessId, belonging, kill_belonging


@pytest.fixture
def sleeper():
    """A process that sleeps, with a mark in its environment."""
    child = subprocess.Popen(["sleep", "60"], env={"AFB_TOKEN": f"mark-{os.getpid()}"})
    yield child
    child.kill()
    child.wait()


def identity(pid):
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return ProcessId(pid, int(stat[19]), ProcessId.own().boot_id)


def test_own_process_lives_and_survives_the_text():
    """A process id read back from its text is the same one."""
    own = ProcessId.own()
    assert own.alive
    assert ProcessId.parse(str(own)) == own


def test_a_reused_pid_is_not_the_process(sleeper):
    """Same pid, other start time or other boot: not alive."""
    real = identity(sleeper.pid)
    assert real.alive
    assert not ProcessId(real.pid, real.start_ticks + 1, real.boot_id).alive
    assert not ProcessId(real.pid, real.start_ticks, "another boot").alive


def test_a_zombie_is_not_alive(sleeper):
    """A process that ended and was not reaped does not run any more."""
    real = identity(sleeper.pid)
    real.send(signal.SIGKILL)
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert not real.alive


def test_no_signal_goes_to_a_stranger(sleeper):
    """A signal to a process of another start time is not sent."""
    real = identity(sleeper.pid)
    ProcessId(real.pid, real.start_ticks + 1, real.boot_id).send(signal.SIGKILL)
    assert real.alive


def test_processes_are_found_by_environment(sleeper, tmp_path):
    """Whoever carries the assignment is found, and nobody whose value only begins like it."""
    assert list(belonging(f"AFB_TOKEN=mark-{os.getpid()}", tmp_path)) == [sleeper.pid]
    assert list(belonging(f"AFB_TOKEN=mark-{os.getpid()}"[:-1], tmp_path)) == []


def test_processes_are_found_by_their_folder(tmp_path):
    """A process that hides its environment, as Redis does, is found where it works; a neighbour's folder is another one."""
    (tmp_path / "job" / "work").mkdir(parents=True)
    child = subprocess.Popen(["sleep", "60"], env={}, cwd=tmp_path / "job" / "work")
    try:
        assert list(belonging("AFB_TOKEN=none", tmp_path / "job")) == [child.pid]
        assert list(belonging("AFB_TOKEN=none", tmp_path / "jo")) == []
    finally:
        child.kill()
        child.wait()


def test_what_forks_while_it_is_looked_for_is_killed_too(tmp_path):
    """Twenty processes that start a lasting child every 20 ms."""
    (tmp_path / "spawns.py").write_text(
        "import os, time\nfor _ in range(150):\n    time.sleep(0.02)\n    os.fork() or time.sleep(600)\n"
    )
    mark = f"mark-{os.getpid()}"
    children = [subprocess.Popen([sys.executable, tmp_path / "spawns.py"], env={"AFB_TOKEN": mark}) for _ in range(20)]
    time.sleep(0.3)
    asyncio.run(kill_belonging(f"AFB_TOKEN={mark}", tmp_path / "nowhere"))
    assert [child.wait() for child in children] == [-signal.SIGKILL] * 20
    assert list(belonging(f"AFB_TOKEN={mark}", tmp_path / "nowhere")) == []


@pytest.mark.parametrize("text", ["", "1", "a b c", "1 2"])
def test_text_that_names_no_process_is_refused(text):
    """Anything but three fields with two numbers is a ValueError."""
    with pytest.raises(ValueError):
        ProcessId.parse(text)
