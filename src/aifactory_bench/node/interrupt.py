"""What ends a client's point loop early: TERM, a stop file, a service that has ended."""

import contextlib
import os
import signal
import time
from types import FrameType
from typing import Iterator, Optional

from .paths import RunPaths
from .targets import Targets

_FILES_EVERY_S = 0.2


class Stopped(BaseException):
    """Raised in the middle of a step that cannot ask; not an Exception, so that no product's code swallows it."""


class Interrupt:
    """Asked again and again whether to go on."""

    def __init__(self, run: RunPaths, job: str, targets: Targets) -> None:
        self._run = run
        self._job = job
        self._targets = targets
        self._files_due = 0.0
        self._interruptible = False
        self.stopped: Optional[str] = None
        """Why the job is to stop."""
        self.service_died: Optional[str] = None
        """Which service has ended, and how."""

    def install(self) -> None:
        """Take TERM and INT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _frame: Optional[FrameType]) -> None:
        self.stopped = f"told to stop by {signal.Signals(number).name}"
        if self._interruptible:
            raise Stopped(self.stopped)

    def reason(self) -> Optional[str]:
        """Return why to end now, or None; cheap, files are looked at every 0.2 s however often it is asked."""
        if self.stopped or self.service_died:
            return self.stopped or self.service_died
        now = time.monotonic()
        if now >= self._files_due:
            self._files_due = now + _FILES_EVERY_S
            self._look_at_files()
        return self.stopped or self.service_died

    def look_after_trouble(self) -> Optional[str]:
        """The same after requests have failed: waits a little for a service that is gone to say so."""
        if not self.stopped and not self.service_died:
            self.service_died = self._targets.died_after_trouble()
        return self.stopped or self.service_died

    def _look_at_files(self) -> None:
        try:
            stops = os.listdir(self._run.stop)
        except OSError:
            stops = []
        for name in (self._job, "all"):
            if name in stops:
                self.stopped = f"told to stop by the file stop/{name}"
                return
        self.service_died = self._targets.died()

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Let TERM end a step that has no way to ask.

        Raises:
            Stopped: TERM or INT came, now or before.
        """
        self._interruptible = True
        try:
            if self.stopped:
                raise Stopped(self.stopped)
            yield
        finally:
            self._interruptible = False
