"""Processes of this machine, named so that a reused pid is never taken for the one that had it before."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from attrs import frozen

_PROC = Path("/proc")
_LOOK_AGAIN_S = 0.02
_MOST_LOOKS = 250
"""More needs only what hangs in a system call, or starts its like faster than it can be found."""


def boot_id() -> str:
    """Return the id of this boot of the machine."""
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


@frozen
class ProcessId:
    """A process: pid, start time in clock ticks since boot, and the boot."""

    pid: int
    start_ticks: int
    boot_id: str

    def __str__(self) -> str:
        return f"{self.pid} {self.start_ticks} {self.boot_id}"

    @classmethod
    def parse(cls, text: str) -> "ProcessId":
        """Build the value from its text.

        Raises:
            ValueError: not the text of one.
        """
        pid, start_ticks, boot = text.split()
        return cls(int(pid), int(start_ticks), boot)

    @classmethod
    def own(cls) -> "ProcessId":
        """Return this process."""
        pid = os.getpid()
        stat = _stat(pid)
        if stat is None:
            raise RuntimeError("/proc is not readable")
        return cls(pid, stat[1], boot_id())

    @property
    def alive(self) -> bool:
        """Whether the process still runs; a zombie does not."""
        if self.boot_id != boot_id():
            return False
        stat = _stat(self.pid)
        return stat is not None and stat[0] not in "ZX" and stat[1] == self.start_ticks

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if the process still runs."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, number)

    def kill_group(self) -> None:
        """Kill the process, if it still runs, and all of the group that it leads."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)


def _stat(pid: int) -> Optional[tuple[str, int]]:
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(") ")[2].split()
    return fields[0], int(fields[19])


async def kill_belonging(assignment: str, folder: Path) -> None:
    """Kill what a job started and left, this process excepted, until nothing of it is found.

    Args:
        assignment: `NAME=value` that the job exports; whoever has it in its environment belongs to the job.
        folder: Whoever works in it belongs to the job too: Redis, for one, overwrites its environment with its title.
    """
    for _ in range(_MOST_LOOKS):
        left = list(belonging(assignment, folder))
        if not left:
            break
        # And look again: whoever forked during the look has a child that it did not see.
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(_LOOK_AGAIN_S)


def belonging(assignment: str, folder: Path) -> Iterator[int]:
    """Yield the pids of processes that a job started, this one excepted; for the arguments see `kill_belonging`."""
    wanted, place = assignment.encode(), f"{os.path.realpath(folder)}/"
    for entry in _PROC.iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            in_environment = wanted in (entry / "environ").read_bytes().split(b"\0")
            if in_environment or f"{os.readlink(entry / 'cwd')}/".startswith(place):
                yield int(entry.name)
        except OSError:
            continue  # it ended, or is somebody else's
