"""Standard output and standard error that never break what prints on them: a run is worth more than its progress."""

import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class Output(io.FileIO):
    """A descriptor that takes everything: from the first failure on, it goes nowhere."""

    error: OSError | None = None
    """The first failure."""

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write what can be written."""
        try:
            while (written := super().write(data)) is None:  # whoever shares the terminal or pipe may have made it non-blocking
                select.select((), (self,), ())
            return written
        except OSError as error:
            self.error = self.error or error
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            return memoryview(data).nbytes

    @property
    def lost(self) -> OSError | None:
        """Why something was not written that somebody still waits for; None also where the reader has left (`| head`)."""
        return None if self.error is None or self.error.errno == errno.EPIPE else self.error


@contextmanager
def safe_streams() -> Iterator[Output | None]:
    """Let `sys.stdout` and `sys.stderr` take everything, and every character; yield what is below standard output.

    Streams that somebody else has put there are left as they are, and None stands for standard output.
    """
    for number in range(3):
        _occupy(number)
    former = sys.stdout, sys.stderr
    output = None
    if sys.stdout is sys.__stdout__:
        output, sys.stdout = _safe(sys.stdout, 1)
    if sys.stderr is sys.__stderr__:
        _, sys.stderr = _safe(sys.stderr, 2)
    try:
        yield output
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    finally:
        sys.stdout, sys.stderr = former


def _occupy(number: int) -> None:
    """Open a standard descriptor that is closed, before a file of ours gets its number."""
    try:
        os.fstat(number)
    except OSError:
        os.open(os.devnull, os.O_RDWR)


def _safe(stream: "io.TextIOBase | None", number: int) -> "tuple[Output, io.TextIOWrapper]":
    if not isinstance(stream, io.TextIOWrapper):  # it was closed when Python began
        number = os.open(os.devnull, os.O_WRONLY)
        return (raw := Output(number, "w", closefd=False)), io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8")
    with suppress(OSError):
        stream.flush()
    raw = Output(number, "w", closefd=False)
    at_once = stream.line_buffering or stream.write_through
    return raw, io.TextIOWrapper(io.BufferedWriter(raw), stream.encoding, "replace", line_buffering=at_once)
