"""Open loop: requests are due when the schedule says so, whatever the server does."""

import select
from collections import deque
from typing import Deque, Sequence, Sized

from .connection import READY, Connection, class_of
from .driver import Driver, ProtocolError
from .loop import Loop, clock
from .plan import Plan
from .recorder import SECOND_NS
from .schedule import arrivals, offered_per_s

_BURST = 32
"""Requests sent in one turn before answers are read again, so that a backlog does not make stamps late."""
_EXACT_LEAVE_OUT = 1_000_000
_SETTLE_NS = 300_000
"""An answer is read only when nothing is due for so long."""
_NEVER_NS = 1 << 62


class OpenLoop(Loop):
    """One that is due goes out at once on a free connection; without one it waits, and that time is `gate`."""

    def __init__(self, plan: Plan, driver: Driver, flag: Sequence[int]) -> None:
        super().__init__(plan, driver, flag)
        self._arrivals = arrivals(plan.load, plan.seed, plan.part, plan.parts)
        self._due_ns = plan.warmup_ns + next(self._arrivals, _NEVER_NS)
        self._free: Deque[Connection] = deque()
        """Connections with a free place, the longest free first; dead ones are left out when they are met."""
        self._takes: Sized = self._free
        """Empty as long as what is due cannot be taken, so that nothing is to be done when it becomes due."""
        self._slice, self._boundary_ns = self.recorder.turn_to(self._due_ns)

    def run(self) -> None:
        """Send what is due, read what comes, sleep until one or the other."""
        epoll, ready, lag = self.epoll, self.ready, self.recorder.lag
        size, most, later = self.driver.read_bytes, len(self.connections) + 1, self.later
        for connection in list(ready.values()):
            self.joined(connection)
        while True:
            until_ns = self.next_care_ns
            if self._takes and self._due_ns < self.end_ns and not self.cut:
                until_ns = min(until_ns, self._due_ns)
            wait_ns = until_ns - clock()
            if wait_ns > 0 and not later:
                # epoll itself can only wait for whole milliseconds.
                select.select((epoll,), (), (), wait_ns / SECOND_NS)
            events = epoll.poll(0, most)
            turn_ns = clock()
            if later and not events and wait_ns > _SETTLE_NS:
                self.settle()
            for fd, event in events:
                connection = ready.get(fd)  # type: ignore[assignment]
                if connection is None:
                    self.attend(fd, event)
                    continue
                try:
                    data = connection.recv(size)
                    now_ns = clock()
                    if data:
                        outcomes = connection.feed(data, now_ns)
                        if outcomes:
                            self.complete(connection, outcomes, now_ns)
                        if self._due_ns <= now_ns:
                            self._send_due(1)
                    else:
                        self.take(connection, data, now_ns)
                except BlockingIOError:
                    continue
                except OSError as error:
                    self.lose(connection, class_of(error), error.strerror or str(error), clock())
                except ProtocolError as error:
                    self.lose(connection, "protocol", str(error), clock())
            self._send_due(_BURST)
            now_ns = clock()
            lag.append(now_ns - turn_ns)
            if now_ns >= self.next_care_ns and self.care(now_ns):
                return

    def _send_due(self, most: int) -> None:
        free, recorder, pipeline = self._free, self.recorder, self.driver.pipeline
        now_ns = clock()
        for _ in range(most):
            due_ns = self._due_ns
            if due_ns > now_ns or due_ns >= self.end_ns or not free or self.cut:
                return
            connection = free[0]
            if connection.state != READY or connection.unsent is not None:
                free.popleft().in_free = False
                continue
            if due_ns >= self._boundary_ns:
                self._slice, self._boundary_ns = recorder.turn_to(due_ns)
            payload, batch = connection.request(1)
            now_ns = clock()
            flights = connection.flights
            flights.append((now_ns, due_ns, batch, self._slice))
            try:
                self.push(connection, payload)
            except OSError as error:
                self.lose(connection, class_of(error), error.strerror or str(error), now_ns)
            free_ns = connection.free_ns
            if due_ns >= recorder.start_ns:
                waited_ns = max(0, free_ns - due_ns)
                recorder.gate.append(waited_ns)
                recorder.lateness.append(now_ns - due_ns - waited_ns)
            self.draw_next()
            if len(flights) >= pipeline:
                free.popleft().in_free = False
            else:
                free.rotate(-1)

    def draw_next(self) -> None:
        """Turn to the next request of the schedule."""
        self._due_ns = self.plan.warmup_ns + next(self._arrivals, _NEVER_NS)

    def joined(self, connection: Connection) -> None:
        """Put a connection with a free place among the free ones."""
        if not connection.in_free and len(connection.flights) < self.driver.pipeline and connection.unsent is None:
            connection.in_free = True
            self._free.append(connection)

    def answered(self, connection: Connection, now_ns: int) -> None:
        """Note since when the connection is free again."""
        if not connection.in_free:
            connection.free_ns = now_ns
            self.joined(connection)

    def unreachable(self, connection: Connection, error: str, text: str, now_ns: int) -> None:
        """Fail the request that waits longest, if one does: it was what the connection was for."""
        if self._due_ns <= now_ns and self._due_ns < self.end_ns:
            self.recorder.failed(self.recorder.slice_at(self._due_ns), error, text)
            self.draw_next()

    def backlog(self, now_ns: int) -> bool:
        """Return whether a request of the window is due and not sent."""
        return not self.cut and self._due_ns <= now_ns and self._due_ns < self.end_ns

    def leave_out(self) -> None:
        """Count what was due and never sent; beyond a million by the rate, as drawing them all would take minutes."""
        for _ in range(_EXACT_LEAVE_OUT):
            if self._due_ns >= self.end_ns:
                return
            self.recorder.slice_at(self._due_ns).skipped += 1
            self.draw_next()
        rate_per_ns = (offered_per_s(self.plan.load) or 0.0) / self.plan.parts / SECOND_NS
        while self._due_ns < self.end_ns:
            slice, boundary_ns = self.recorder.turn_to(self._due_ns)
            boundary_ns = min(boundary_ns, self.end_ns)
            slice.skipped += round((boundary_ns - self._due_ns) * rate_per_ns)
            self._due_ns = boundary_ns
