"""The lease of a run: a file whose text changes as long as somebody cares for the run."""

import os
import time
from pathlib import Path
from typing import Callable, Optional

from .files import read_text, write_atomic

KEEP_SHARE = 0.25
"""A client writes this often in the time of a lease."""
KEEP_MIN_S = 0.5
KEEP_MAX_S = 15.0


class LeaseWatch:
    """Notices that the lease has not changed for `lease_s`, by this process's own monotonic clock."""

    def __init__(self, path: Path, lease_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._lease_s = lease_s
        self._clock = clock
        self._text: Optional[str] = None
        self._changed_at = self._looked_at = clock()

    def expired(self) -> bool:
        """Look at the file, and return whether it has been the same for longer than the lease.

        Raises:
            OSError: the file is there and cannot be read.
        """
        now = self._clock()
        text = read_text(self._path, limit_bytes=4096)
        # A pause of this process (a stopped node, a hung file system) is not the silence of the others.
        was_away = now - self._looked_at > self._lease_s / 2
        self._looked_at = now
        if text != self._text or was_away:
            self._text = text
            self._changed_at = now
        return now - self._changed_at > self._lease_s


class LeaseKeeper:
    """Writes a new text every quarter of the lease; what a client does from its start to its end."""

    def __init__(self, path: Path, lease_s: float, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._name = name
        self._clock = clock
        self._interval_s = min(KEEP_MAX_S, max(KEEP_MIN_S, lease_s * KEEP_SHARE))
        self._due = clock()
        self._count = 0

    def keep(self) -> None:
        """Write if it is time to.

        Raises:
            OSError: the file cannot be written; it is tried again after an interval.
        """
        now = self._clock()
        if now < self._due:
            return
        self._due = now + self._interval_s
        self._count += 1
        write_atomic(self._path, f"{self._name} {os.getpid()} {self._count} {time.time_ns()}\n")
