"""The child of supervise: started in a session of its own, stopped in steps, and nothing of it left behind."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Callable, Dict, List, Optional, Set

from .files import PRIVATE_FILE
from .guard import Guard
from .kernel import OURS, dying_with_parent
from .procfs import children, descendants

KILL_S = 5.0
"""How long to wait for a process that was killed."""
SWEEP_TERM_S = 2.0
SWEEP_KILL_S = 5.0
_QUIET_LOOKS = 2
Idle = Callable[[float], None]
"""Waits for at most so many seconds, and for less when a signal comes."""


class Child:
    """One running program with its output going to the end of a file."""

    def __init__(
        self,
        argv: List[str],
        environment: Dict[str, str],
        folder: Path,
        log: Path,
        guard: Optional[Guard],
        name: str = "",
        stdin: int = subprocess.DEVNULL,
    ) -> None:
        """Start it; argv[0] is a path, name: what people call it, stdin: as of `subprocess.Popen`.

        Raises:
            OSError: it cannot be started, or the log cannot be written.
        """
        self.name = name or Path(argv[0]).name
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
        try:
            self.log_start_bytes = os.fstat(descriptor).st_size
            """Where its output begins in the log."""
            self.process = subprocess.Popen(
                argv,
                stdin=stdin,
                stdout=descriptor,
                stderr=descriptor,
                cwd=folder,
                env=environment,
                start_new_session=True,
                preexec_fn=dying_with_parent(deaf_to=OURS),  # noqa: PLW1509 - one C call, looked up before
            )
        finally:
            os.close(descriptor)
        self.started = time.monotonic()
        if guard is not None:
            guard.add_session(self.process.pid)

    @property
    def pid(self) -> int:
        """Process id, which is also that of its session and process group."""
        return self.process.pid

    def tell(self, text: bytes) -> None:
        """Write to its standard input and close that; one that has ended does not hear it."""
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError), self.process.stdin as stream:
                stream.write(text)

    def ended(self) -> bool:
        """Return whether it has ended by now."""
        return self.process.poll() is not None

    @property
    def exit_code(self) -> Optional[int]:
        """Exit status; None while it runs and when a signal ended it."""
        code = self.process.returncode
        return code if code is not None and code >= 0 else None

    @property
    def signal(self) -> Optional[int]:
        """Number of the signal that ended it, or None."""
        code = self.process.returncode
        return -code if code is not None and code < 0 else None

    def how_it_ended(self) -> str:
        """Return a phrase such as `redis-server ended with exit code 1 after 0.3 s`."""
        after = f"after {time.monotonic() - self.started:.1f} s"
        if self.signal is not None:
            hint = " (out of memory?)" if self.signal == signal.SIGKILL else ""
            return f"{self.name} was ended by {_signal_name(self.signal)}{hint} {after}"
        return f"{self.name} ended with exit code {self.exit_code} {after}"

    def stop(self, number: int, timeout_s: float, idle: Idle) -> bool:
        """Ask the program itself to end, wait, kill its whole group; return whether it ended when asked."""
        willing = True
        if not self.ended():
            _kill(self.pid, number)
            end = time.monotonic() + timeout_s
            while not self.ended() and time.monotonic() < end:
                idle(end - time.monotonic())
            willing = self.ended()
        if not willing:
            _kill(-self.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):  # in a system call that does not end
                self.process.wait(KILL_S)
        return willing


def sweep(spare: Set[int], idle: Idle) -> int:
    """End every descendant that is left, TERM first, then KILL; return how many there were.

    This process must be the one that adopts orphans, and `spare` names those children that are to stay.
    """
    seen: Set[int] = set()
    kill_at = time.monotonic() + SWEEP_TERM_S
    give_up_at = kill_at + SWEEP_KILL_S
    quiet = 0
    while quiet < _QUIET_LOOKS:
        _reap_all()
        left = descendants([os.getpid()]) - {os.getpid()} - spare
        # The kernel's list of children may miss some while others end, so one empty look is not enough.
        quiet = 0 if left else quiet + 1
        now = time.monotonic()
        for pid in left:
            if pid not in seen or now >= kill_at:
                seen.add(pid)
                _kill(pid, signal.SIGTERM if now < kill_at else signal.SIGKILL)
        if left:
            if now > give_up_at:  # in a system call that does not end
                break
            idle(0.05)
    return len(seen)


def _reap_all() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


class OrphanReaper:
    """Takes the exit status of adopted processes, so that a long job does not fill the process table with the dead."""

    def __init__(self, interval_s: float = 10.0) -> None:
        self._interval_s = interval_s
        self._due = 0.0
        self._seen: Set[int] = set()

    def reap(self, own: Set[int]) -> None:
        """Reap what was there at the last look too; own: children whose status somebody waits for."""
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + self._interval_s
        found = set(children(os.getpid()) or ()) - own
        for pid in found & self._seen:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        self._seen = found


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
