"""Worker processes: forked, silent while they measure, one report each at the end."""

import json
import math
import mmap
import os
import resource
import select
import signal
import sys
import time
import warnings
from typing import Any, Callable, Dict, List, Optional, Sequence

from .aimed import AimedLoop
from .closed import ClosedLoop
from .driver import Driver
from .open import OpenLoop
from .plan import Plan

POLL_S = 0.2
"""How often `stop` is asked."""
_GRACE_S = 30.0
"""For what comes after the drain; a worker that takes longer is stuck."""
_PR_SET_PDEATHSIG = 1
_PR_SET_TIMERSLACK = 29
_FILES_TO_SPARE = 64


class WorkerError(Exception):
    """A worker did not bring its report; the text says which and why."""


class Workers:
    """The worker processes of one measurement. Leaving the `with` block leaves none of them behind."""

    def __init__(self, plans: Sequence[Plan], driver: Driver) -> None:
        self._flag = mmap.mmap(-1, 1)
        self._parts: List[List[bytes]] = [[] for _ in plans]
        self._pipes: Dict[int, int] = {}
        """Descriptor -> worker, of those whose report is not complete."""
        self._pids: Dict[int, int] = {}
        """Worker -> process id, of those not waited for."""
        self._reports: Dict[int, Dict[str, Any]] = {}
        self._deadline_s = max(plan.end_ns + 2 * plan.timeout_ns for plan in plans) / 1e9 + _GRACE_S
        try:
            for number, plan in enumerate(plans):
                self._fork(number, plan, driver)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _fork(self, number: int, plan: Plan, driver: Driver) -> None:
        reader, writer = os.pipe()
        parent = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():
            # Python 3.12 warns about threads. A worker uses nothing that another thread of the parent may have locked.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            status = 1
            try:
                for other in self._pipes:
                    os.close(other)
                os.close(reader)
                status = _work(parent, plan, driver, memoryview(self._flag), writer)
            finally:
                os._exit(status)
        os.close(writer)
        os.set_blocking(reader, False)
        self._pids[number] = pid
        self._pipes[reader] = number

    def collect(self, stop: "Callable[[], Optional[str]]", tick: "Callable[[], float]") -> "tuple[List[Dict[str, Any]], str]":
        """Wait for all reports; return them in order, and the text of `stop` if it ended the measurement.

        Args:
            stop: asked about every 0.2 s; a text ends the measurement, the reports still come.
            tick: called as often, and after the seconds that it returned.

        Raises:
            WorkerError: a worker died, failed, or did not finish in time.
        """
        reason = ""
        poll = select.poll()
        for pipe in self._pipes:
            poll.register(pipe, select.POLLIN)
        while self._pipes:
            for pipe, _ in poll.poll(math.ceil(min(POLL_S, tick()) * 1000)):
                if self._read(pipe):
                    poll.unregister(pipe)
                    self._finish(pipe)
            if not reason:
                reason = stop() or ""
                if reason:
                    self._flag[0] = 1
            if time.monotonic() > self._deadline_s:
                late = ", ".join(map(str, sorted(self._pipes.values())))
                raise WorkerError(f"worker {late} did not bring a result within {_GRACE_S:.0f} s after the drain")
        return [self._reports[number] for number in sorted(self._reports)], reason

    def _read(self, pipe: int) -> bool:
        """Read what is there; return True at its end."""
        try:
            data = os.read(pipe, 1 << 20)
        except BlockingIOError:
            return False
        self._parts[self._pipes[pipe]].append(data)
        return not data

    def _finish(self, pipe: int) -> None:
        number = self._pipes.pop(pipe)
        os.close(pipe)
        _, status = os.waitpid(self._pids.pop(number), 0)
        data = b"".join(self._parts[number])
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
        try:
            report = json.loads(data)
        except ValueError:
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
            raise WorkerError(f"worker {number} {how} before it brought its result") from None
        if "failed" in report:
            raise WorkerError(f"worker {number}: {report['failed']}")
        self._reports[number] = report

    def close(self) -> None:
        """End what still runs, at once."""
        for pid in self._pids.values():
            os.kill(pid, signal.SIGKILL)
        for pid in self._pids.values():
            os.waitpid(pid, 0)
        for pipe in self._pipes:
            os.close(pipe)
        self._pids.clear()
        self._pipes.clear()
        self._flag.close()


def _work(parent: int, plan: Plan, driver: Driver, flag: Sequence[int], writer: int) -> int:
    """Measure and write the report; returns the exit status."""
    _settle(parent, len(plan.addresses))
    try:
        driver.part, driver.parts = plan.part, plan.parts
        driver.start_ns, driver.end_ns = plan.start_ns, plan.end_ns
        driver.start(plan.seed * 1_000_003 + plan.part)
        loop = (ClosedLoop if not plan.is_open else AimedLoop if driver.aimed else OpenLoop)(plan, driver, flag)
        report = loop.measure()
        status = 0
    except Exception as error:  # whatever a product's driver raises is to be told, not lost
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = f" ({os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno})" if trace is not None else ""
        report = {"failed": f"{type(error).__name__}: {error}{place}"}
        status = 1
    with os.fdopen(writer, "wb") as stream:
        stream.write(json.dumps(report).encode())
    return status


def _settle(parent: int, connections: int) -> None:
    """Make this a process that ends with its parent, wakes up on time and may open its connections."""
    # The parent decides when to end: a signal to the whole group must not cost what was measured.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        import ctypes  # not every Python has it

        prctl = ctypes.CDLL(None).prctl
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        pass  # the parent still ends its workers itself
    if os.getppid() != parent:
        os._exit(1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + _FILES_TO_SPARE
    if soft != resource.RLIM_INFINITY and soft < needed:
        limit = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
