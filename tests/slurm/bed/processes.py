"""What runs on a cluster, read from this machine's /proc."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_GONE_S = 15.0
_DAEMONS = {"munged", "slurmctld", "slurmd", "slurmstepd", "slurmdbd", "mariadbd", "sshd", "sshd-session"}


class Process(NamedTuple):
    """One process of this machine."""

    pid: int
    parent: int
    name: str
    uid: int
    command: str
    state: str

    def environ(self) -> dict[str, str]:
        """Return the environment it was started with; empty when it cannot be read."""
        try:
            pairs = Path(f"/proc/{self.pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return {}
        return dict(pair.decode(errors="replace").split("=", 1) for pair in pairs if b"=" in pair)

    def serves(self, folder: str) -> bool:
        """Say whether it is a daemon of the cluster in a folder, or runs in one of its jobs."""
        if self.name not in _DAEMONS:
            environment = self.environ()
            return "SLURM_JOB_ID" in environment and environment.get("SLURM_CONF", "").startswith(f"{folder}/")
        return f"{folder}/" in self.command or self.has_open(f"{folder}/")

    def has_open(self, start: str) -> bool:
        """Say whether it has a file open whose path begins so."""
        try:
            links = [entry.path for entry in os.scandir(f"/proc/{self.pid}/fd")]
        except OSError:
            return False
        return any(_target(link).startswith(start) for link in links)


def processes() -> Iterator[Process]:
    """Yield all living processes that can be looked at."""
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            head, _, tail = Path(entry.path, "stat").read_text().rpartition(")")
            command = Path(entry.path, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            uid = entry.stat().st_uid
        except OSError:
            continue
        fields = tail.split()
        if fields[0] not in "ZX":
            yield Process(int(entry.name), int(fields[1]), head.partition("(")[2], uid, command, fields[0])


def space_of(pid: int) -> str:
    """Return what names the set of processes that a process sees: one for each host with namespaces."""
    return _target(f"/proc/{pid}/ns/pid")


def with_descendants(roots: set[int], among: list[Process]) -> set[int]:
    """Return process ids: the roots and all that they started, as far as the chain of parents is whole."""
    found = set(roots)
    while True:
        more = {process.pid for process in among if process.parent in found} - found
        if not more:
            return found
        found |= more


def of_folder(folder: str) -> set[int]:
    """Return the processes of a cluster whose hosts are this machine: its daemons, jobs, and what runs in ssh sessions."""
    own = [process for process in processes() if process.uid == os.geteuid() and process.pid != os.getpid()]
    return with_descendants({process.pid for process in own if process.serves(folder)}, own)


def kill_all(folder: str) -> None:
    """Kill every process of a cluster whose hosts are this machine, until none is left.

    Raises:
        TimeoutError: some do not end.
    """
    deadline = time.monotonic() + _GONE_S
    while left := of_folder(folder):
        send(signal.SIGKILL, left)
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes of {folder} do not end: {left}")
        time.sleep(0.02)


def send(number: int, pids: set[int]) -> None:
    """Send a signal to processes; those that are gone do not matter."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""
