"""The receiving side of messages: a process beside a worker, which reads what subscribers and consumers are sent.

It is a process of its own, so that receipt is stamped without waiting for the worker's sends, and the worker's sends do not
wait for reading. It ends when the worker closes its end of the pipe, and so with the worker however that ends.
"""

import contextlib
import gc
import json
import mmap
import os
import select
import signal
import sys
import time
from typing import Any, Dict, List, Optional, Sequence

from aifactory_bench.node.load import Histogram

from .redis_inbox_node import GONE, Inbox
from .redis_resp_node import ErrorReply, RespError

_PR_SET_PDEATHSIG = 1
_READY = b"+"
_READY_LIMIT_S = 20.0
_QUIET_S = 1.0
"""After the drain: messages that have not come when none came for so long are taken for lost ..."""
_LONGEST_S = 10.0
"""... and all that have not come by then."""
_TURN_S = 0.2
_READ_BYTES = 1 << 18
_SECOND_NS = 1_000_000_000


class Tape:
    """What was received, kept by the second; times are CLOCK_MONOTONIC ns."""

    def __init__(self, start_ns: int, end_ns: int) -> None:
        self._start_ns, self._end_ns = start_ns, end_ns
        seconds = -(-(end_ns - start_ns) // _SECOND_NS)
        self.delivery = Histogram()
        self.age = Histogram()
        """How long what is read had lain in the kernel: the receiver's own lateness."""
        self.per_second = [0] * seconds
        """Received in each second of the window."""
        self.waiting = [0] * seconds
        """Sent before the end of each second, the last one ending with the window, and received after it."""
        self.received = 0

    def add(self, stamps_ns: "Sequence[int]", now_ns: int, age_ns: int = -1) -> None:
        """Record messages that were sent at these times and have been read now; the kernel had the last of them so long."""
        self.received += len(stamps_ns)
        start_ns = self._start_ns
        if age_ns >= 0 and now_ns >= start_ns:
            self.age.record(age_ns)
        # What is sent after the window was due in it.
        self.delivery.record_many([now_ns - stamp for stamp in stamps_ns if stamp >= start_ns])
        second = (now_ns - start_ns) // _SECOND_NS if now_ns < self._end_ns else len(self.per_second)
        if 0 <= second < len(self.per_second):
            self.per_second[second] += len(stamps_ns)
        if second <= 0 or min(stamps_ns) >= start_ns + second * _SECOND_NS:
            return
        for stamp in stamps_ns:
            for late in range(max(0, (stamp - start_ns) // _SECOND_NS), min(second, len(self.waiting))):
                self.waiting[late] += 1

    def report(self) -> "Dict[str, Any]":
        """Return everything as JSON."""
        return {
            "received": self.received,
            "delivery": self.delivery.to_json(),
            "age": self.age.to_json(),
            "per_second": self.per_second,
            "waiting": self.waiting,
        }


class Listener:
    """The process, as its worker sees it."""

    def __init__(self, inboxes: "Sequence[Inbox]", start_ns: int, end_ns: int) -> None:
        """Start it and wait until all of its connections will be sent what is sent from now on.

        Raises:
            OSError: it did not get ready in time, or its server refused; the text says how.
        """
        self.told = memoryview(mmap.mmap(-1, 16)).cast("q")
        """What is known at any time, in memory that both processes see: messages received, and connections lost."""
        reader, child_writer = os.pipe()
        child_reader, self._writer = os.pipe()
        self._reader = reader
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            status = 1
            try:
                keep = {child_reader, child_writer}
                for fd in map(int, os.listdir("/proc/self/fd")):
                    if fd > 2 and fd not in keep:
                        with contextlib.suppress(OSError):  # the one that listed them
                            os.close(fd)
                status = _listen(parent, inboxes, Tape(start_ns, end_ns), self.told, child_reader, child_writer)
            finally:
                os._exit(status)
        os.close(child_reader)
        os.close(child_writer)
        answer = self._answer(_READY_LIMIT_S, whole=False)
        if answer != _READY:
            self._end()
            raise OSError(f"the receivers did not get ready: {answer.decode('utf-8', 'replace') or 'no word of them'}")

    def finish(self, expected: Optional[int]) -> "Dict[str, Any]":
        """Let it wait for the rest of so many messages (None: for silence), end it and return what it recorded.

        Raises:
            OSError: it has ended by itself.
        """
        os.write(self._writer, json.dumps(expected).encode() + b"\n")
        data = self._answer(_LONGEST_S + _READY_LIMIT_S, whole=True)
        self._end()
        try:
            report: "Dict[str, Any]" = json.loads(data)
        except ValueError:
            raise OSError("the receivers have ended before they said what they received") from None
        return report

    def _answer(self, limit_s: float, whole: bool) -> bytes:
        """Return the first piece of what it says, or all that it says to its end."""
        data, deadline = b"", time.monotonic() + limit_s
        while time.monotonic() < deadline:
            if not select.select([self._reader], [], [], max(0.0, deadline - time.monotonic()))[0]:
                break
            piece = os.read(self._reader, 1 << 16)
            data += piece
            if not piece or (not whole and data):
                break
        return data

    def _end(self) -> None:
        os.close(self._writer)
        os.close(self._reader)
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


def _listen(parent: int, inboxes: "Sequence[Inbox]", tape: Tape, told: "memoryview[int]", reader: int, writer: int) -> int:
    """Be the process; returns its exit status."""
    _end_with(parent)
    try:
        for inbox in inboxes:
            inbox.open()
    except (OSError, ErrorReply, RespError) as error:
        os.write(writer, f"{type(error).__name__}: {error}".encode()[:1000])
        return 1
    os.write(writer, _READY)
    gc.freeze()
    gc.disable()
    begun_ns, cpu_ns = time.monotonic_ns(), time.process_time_ns()
    lost = _Loop(inboxes, tape, told, reader).run()
    if lost is None:
        return 0  # the worker has gone
    span_ns = max(1, time.monotonic_ns() - begun_ns)
    report = {**tape.report(), "gone": lost, "cpu_share": (time.process_time_ns() - cpu_ns) / span_ns}
    report["commands"] = sum(inbox.commands for inbox in inboxes)
    for inbox in inboxes:
        inbox.close()
    data = json.dumps(report).encode()
    while data:
        data = data[os.write(writer, data) :]
    return 0


def _end_with(parent: int) -> None:
    """End with the worker, also where it is killed and the pipe is looked at too late."""
    try:
        import ctypes  # not every Python has it

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        pass  # the pipe still tells
    if os.getppid() != parent:
        os._exit(1)


class _Loop:
    """Reads all inboxes until the worker says how many messages there are to be, and these are there."""

    def __init__(self, inboxes: "Sequence[Inbox]", tape: Tape, told: "memoryview[int]", reader: int) -> None:
        self._tape, self._told, self._reader = tape, told, reader
        self._by_fd = {inbox.fileno: inbox for inbox in inboxes}
        self._epoll = select.epoll()
        self._gone: "List[str]" = []
        self._expected: Optional[int] = None
        self._told_s: Optional[float] = None
        for fd in (reader, *self._by_fd):
            self._epoll.register(fd, select.EPOLLIN)

    def run(self) -> "Optional[List[str]]":
        """Return how connections were lost, or None when the worker has gone."""
        tape, clock, heard_s = self._tape, time.monotonic_ns, time.monotonic()
        while True:
            for fd, _ in self._epoll.poll(_TURN_S):
                inbox = self._by_fd.get(fd)
                if inbox is None:
                    if not self._hear():
                        return None
                    heard_s = time.monotonic()
                    continue
                try:
                    data, age_ns = inbox.recv(_READ_BYTES)
                    now_ns = clock()
                    stamps = inbox.read(data)
                except BlockingIOError:
                    continue
                except (OSError, ValueError) as error:
                    self._lose(fd, str(error))
                    continue
                if stamps:
                    tape.add(stamps, now_ns, age_ns)
                    self._told[0] = tape.received
                    heard_s = time.monotonic()
            if self._told_s is not None and self._all_there(heard_s):
                return self._gone

    def _all_there(self, heard_s: float) -> bool:
        now_s = time.monotonic()
        if self._expected is not None and self._tape.received >= self._expected:
            return True
        return now_s - heard_s > _QUIET_S or now_s - (self._told_s or now_s) > _LONGEST_S or not self._by_fd

    def _hear(self) -> bool:
        """Take what the worker says; returns False when it is no longer there."""
        data = os.read(self._reader, 1 << 16)
        if not data:
            return False
        self._expected, self._told_s = json.loads(data), time.monotonic()
        return True

    def _lose(self, fd: int, text: str) -> None:
        self._epoll.unregister(fd)
        self._by_fd.pop(fd).close()
        self._gone.append(text or GONE)
        self._told[1] = len(self._gone)
