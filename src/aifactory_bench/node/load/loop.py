"""The event loop of one worker: connections, time limits, the phases of a measurement.

`ClosedLoop` and `OpenLoop` decide when requests are sent. Between themselves a bare epoll and non-blocking sockets were
the fastest of what the standard library has; see benchmarks/load_vs_redis_benchmark.py.
"""

import gc
import select
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Sequence, Tuple

from .connection import CLOSED, CONNECTING, GREETING, READY, Address, Connection, class_of
from .driver import ALL, Driver, Outcomes, ProtocolError, RefusedError
from .recorder import Recorder, Slice
from .stalls import CARE_NS, Stalls

_CUT_DRAIN_NS = 1_000_000_000
"""How long answers are waited for after the measurement was ended early."""
_CONNECT_NS = 5_000_000_000
_SILENT = "the connection was not answered in time"

clock = time.monotonic_ns


@dataclass(frozen=True)
class Plan:
    """What one worker is to do; times are CLOCK_MONOTONIC ns."""

    warmup_ns: int
    """When the warm-up begins."""
    start_ns: int
    """When the window begins."""
    end_ns: int
    timeout_ns: int
    """Of one request, from sending."""
    addresses: Sequence[Address]
    """One a connection."""
    seed: int
    process: str = "closed"
    rate_per_s: float = 0.0
    """Of all parts together; open loop only."""
    part: int = 0
    """Which of the generators this is, over all ranks and workers."""
    parts: int = 1


@dataclass
class _Edges:
    """Readings of the clock and the CPU time at the edges of the window."""

    mono_ns: List[int] = field(default_factory=list)
    cpu_ns: List[int] = field(default_factory=list)
    counts: Dict[str, int] = field(default_factory=dict)

    def read(self) -> None:
        self.mono_ns.append(clock())
        self.cpu_ns.append(time.process_time_ns())

    def cpu_share(self) -> Optional[float]:
        if len(self.mono_ns) < 2 or self.mono_ns[1] <= self.mono_ns[0]:
            return None
        return (self.cpu_ns[1] - self.cpu_ns[0]) / (self.mono_ns[1] - self.mono_ns[0])


