"""What can end a rank from outside: a signal, a stop file, the walltime, the lease."""

import contextlib
import os
import time
from pathlib import Path
from typing import Callable, List, Optional

from .ending import Ending
from .lease import LeaseKeeper, LeaseWatch
from .paths import RunPaths
from .wakeup import Wakeup

FAST_S = 0.05
SLOW_S = 0.25
_FAST_FOR_S = 10.0
MARGIN_SHARE = 0.1
MARGIN_MAX_S = 15.0


def appeared(path: Path) -> bool:
    """Return whether a file is there; reads its folder, because NFS remembers for long that a file was not there."""
    try:
        return path.name in os.listdir(path.parent)
    except (FileNotFoundError, NotADirectoryError):
        return False


class Watch:
    """Looked at all the time; raises `Ending` when there is a reason to end.

    Files are looked at every 50 ms at first and every 250 ms later, however often one asks. The walltime ends a little early,
    to leave time for stopping: a tenth of it, at most 15 s.
    """

    def __init__(self, run: RunPaths, job: str, wakeup: Wakeup, started: float, time_s: float) -> None:
        self.wakeup = wakeup
        self.run = run
        self._job = job
        self._started = started
        self._time_s = time_s
        self._deadline = started + time_s - min(MARGIN_MAX_S, time_s * MARGIN_SHARE)
        self._lease: Optional[LeaseWatch] = None
        self._lease_s = 0.0
        self._keeper: Optional[LeaseKeeper] = None
        self._files_due = 0.0
        self.on_tick: List[Callable[[], None]] = []
        """Called at every look, in the main thread."""
        self.on_trouble: Callable[[str], None] = lambda _text: None
        """Told once when the lease or the stop files cannot be read, or the lease cannot be written."""
        self._told_trouble = False

    def watch_lease(self, lease_s: float) -> None:
        """End when nobody cares any longer."""
        self._lease = LeaseWatch(self.run.lease, lease_s)
        self._lease_s = lease_s

    def keep_lease(self, lease_s: float, name: str) -> None:
        """Care for the run from now on."""
        self._keeper = LeaseKeeper(self.run.lease, lease_s, name)

    def pause(self, limit_s: float = SLOW_S) -> None:
        """Wait for something to happen, at most for a while, then look.

        Raises:
            Ending: there is a reason to end.
        """
        self.wakeup.wait(min(limit_s, self._pace_s()))
        self.look()

    def idle(self, seconds: float) -> None:
        """Wait without looking for reasons to end: for the time in which it ends already. The lease is kept."""
        self.wakeup.wait(min(seconds, FAST_S))
        with contextlib.suppress(OSError):  # a full disk must not keep anything from being stopped
            self._tick()

    def look(self) -> None:
        """Look now.

        Raises:
            Ending: there is a reason to end.
        """
        self._tick()
        if self.wakeup.stop_signal is not None:
            raise Ending("stopped", f"told to stop by {self.wakeup.stop_signal}")
        now = time.monotonic()
        if self.wakeup.walltime_near:
            raise Ending("timeout", "the scheduler says that the walltime is nearly over (SIGUSR1)")
        if now >= self._deadline:
            raise Ending("timeout", f"the walltime of {self._time_s:g} s is over; give the job more under `resources: time`")
        if now < self._files_due:
            return
        self._files_due = now + self._pace_s() * 0.9
        self.look_at_files()

    def look_at_files(self) -> None:
        """Look at the files now, however short ago that was.

        Raises:
            Ending: there is a reason to end.
        """
        try:
            stops = os.listdir(self.run.stop)
        except FileNotFoundError:
            stops = []
        except OSError as error:  # may pass, on a shared file system
            stops = []
            self._trouble(f"the folder of stop files cannot be read: {error}")
        for name in (self._job, "all"):
            if name in stops:
                raise Ending("stopped", f"told to stop by the file stop/{name}")
        try:
            if self._lease is not None and self._lease.expired():
                raise Ending(
                    "lease_expired", f"nobody has cared for the run for {self._lease_s:g} s (the file `lease` did not change)"
                )
        except OSError as error:
            self._trouble(f"the lease cannot be read: {error}")

    def _tick(self) -> None:
        for call in self.on_tick:
            call()
        if self._keeper is not None:
            try:
                self._keeper.keep()
            except OSError as error:
                self._trouble(f"the lease cannot be kept: {error}")

    def _pace_s(self) -> float:
        return FAST_S if time.monotonic() - self._started < _FAST_FOR_S else SLOW_S

    def _trouble(self, text: str) -> None:
        if not self._told_trouble:
            self._told_trouble = True
            self.on_trouble(text)
