"""One controller at a time."""

import fcntl
import json
import subprocess
import sys
import time

import pytest

from aifactory_bench.errors import LockedError, SiteError
from aifactory_bench.runs.lock import ControllerLock, is_held, read_holder

HOLD = (
    "import sys, time; from pathlib import Path; from aifactory_bench.runs.lock import ControllerLock;"
    "lock = ControllerLock.acquire(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
)


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock."""
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "held\n"
    yield child
    child.kill()
    child.wait()
    child.stdout.close()


def test_a_held_lock_names_its_holder(tmp_path, holder):
    """The second controller is told who drives the run."""
    with pytest.raises(LockedError, match=f"process {holder.pid} on") as caught:
        ControllerLock.acquire(tmp_path / "lock")
    assert caught.value.exit_code == 4


def test_a_killed_holder_leaves_no_lock(tmp_path, holder):
    """kill -9 frees the run at once."""
    holder.kill()
    holder.wait()
    lock = ControllerLock.acquire(tmp_path / "lock")
    assert lock.held
    lock.release()


def test_take_over_only_after_expiry(tmp_path, holder):
    """A live holder is not replaced; one without a heartbeat for a minute is, and notices."""
    path = tmp_path / "lock"
    with pytest.raises(LockedError, match="showed life"):
        ControllerLock.acquire(path, take_over=True)
    path.write_text(json.dumps({**read_holder(path), "heartbeat_wall_s": time.time() - 61}).ljust(200))
    lock = ControllerLock.acquire(path, take_over=True)
    assert lock.held
    lock.heartbeat()
    lock.release()


def test_the_replaced_holder_notices(tmp_path):
    """Its next heartbeat is refused."""
    path = tmp_path / "lock"
    old = ControllerLock.acquire(path)
    path.write_text(json.dumps({"heartbeat_wall_s": 0}))
    new = ControllerLock.acquire(path, take_over=True)
    with pytest.raises(LockedError, match="taken this run over"):
        old.heartbeat()
    new.heartbeat()
    old.release()
    new.release()


def test_a_damaged_lock_file_locks_nobody_out(tmp_path):
    """What stands in the file is only for people; the kernel holds the lock."""
    path = tmp_path / "lock"
    path.write_text("not json")
    ControllerLock.acquire(path).release()


def test_whether_a_lock_is_held(tmp_path):
    """Looking takes nothing."""
    path = tmp_path / "lock"
    assert not is_held(path)
    lock = ControllerLock.acquire(path)
    assert is_held(path)
    assert is_held(path)
    lock.release()
    assert not is_held(path)


def test_a_controller_that_has_just_begun_is_not_replaced(tmp_path):
    """It holds the lock and has not written its first heartbeat yet."""
    path = tmp_path / "lock"
    with open(path, "w") as newcomer:
        fcntl.flock(newcomer, fcntl.LOCK_EX)
        with pytest.raises(LockedError, match="showed life 0 s ago"):
            ControllerLock.acquire(path, take_over=True)
        assert path.exists()


def test_a_full_disk_is_an_error_of_the_site(tmp_path, monkeypatch):
    """With the file's name, and nothing stays locked."""

    def full(*_):
        raise OSError(28, "No space left on device")

    path = tmp_path / "lock"
    with monkeypatch.context() as patched:
        patched.setattr("aifactory_bench.runs.lock.os.pwrite", full)
        with pytest.raises(SiteError, match=f"{path}: No space left"):
            ControllerLock.acquire(path)
    ControllerLock.acquire(path).release()
