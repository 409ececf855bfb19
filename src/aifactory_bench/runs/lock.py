"""Which controller may write a run: one at a time, by a lock that the kernel drops when its holder dies."""

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import LockedError
from ..submitters.disk import clear_errors

EXPIRY_S = 60.0
"""A holder whose heartbeat is older may be replaced with `take_over`."""


class ControllerLock:
    """Held by one controller; its heartbeat tells others that it lives."""

    def __init__(self, path: Path, fd: int) -> None:
        self._path = path
        self._fd = fd

    @classmethod
    def acquire(cls, path: Path, *, take_over: bool = False) -> "ControllerLock":
        """Take the lock.

        Args:
            path: The run's `controller.lock`.
            take_over: Replace a holder that has shown no life for a minute.

        Raises:
            LockedError: another controller holds it.
            SiteError: the file cannot be written.
        """
        with clear_errors(path):
            return cls._acquire(path, take_over=take_over)

    @classmethod
    def _acquire(cls, path: Path, *, take_over: bool) -> "ControllerLock":
        for _ in range(8):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                other = cls(path, fd)
                try:
                    other._refuse_or_unlink(take_over=take_over)
                finally:
                    other.release()
                continue
            lock = cls(path, fd)
            try:
                if lock.held:
                    lock.heartbeat()
                    return lock
            except BaseException:
                lock.release()
                raise
            lock.release()  # somebody replaced the file between open and flock
        raise LockedError(f"{path}: other controllers keep taking this run", "try again in a moment")

    def _refuse_or_unlink(self, *, take_over: bool) -> None:
        """Make room where somebody else holds the lock.

        Raises:
            LockedError: the holder is not to be replaced.
        """
        holder = read_holder(self._path)
        heartbeat_wall_s = holder.get("heartbeat_wall_s")
        if not isinstance(heartbeat_wall_s, int | float):  # it has only just taken the lock
            heartbeat_wall_s = os.fstat(self._fd).st_mtime
        age_s = time.time() - heartbeat_wall_s
        if not (take_over and age_s > EXPIRY_S):
            raise _locked(holder, age_s, take_over=take_over) from None
        # The old holder keeps its lock on a file that has no name any more, and sees that at its next heartbeat. Another
        # newcomer may have been faster: its file stays.
        if self.held:
            self._path.unlink(missing_ok=True)

    @property
    def held(self) -> bool:
        """Whether the lock file is still the one that this controller locked."""
        try:
            return os.path.samestat(os.fstat(self._fd), os.stat(self._path))
        except (FileNotFoundError, NotADirectoryError):
            return False

    def heartbeat(self) -> None:
        """Show life.

        Raises:
            LockedError: another controller has taken the run over.
        """
        if not self.held:
            raise LockedError("another controller has taken this run over", "this one only stops watching; nothing is lost")
        text = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "heartbeat_wall_s": time.time()})
        os.pwrite(self._fd, text.ljust(200).encode(), 0)

    def release(self) -> None:
        """Give the lock up."""
        with contextlib.suppress(OSError):
            os.close(self._fd)


def is_held(path: Path) -> bool:
    """Return whether any controller holds the lock now."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def read_holder(path: Path) -> Mapping[str, Any]:
    """Return what the last holder wrote: host, pid, heartbeat_wall_s; empty when nobody did."""
    try:
        holder = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _locked(holder: Mapping[str, Any], age_s: float, *, take_over: bool) -> LockedError:
    who = f"process {holder.get('pid', '?')} on {holder.get('host', '?')}"
    if take_over:
        return LockedError(
            f"{who} drives this run and showed life {max(age_s, 0):.0f} s ago",
            f"--take-over replaces a controller only after {EXPIRY_S:.0f} s without life",
        )
    return LockedError(f"{who} drives this run", "follow it with 'attach', or stop it with 'cancel'")
