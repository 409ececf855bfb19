"""The monitor `service`: what a service says of itself, one row of CSV a reading.

The first two columns are the clocks at which the question was asked, the others are what the product's `sample` returns.
A question that fails leaves no row; the first failure of a series is told, and asking goes on.
"""

import os
import threading
import time
from pathlib import Path
from typing import Callable, List, Mapping, Optional, Tuple

from .files import PRIVATE_FILE, make_private_folder

CLOCKS = ("wall_ns", "mono_ns")
_WHOLE = 1e15
"""Below it, and only there, a float holds every whole number."""
Reader = Callable[[], Mapping[str, Optional[float]]]


class ServiceSampler:
    """Asks from a thread of its own on a schedule that does not drift; a question that comes late is left out."""

    def __init__(self, path: Path, interval_s: float, read: Reader) -> None:
        if interval_s <= 0:
            raise ValueError(f"the interval of the service's monitor must be above 0 s, got {interval_s}")
        self._path = path
        self._interval_s = interval_s
        self._read = read
        self._names: Optional[Tuple[str, ...]] = None
        self._ended = threading.Event()
        self._failures: List[str] = []
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="service-sampler", daemon=True)

    def start(self) -> None:
        """Begin; the first question is asked at once."""
        self._thread.start()

    def stop(self, limit_s: Optional[float] = None) -> None:
        """Ask no more; a question that is still out after the limit is left behind."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(limit_s)

    def take_failures(self) -> List[str]:
        """Return what has failed since the last call."""
        found = []
        while self._failures:
            found.append(self._failures.pop(0))
        return found

    def _run(self) -> None:
        try:
            make_private_folder(self._path.parent)
            fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
        except OSError as error:
            self._failures.append(f"{type(error).__name__}: {error}")
            return
        try:
            self._ask_until_ended(fd)
        finally:
            os.close(fd)

    def _ask_until_ended(self, fd: int) -> None:
        due = time.monotonic()
        while not self._ended.is_set():
            try:
                self._add_row(fd)
                self._failing = False
            except Exception as error:  # a stranger's module, a busy server, a full disk: a monitor never fails its job
                # On its way down a server does not answer any more: that is no failure.
                if not self._failing and not self._ended.is_set():
                    self._failures.append(f"{type(error).__name__}: {error}")
                self._failing = True
            due += self._interval_s
            behind = time.monotonic() - due
            if behind > 0:
                due += (behind // self._interval_s + 1) * self._interval_s
            self._ended.wait(max(0.0, due - time.monotonic()))

    def _add_row(self, fd: int) -> None:
        clocks = (time.time_ns(), time.monotonic_ns())
        values = self._read()
        if self._names is None:
            names = tuple(values)
            if os.fstat(fd).st_size == 0:
                os.write(fd, (",".join((*CLOCKS, *names)) + "\n").encode())
            self._names = names
        if set(values) != set(self._names):
            raise ValueError(f"other figures than before: {', '.join(values)}; the first had {', '.join(self._names)}")
        os.write(fd, (",".join(map(_text, (*clocks, *(values[name] for name in self._names)))) + "\n").encode())


def _text(value: Optional[float]) -> str:
    if value is None:
        return ""
    if isinstance(value, int):
        return str(value)
    return str(int(value)) if abs(value) < _WHOLE and value == int(value) else f"{value:.9g}"
