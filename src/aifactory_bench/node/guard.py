"""A small process that ends what is left when supervise itself is killed with SIGKILL.

The kernel kills supervise's child then (see `kernel`), but not the child's children. The guard sees the end of a pipe and
kills every process of the child's session and every one that carries the execution's mark in its environment.
"""

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Set

MARK = "AFB_EXECUTION"
"""Environment variable of all children; its value differs with every execution."""
_SEARCH_FOR_S = 5.0
_QUIET_LOOKS = 2


class Guard:
    """Handle of the guard; made before any thread starts."""

    def __init__(self, mark: str) -> None:
        reader, self._writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                os.close(self._writer)
                _run(reader, mark)
                status = 0
            finally:
                os._exit(status)
        os.close(reader)

    def add_session(self, session: int) -> None:
        """Let it know of a session that is to end with this process."""
        self._tell(f"{session}\n")

    def dismiss(self) -> None:
        """End it; nothing is killed."""
        self._tell("done\n")
        os.close(self._writer)
        with contextlib.suppress(ChildProcessError):  # somebody killed it, and it has been reaped
            os.waitpid(self.pid, 0)

    def _tell(self, line: str) -> None:
        with contextlib.suppress(BrokenPipeError):  # killed from outside: the job goes on without
            os.write(self._writer, line.encode())


def _run(reader: int, mark: str) -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor not in {0, 1, 2, reader}:
            with contextlib.suppress(OSError):  # the one that the list was read from
                os.close(descriptor)
    os.chdir("/")
    heard = b""
    while True:
        data = os.read(reader, 4096)
        if not data:
            break
        heard += data
    lines = heard.split()
    if b"done" not in lines:
        _kill_all({int(line) for line in lines}, f"{MARK}={mark}".encode())


def _kill_all(sessions: Set[int], mark: bytes) -> None:
    """Kill until nothing is found twice in a row: what is killed may just have forked."""
    end = time.monotonic() + _SEARCH_FOR_S
    quiet = 0
    while quiet < _QUIET_LOOKS and time.monotonic() < end:
        quiet += 1
        for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
            if pid != os.getpid() and _belongs(pid, sessions, mark):
                quiet = 0
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _belongs(pid: int, sessions: Set[int], mark: bytes) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
        fields = stat[stat.rindex(b")") + 2 :].split()
        if fields[0] == b"Z":
            return False
        return int(fields[3]) in sessions or mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return False  # gone, or another user's
