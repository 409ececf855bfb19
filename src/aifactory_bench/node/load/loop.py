"""The event loop of one worker: connections, time limits, the phases of a measurement.

`ClosedLoop` and `OpenLoop` decide when requests are sent. Between themselves a bare epoll and non-blocking sockets were
the fastest of what the standard library has; see benchmarks/load_vs_redis_benchmark.py.
"""

import gc
import select
import time
from abc import ABC, abstractmethod
from collections import deque
from typing import Any, Deque, Dict, Optional, Sequence, Tuple

from . import chain
from .connection import CLOSED, CONNECTING, GREETING, READY, SECURING, Connection, class_of
from .driver import ALL, Driver, Later, Onward, Outcome, Outcomes, ProtocolError, RefusedError
from .plan import Edges, Plan
from .recorder import Recorder, Slice
from .stalls import CARE_NS, Stalls

_CUT_DRAIN_NS = 1_000_000_000
"""How long answers are waited for after the measurement was ended early."""
_CONNECT_NS = 5_000_000_000
_SILENT = "the connection was not answered in time"
_UNREAD_BYTES = 256 << 20
"""Answers that may wait for being read, a worker."""

clock = time.monotonic_ns


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
        self.is_open = plan.is_open
        self.connections = chain.places(driver, plan, self.recorder.age.append)
        self.later: "Deque[Tuple[Later, Slice, Any, int, int, int]]" = deque()
        """Answers to be read: with their slice, what they answer, when that was sent, due, and answered."""
        self._unread_bytes = 0
        self.by_fd: Dict[int, Connection] = {}
        self.ready: Dict[int, Connection] = {}
        """Those of `by_fd` that are past their greeting and have sent everything: the hot path."""
        self.connect_ns = min(plan.timeout_ns, _CONNECT_NS)
        """How long making a connection may take, its greeting included."""
        self.next_care_ns = 0
        self._flag = flag
        """The first item is 1 as soon as the measurement is to end."""
        self._edges = Edges()

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
    def unreachable(self, connection: Connection, error: str, text: str, now_ns: int) -> None:
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
        while self.later:
            self.settle()
        self.leave_out()
        return dict(
            self.recorder.report(),
            cut=self.cut,
            start_ns=self.plan.start_ns,
            end_ns=self.end_ns,
            done_ns=clock(),
            drained=self._edges.drained(self.recorder.counts()),
            cpu_share=self._edges.cpu_share(),
            stalled_s=self.stalls.total_ns / 1e9,
            stalled_max_s=self.stalls.longest_ns / 1e9,
            own=self.driver.results(self.end_ns),
        )

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
            self.recorder.age.restart()
        if len(self._edges.mono_ns) == 1 and now_ns >= self.end_ns:
            self._edges.read()
            self._edges.counts = self.recorder.counts()
            self.recorder.lag.fold()
            self.recorder.age.close()
        self.recorder.fold()
        for connection in self.connections:
            if connection.state == CLOSED:
                if now_ns >= connection.retry_ns and (now_ns < self.end_ns or connection.onward or self.backlog(now_ns)):
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
            connection.tell_lost("cut" if self.cut else "timeout", now_ns)
            for count, slice in connection.outstanding_by_slice():
                if self.cut:
                    self.recorder.failed(slice, "cut", "not answered when the measurement was ended early", count)
                else:
                    slice.timeout += count
            if connection.state in {CONNECTING, SECURING, GREETING} and not self.cut and connection.owner is None:
                self.unreachable(connection, "connect", f"{connection.address.text}: {_SILENT}", now_ns)
            connection.close(now_ns)
        self.epoll.close()

    # connections

    def _open(self, connection: Connection, now_ns: int) -> None:
        try:
            connection.open(now_ns)
        except OSError as error:
            known = class_of(error)
            known = known if known.startswith("client:") else "connect"
            self._fail(connection, known, f"{connection.address.text}: {error.strerror or error}", now_ns)
            return
        self.by_fd[connection.fileno] = connection
        self.epoll.register(connection.fileno, select.EPOLLIN | select.EPOLLOUT)

    def drop(self, connection: Connection, now_ns: int) -> None:
        """Close a connection, and begin to make it anew where that is to be at once."""
        if connection.sock is not None and self.by_fd.pop(connection.fileno, None) is not None:
            self.ready.pop(connection.fileno, None)
            self.epoll.unregister(connection.fileno)
        connection.close(now_ns)
        if connection.retry_ns <= now_ns < self.end_ns and self.running:
            self._open(connection, now_ns)

    def _fail(self, connection: Connection, error: str, text: str, now_ns: int) -> None:
        """Give up a connection that never became ready."""
        if chain.lose(self, connection, error, text, now_ns):
            return
        self.drop(connection, now_ns)
        if self.running and not self.cut and not connection.flights:
            self.unreachable(connection, error, text, now_ns)

    def lose(self, connection: Connection, error: str, text: str, now_ns: int) -> None:
        """Give up a connection; what was outstanding on it ends with this error."""
        if connection.state != READY:
            known = error if error.startswith(("reply:", "client:")) or error in {"protocol", "tls"} else "connect"
            self._fail(connection, known, f"{connection.address.text}: {text}", now_ns)
            return
        if chain.lose(self, connection, error, text, now_ns):
            return
        if not connection.goes_on():
            self.give_up(connection, error, text, now_ns)
        self.drop(connection, now_ns)

    def give_up(self, connection: Connection, error: str, text: str, now_ns: int) -> None:
        """Count what is outstanding on a connection as failed."""
        connection.tell_lost(error, now_ns)
        for count, slice in connection.outstanding_by_slice():
            self.recorder.failed(slice, error, text, count)

    def _time_out(self, connection: Connection, now_ns: int) -> None:
        """End a connection whose oldest request is too old; a late answer must not be taken for a later request's."""
        chain.give_up(self, connection, now_ns)
        connection.tell_lost("timeout", now_ns)
        flights = list(connection.flights)
        for (count, slice), flight in zip(connection.outstanding_by_slice(), flights):
            if now_ns - flight[0] > self.plan.timeout_ns:
                slice.timeout += count
            else:
                self.recorder.failed(slice, "abandoned", "sent behind a request that timed out on the same connection", count)
        self.drop(connection, now_ns)

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
                    if connection.secured:
                        connection.enter(SECURING, clock())
                        self._secure(connection)
                    else:
                        self._greet(connection)
                return
            if connection.state == SECURING:
                self._secure(connection)
                return
            if connection.unsent is not None and event & select.EPOLLOUT:
                self.push(connection, connection.unsent)
                if connection.unsent is None and connection.state == READY and connection.owner is None:
                    self.joined(connection)
            if event & ~select.EPOLLOUT:
                data = connection.recv(self.driver.read_bytes)
                now = clock()
                if connection.state == GREETING and data:
                    answer = connection.protocol.welcome(data)
                    if answer is True:
                        self._become_ready(connection)
                    elif answer:
                        self.push(connection, answer)
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
        if chain.take(self, connection, data, now_ns):
            return
        if data:
            self.complete(connection, connection.feed(data, now_ns), now_ns)
            return
        if connection.state == READY:
            outcomes = connection.protocol.end()
            self._record(connection, outcomes, now_ns)
            # That is how this protocol ends an answer: a new connection is no second attempt.
            connection.ended_well = bool(outcomes) and not connection.flights
        self.lose(connection, "eof", "the server closed the connection", now_ns)

    def _secure(self, connection: Connection) -> None:
        waits_for_writing = connection.shake_hands()
        if waits_for_writing is None:
            self._greet(connection)
        else:
            self.epoll.modify(connection.fileno, select.EPOLLOUT if waits_for_writing else select.EPOLLIN)

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
        if not chain.go_on(self, connection) and self.running:
            self.joined(connection)

    def _watch(self, connection: Connection) -> None:
        """Wait for what the connection needs; only one that has nothing unsent takes the hot path."""
        blocked = connection.unsent is not None
        self.epoll.modify(connection.fileno, select.EPOLLIN | (select.EPOLLOUT if blocked else 0))
        if connection.state == READY and not blocked and connection.owner is None:
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
        flights = connection.flights
        for outcome in outcomes:  # type: ignore[union-attr]
            if not flights:
                raise ProtocolError(self.recorder.unasked(now_ns))
            sent_ns, due_ns, batch, slice = flights[0]
            tally = batch.singles[connection.answered]
            if isinstance(outcome, Later):
                if isinstance(outcome, Onward):
                    chain.begin(self, connection, outcome)
                    return
                self.later.append((outcome, slice, tally, sent_ns, due_ns, now_ns))
                self._unread_bytes += outcome.size_bytes
                while self._unread_bytes > _UNREAD_BYTES:
                    self.settle()
            else:
                self._note(outcome, slice, tally, sent_ns, due_ns, now_ns)
            connection.answered += 1
            if connection.answered == len(batch.operations):
                flights.popleft()
                connection.answered = 0

    def settle(self) -> None:
        """Read the oldest answer that waits for it."""
        answer, slice, tally, sent_ns, due_ns, now_ns = self.later.popleft()
        self._unread_bytes -= answer.size_bytes
        outcome = answer.settle(sent_ns, due_ns)
        self._note(outcome, slice, tally, sent_ns, due_ns, now_ns)
        if self._edges.counts and now_ns < self.end_ns and slice is not self.recorder.warmup:
            # It had ended before the end of the window, and was not among what was counted there.
            self._edges.counts["error" if outcome is not None and outcome.error else "ok"] += 1

    def _note(self, outcome: "Optional[Outcome]", slice: Slice, tally: Any, sent_ns: int, due_ns: int, now_ns: int) -> None:
        if outcome is None or not outcome.error:
            ended_ns = now_ns if outcome is None else outcome.ended_ns or now_ns
            slice.send.values[tally].append(ended_ns - sent_ns)
            if self.is_open:
                slice.schedule.values[tally].append(ended_ns - due_ns)
                self.recorder.late_ok += sent_ns >= self.end_ns
        if outcome is not None:
            self.recorder.outcome(slice, outcome)