class Loop(ABC):
    """What closed and open loop have in common."""

    def __init__(self, plan: Plan, driver: Driver, flag: "Sequence[int]") -> None:
        self.plan = plan
        self.driver = driver
        self.recorder = Recorder(plan.start_ns, plan.end_ns)
        self.end_ns = plan.end_ns
        """Of the window; earlier than planned when the measurement is cut."""
        self.deadline_ns = plan.end_ns + plan.timeout_ns
        """Nothing is waited for any longer."""
        self.cut = False
        self.running = False
        """The warm-up has begun."""
        self.stalls = Stalls(plan.start_ns)
        self.epoll = select.epoll()
        self.connections = [Connection(driver, address) for address in plan.addresses]
        self.by_fd: Dict[int, Connection] = {}
        self.ready: Dict[int, Connection] = {}
        """Those of `by_fd` that are past their greeting and have sent everything: the hot path."""
        self.connect_ns = min(plan.timeout_ns, _CONNECT_NS)
        """How long making a connection may take, its greeting included."""
        self.next_care_ns = 0
        self._flag = flag
        """The first item is 1 as soon as the measurement is to end."""
        self._edges = _Edges()

    # what a subclass decides

    @abstractmethod
    def run(self) -> None:
        """Send from the begin of the warm-up until `care` says that all is over."""

    @abstractmethod
    def joined(self, connection: Connection) -> None:
        """A connection can take requests now; called when it became ready in the run."""

    @abstractmethod
    def answered(self, connection: Connection, now_ns: int) -> None:
        """Some requests of a connection have been answered."""

    @abstractmethod
    def unreachable(self, error: str, text: str, now_ns: int) -> None:
        """A connection could not be made; count the request that would have been sent on it."""

    @abstractmethod
    def backlog(self, now_ns: int) -> bool:
        """Whether requests of the window wait for being sent."""

    def unsettled(self, connection: Connection) -> bool:
        """Whether what a connection was used for in the window has yet to end, well or badly."""
        return bool(connection.flights)

    def leave_out(self) -> None:
        """Count the requests of the window that were never sent, at the very end."""

    # the phases

    def measure(self) -> Dict[str, Any]:
        """Run warm-up, window and drain; return the worker's report as JSON."""
        gc.freeze()
        gc.disable()
        now = clock()
        # A worker that comes late to the warm-up has missed that time, whatever it did instead.
        self.stalls.begin(min(now, self.plan.warmup_ns))
        for connection in self.connections:
            self._open(connection, now)
        while now < self.plan.warmup_ns and not self.care(now):
            self.attend_all(min(CARE_NS, self.plan.warmup_ns - now) / 1e9)
            now = clock()
        self.running = True
        self.run()
        self._abandon(clock())
        self.leave_out()
        report = self.recorder.report()
        total = self.recorder.counts()
        at_end = self._edges.counts or total
        drained = {name: total[name] - at_end[name] for name in total}
        drained["skipped"] = 0
        report.update(
            cut=self.cut,
            start_ns=self.plan.start_ns,
            end_ns=self.end_ns,
            done_ns=clock(),
            drained=drained,
            cpu_share=self._edges.cpu_share(),
            stalled_s=self.stalls.total_ns / 1e9,
            stalled_max_s=self.stalls.longest_ns / 1e9,
        )
        return report

    def care(self, now_ns: int) -> bool:
        """Look after what is not a matter of microseconds; return True when all is over."""
        self.next_care_ns = now_ns + CARE_NS
        if self._flag[0] and not self.cut:
            self.cut = True
            self.end_ns = min(self.end_ns, now_ns)
            self.deadline_ns = min(self.deadline_ns, now_ns + min(_CUT_DRAIN_NS, self.plan.timeout_ns))
        stalled = self.stalls.look(now_ns, self.end_ns)
        if not self._edges.mono_ns and now_ns >= self.plan.start_ns and not self.cut:
            self._edges.read()
            self.recorder.lag.restart()
        if len(self._edges.mono_ns) == 1 and now_ns >= self.end_ns:
            self._edges.read()
            self._edges.counts = self.recorder.counts()
            self.recorder.lag.fold()
        self.recorder.fold()
        for connection in self.connections:
            if connection.state == CLOSED:
                if now_ns >= connection.retry_ns and (now_ns < self.end_ns or self.backlog(now_ns)):
                    self._open(connection, now_ns)
            elif connection.flights:
                # After a stall of our own the answer may be there already, unread.
                if now_ns - connection.flights[0][0] > self.plan.timeout_ns and not stalled:
                    self._time_out(connection, now_ns)
            elif connection.state != READY and now_ns - connection.since_ns > self.connect_ns:
                self._fail(connection, "connect", f"{connection.address.text}: {_SILENT}", now_ns)
        if now_ns < self.end_ns:
            self.next_care_ns = min(self.next_care_ns, self.end_ns)
            return False
        if now_ns >= self.deadline_ns and not stalled:
            return True
        if any(self.unsettled(connection) for connection in self.connections):
            return False
        return self.cut or not self.backlog(now_ns)

    def _abandon(self, now_ns: int) -> None:
        """End what is outstanding when nothing is waited for any longer."""
        for connection in self.connections:
            for count, slice in self._outstanding(connection):
                if self.cut:
                    self.recorder.failed(slice, "cut", "not answered when the measurement was ended early", count)
                else:
                    slice.timeout += count
            if connection.state in {CONNECTING, GREETING} and not self.cut:
                self.unreachable("connect", f"{connection.address.text}: {_SILENT}", now_ns)
            connection.close(now_ns)
        self.epoll.close()

    @staticmethod
    def _outstanding(connection: Connection) -> "List[Tuple[int, Slice]]":
        """Return number and slice of the requests outstanding, a pair a batch."""
        pairs = [(len(batch.operations), slice) for _, _, batch, slice in connection.flights]
        if pairs and connection.answered:
            pairs[0] = (pairs[0][0] - connection.answered, pairs[0][1])
        return pairs

    # connections

    def _open(self, connection: Connection, now_ns: int) -> None:
        try:
            connection.open(now_ns)
        except OSError as error:
            self._fail(connection, "connect", f"{connection.address.text}: {error.strerror or error}", now_ns)
            return
        self.by_fd[connection.fileno] = connection
        self.epoll.register(connection.fileno, select.EPOLLIN | select.EPOLLOUT)

    def _drop(self, connection: Connection, now_ns: int) -> None:
        if connection.sock is not None and self.by_fd.pop(connection.fileno, None) is not None:
            self.ready.pop(connection.fileno, None)
            self.epoll.unregister(connection.fileno)
        connection.close(now_ns)
        if connection.retry_ns <= now_ns < self.end_ns and self.running:
            self._open(connection, now_ns)

    def _fail(self, connection: Connection, error: str, text: str, now_ns: int) -> None:
        """Give up a connection that never became ready."""
        self._drop(connection, now_ns)
        if self.running and not self.cut:
            self.unreachable(error, text, now_ns)

    def lose(self, connection: Connection, error: str, text: str, now_ns: int) -> None:
        """Give up a connection; what was outstanding on it ends with this error."""
        if connection.state != READY:
            known = error if error.startswith("reply:") or error == "protocol" else "connect"
            self._fail(connection, known, f"{connection.address.text}: {text}", now_ns)
            return
        for count, slice in self._outstanding(connection):
            self.recorder.failed(slice, error, text, count)
        self._drop(connection, now_ns)

    def _time_out(self, connection: Connection, now_ns: int) -> None:
        """End a connection whose oldest request is too old; a late answer must not be taken for a later request's."""
        flights = list(connection.flights)
        for (count, slice), flight in zip(self._outstanding(connection), flights):
            if now_ns - flight[0] > self.plan.timeout_ns:
                slice.timeout += count
            else:
                self.recorder.failed(slice, "abandoned", "sent behind a request that timed out on the same connection", count)
        self._drop(connection, now_ns)

    # events

    def attend_all(self, wait_s: float) -> None:
        """Wait for events and handle them, off the hot path."""
        for fd, event in self.epoll.poll(wait_s, len(self.connections) + 1):
            self.attend(fd, event)

    def attend(self, fd: int, event: int) -> None:
        """Handle an event of any connection, off the hot path."""
        connection = self.by_fd.get(fd)
        if connection is None:
            return
        try:
            if connection.state == CONNECTING:
                connection.check()
                if event & select.EPOLLOUT:
                    self._greet(connection)
                return
            if connection.unsent is not None and event & select.EPOLLOUT:
                self.push(connection, connection.unsent)
                if connection.unsent is None and connection.state == READY:
                    self.joined(connection)
            if event & ~select.EPOLLOUT:
                data = connection.recv(self.driver.read_bytes)
                now = clock()
                if connection.state == GREETING and data:
                    if connection.protocol.welcome(data):
                        self._become_ready(connection)
                else:
                    self.take(connection, data, now)
        except BlockingIOError:
            return
        except OSError as error:
            self.lose(connection, class_of(error), error.strerror or str(error), clock())
        except ProtocolError as error:
            self.lose(connection, "protocol", str(error), clock())
        except RefusedError as error:
            self.lose(connection, error.error, error.text, clock())

    def take(self, connection: Connection, data: bytes, now_ns: int) -> None:
        """Handle what was read at a time from a ready connection; nothing read means that the server has closed it.

        Raises:
            ProtocolError: the bytes make no sense.
        """
        if data:
            self.complete(connection, connection.feed(data, now_ns), now_ns)
            return
        if connection.state == READY:
            outcomes = connection.protocol.end()
            self._record(connection, outcomes, now_ns)
            # That is how this protocol ends an answer: a new connection is no second attempt.
            connection.ended_well = bool(outcomes) and not connection.flights
        self.lose(connection, "eof", "the server closed the connection", now_ns)

    def _greet(self, connection: Connection) -> None:
        hello = connection.protocol.hello()
        connection.enter(GREETING, clock())
        if hello:
            self.push(connection, hello)
        else:
            self._become_ready(connection)

    def _become_ready(self, connection: Connection) -> None:
        connection.enter(READY, clock())
        connection.free_ns = connection.since_ns
        self._watch(connection)
        if self.running:
            self.joined(connection)

    def _watch(self, connection: Connection) -> None:
        """Wait for what the connection needs; only one that has nothing unsent takes the hot path."""
        blocked = connection.unsent is not None
        self.epoll.modify(connection.fileno, select.EPOLLIN | (select.EPOLLOUT if blocked else 0))
        if connection.state == READY and not blocked:
            self.ready[connection.fileno] = connection
        else:
            self.ready.pop(connection.fileno, None)

    def push(self, connection: Connection, data: "bytes | memoryview", sent: Optional[int] = None) -> None:
        """Send bytes, and keep what the socket does not take; `sent`: how many it has taken already.

        Raises:
            OSError: the connection is dead.
        """
        if sent is None:
            try:
                sent = connection.send(data)
            except BlockingIOError:
                sent = 0
        before = connection.unsent
        connection.unsent = memoryview(data)[sent:] if sent < len(data) else None
        if connection.unsent is not None or before is not None or connection.state == GREETING:
            self._watch(connection)

    def complete(self, connection: Connection, outcomes: Outcomes, now_ns: int) -> None:
        """Record the outcomes of the oldest requests of a connection.

        Raises:
            ProtocolError: there are more answers than requests.
        """
        self._record(connection, outcomes, now_ns)
        self.answered(connection, now_ns)

    def _record(self, connection: Connection, outcomes: Outcomes, now_ns: int) -> None:
        if outcomes is ALL:
            outcomes = (None,) * connection.outstanding()
        recorder, flights = self.recorder, connection.flights
        for outcome in outcomes:  # type: ignore[union-attr]
            if not flights:
                raise ProtocolError("an answer that was not asked for")
            sent_ns, due_ns, batch, slice = flights[0]
            tally = batch.singles[connection.answered]
            if outcome is None or not outcome.error:
                slice.send.values[tally].append(now_ns - sent_ns)
                if self.plan.rate_per_s:
                    slice.schedule.values[tally].append(now_ns - due_ns)
                    recorder.late_ok += sent_ns >= self.end_ns
            if outcome is not None:
                recorder.outcome(slice, outcome)
            connection.answered += 1
            if connection.answered == len(batch.operations):
                flights.popleft()
                connection.answered = 0
