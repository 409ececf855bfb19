"""Closed loop: every connection sends its next batch as soon as the last one is answered."""

from collections import deque
from typing import Deque, List, Sequence

from .connection import CONNECTING, GREETING, READY, SECURING, Connection, class_of
from .driver import ALL, Driver, ProtocolError
from .loop import Loop, clock
from .plan import Plan
from .stalls import CARE_NS

_WAIT_S = CARE_NS / 1e9
_SENDS = 32
"""Off the fast path so many batches go out in one turn before answers are read again: their stamps must not wait for sends."""


class ClosedLoop(Loop):
    """Requests in flight: connections times pipeline. Load falls when the server slows down."""

    def __init__(self, plan: Plan, driver: Driver, flag: Sequence[int]) -> None:
        super().__init__(plan, driver, flag)
        self._waiting: "Deque[Connection]" = deque()
        """Ready for a batch that is not sent yet: those answered off the fast path, and at the begin all."""

    def run(self) -> None:
        """Keep every connection busy; the hot path stands in one piece, as each call would cost a hundredth of the rate."""
        epoll, ready, recorder, depth = self.epoll, self.ready, self.recorder, self.driver.pipeline
        size, most, lag = self.driver.read_bytes, len(self.connections) + 1, recorder.lag
        later, waiting = self.later, self._waiting
        slice, boundary_ns = recorder.turn_to(clock())
        boundary_ns = min(boundary_ns, self.end_ns)
        waiting.extend(ready.values())
        idle: "List[Connection]" = []
        while True:
            events = epoll.poll(0 if later or waiting else _WAIT_S, most)
            turn_ns = clock()
            if later and not events and not waiting:
                self.settle()
            for fd, event in events:
                connection = ready.get(fd)
                if connection is None:
                    self.attend(fd, event)
                    continue
                try:
                    data = connection.recv(size)
                    now_ns = clock()
                    if not data:
                        self.take(connection, data, now_ns)
                        continue
                    outcomes = connection.feed(data, now_ns)
                    if not outcomes:
                        continue
                    if outcomes is not ALL or connection.answered:
                        self.complete(connection, outcomes, now_ns)
                        continue
                    sent_ns, _, batch, of = connection.flights.popleft()
                    of.send.values[batch.tally].append(now_ns - sent_ns)
                    if now_ns >= boundary_ns:
                        if now_ns >= self.end_ns:
                            continue
                        slice, boundary_ns = recorder.turn_to(now_ns)
                        boundary_ns = min(boundary_ns, self.end_ns)
                    idle.append(connection)
                except BlockingIOError:
                    continue
                except OSError as error:
                    self.lose(connection, class_of(error), error.strerror or str(error), clock())
                except ProtocolError as error:
                    self.lose(connection, "protocol", str(error), clock())
            # Answers first, all of them, then the next batches: a stamp does not wait for sends, and the server gets work for a
            # whole turn of its own.
            for connection in idle:
                try:
                    payload, batch = connection.request(depth)
                    sent_ns = clock()
                    connection.flights.append((sent_ns, sent_ns, batch, slice))
                    sent = connection.send(payload)
                    if sent != len(payload):
                        self.push(connection, payload, sent)
                except OSError as error:
                    self.lose(connection, class_of(error), error.strerror or str(error), clock())
            idle.clear()
            if waiting:
                self._send_waiting()
            now_ns = clock()
            lag.append(now_ns - turn_ns)
            if now_ns >= self.next_care_ns:
                if self.care(now_ns):
                    return
                boundary_ns = min(boundary_ns, self.end_ns)  # a cut makes the window shorter

    def _send_waiting(self) -> None:
        for _ in range(min(len(self._waiting), _SENDS)):
            self._start(self._waiting.popleft())

    def _start(self, connection: Connection) -> None:
        try:
            self.joined(connection)
        except OSError as error:
            self.lose(connection, class_of(error), error.strerror or str(error), clock())

    def joined(self, connection: Connection) -> None:
        """Send the next batch, unless the last one is still under way or the window is over.

        Raises:
            OSError: the connection is dead.
        """
        now_ns = clock()
        if connection.state != READY or connection.flights or connection.unsent is not None or now_ns >= self.end_ns:
            return
        payload, batch = connection.request(self.driver.pipeline)
        sent_ns = clock()
        connection.flights.append((sent_ns, sent_ns, batch, self.recorder.slice_at(sent_ns)))
        self.push(connection, payload)

    def answered(self, connection: Connection, now_ns: int) -> None:
        """Go on with the next batch when all of the last one is answered and what has arrived meanwhile is read."""
        if not connection.flights:
            self._waiting.append(connection)

    def unreachable(self, connection: Connection, error: str, text: str, now_ns: int) -> None:
        """Count the request that the connection would have been for."""
        self.recorder.failed(self.recorder.slice_at(now_ns), error, text)

    def backlog(self, now_ns: int) -> bool:
        """Return False: nothing is ever due."""
        return False

    def unsettled(self, connection: Connection) -> bool:
        """Return True for a connection that is being made, too: an attempt that is merely young has not failed."""
        return super().unsettled(connection) or connection.state in {CONNECTING, SECURING, GREETING}
