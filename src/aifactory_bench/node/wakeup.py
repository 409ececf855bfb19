"""Waiting that ends at once when a signal comes, a child ends or a thread has news."""

import contextlib
import os
import select
import signal
from types import FrameType
from typing import Optional

from .__main__ import HELD


class Wakeup:
    """Owns the process's signals: TERM and INT ask for a stop, USR1 tells that the walltime is near, HUP is passed over.

    Handlers, not SIG_IGN, so that a child starts with the defaults. Only the main thread may make and wait on one.
    """

    def __init__(self) -> None:
        self.stop_signal: Optional[str] = None
        """Name of the signal that asked for a stop."""
        self.walltime_near = False
        self._reader, self._writer = os.pipe()
        for end in (self._reader, self._writer):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGUSR1, self._on_walltime)
        for number in (signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, self._on_other)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)  # those that came since the program began come now

    def wait(self, seconds: float) -> None:
        """Return after the time, or earlier when something happened."""
        select.select([self._reader], [], [], max(0.0, seconds))
        with contextlib.suppress(BlockingIOError):
            os.read(self._reader, 4096)

    def wake(self) -> None:
        """End the wait in the main thread; any thread may call it."""
        with contextlib.suppress(BlockingIOError):  # full: the main thread will wake anyway
            os.write(self._writer, b"\0")

    def _on_stop(self, number: int, _frame: Optional[FrameType]) -> None:
        self.stop_signal = signal.Signals(number).name

    def _on_walltime(self, _number: int, _frame: Optional[FrameType]) -> None:
        self.walltime_near = True

    def _on_other(self, _number: int, _frame: Optional[FrameType]) -> None:
        pass
