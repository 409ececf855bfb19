"""The end of clusters, whoever started them, and the folders of those that go with a process."""

import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

from . import network, processes
from .hosts import kill_recorded

_FRESH_S = 60.0
_PREFIX = f"afb-bed-{os.geteuid()}-"


def new_folder() -> tuple[Path, int]:
    """Make a folder for a cluster that goes with this process; return it and the lock that says that the process lives.

    The lock is a descriptor to be closed after `down`.
    """
    sweep()
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir="/tmp"))
    lock = os.open(folder / "lock.new", os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    (folder / "lock.new").rename(folder / "lock")  # so that nobody sees it without its lock
    return folder, lock


def sweep() -> None:
    """Take down the clusters whose process is gone."""
    for folder in Path("/tmp").glob(f"{_PREFIX}*"):
        try:
            lock = os.open(folder / "lock", os.O_RDWR)
        except OSError:
            if time.time() - folder.stat().st_mtime > _FRESH_S:
                down(folder)
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            down(folder)
        except BlockingIOError:
            continue
        finally:
            os.close(lock)


def down(folder: Path) -> None:
    """End what runs of the cluster in a folder, whoever started it, and remove the folder."""
    try:
        namespaces = (folder / "mode").read_text() == "namespaces"
    except OSError:
        namespaces = False
    if namespaces:
        for record in folder.glob("hosts/*/init"):
            kill_recorded(record)
        if (folder / "network").exists():
            network.Network(int((folder / "network").read_text())).unmake()
    else:
        processes.kill_all(str(folder))
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        shutil.rmtree(folder)
