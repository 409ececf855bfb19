"""Open loop on servers that are no equals: each answers only what is its own, such as the keys of a shard.

What is due goes to the server that it is for, and waits there while that one is busy. With one queue for all, requests for a
server that stands still would stay away from it once its connections are taken, and what it does to them would not be seen.
"""

from collections import deque
from typing import Deque, List, Sequence

from .connection import READY, Connection, class_of
from .driver import Driver
from .loop import clock
from .open import OpenLoop
from .plan import Plan


class _Lane:
    """One server: who waits for it, and connections with a free place, the longest free first."""

    __slots__ = ("due_ns", "free")

    def __init__(self) -> None:
        self.due_ns: Deque[int] = deque()
        self.free: Deque[Connection] = deque()


class AimedLoop(OpenLoop):
    """The server of a request is drawn when it is due; it goes out on a free connection to that one, or waits for one."""

    def __init__(self, plan: Plan, driver: Driver, flag: Sequence[int]) -> None:
        super().__init__(plan, driver, flag)
        self._lanes: List[_Lane] = [_Lane() for _ in driver.addresses()]
        self._takes = (True,)  # what is due is taken from the schedule at once: others may wait behind it that need not

    def _send_due(self, most: int) -> None:
        now_ns, lanes, aim = clock(), self._lanes, self.driver.aim
        for _ in range(most):
            due_ns = self._due_ns
            if due_ns > now_ns or due_ns >= self.end_ns or self.cut:
                break
            lanes[aim()].due_ns.append(due_ns)
            self.draw_next()
        if self.cut:
            return
        for lane in lanes:
            while lane.due_ns and lane.free:
                connection = lane.free[0]
                if connection.state != READY or connection.unsent is not None:
                    lane.free.popleft().in_free = False
                    continue
                self._send(lane, connection)

    def _send(self, lane: _Lane, connection: Connection) -> None:
        due_ns, recorder = lane.due_ns.popleft(), self.recorder
        payload, batch = connection.request(1)
        now_ns = clock()
        connection.flights.append((now_ns, due_ns, batch, recorder.slice_at(due_ns)))
        free_ns = connection.free_ns
        try:
            self.push(connection, payload)
        except OSError as error:
            self.lose(connection, class_of(error), error.strerror or str(error), now_ns)
        if due_ns >= recorder.start_ns:
            waited_ns = max(0, free_ns - due_ns)
            recorder.gate.append(waited_ns)
            recorder.lateness.append(now_ns - due_ns - waited_ns)
        if lane.free and lane.free[0] is connection:  # it is not there any longer where it was lost
            if len(connection.flights) >= self.driver.pipeline:
                lane.free.popleft().in_free = False
            else:
                lane.free.rotate(-1)

    def joined(self, connection: Connection) -> None:
        """Put a connection with a free place among those of its server."""
        if not connection.in_free and len(connection.flights) < self.driver.pipeline and connection.unsent is None:
            connection.in_free = True
            self._lanes[connection.address.number].free.append(connection)

    def unreachable(self, connection: Connection, error: str, text: str, now_ns: int) -> None:
        """Fail the request that waits longest for that server, if one does."""
        lane = self._lanes[connection.address.number]
        if lane.due_ns:
            self.recorder.failed(self.recorder.slice_at(lane.due_ns.popleft()), error, text)

    def backlog(self, now_ns: int) -> bool:
        """Return whether a request of the window is due and not sent."""
        return not self.cut and (any(lane.due_ns for lane in self._lanes) or super().backlog(now_ns))

    def leave_out(self) -> None:
        """Count what was due and never sent."""
        for lane in self._lanes:
            for due_ns in lane.due_ns:
                if due_ns < self.end_ns:
                    self.recorder.slice_at(due_ns).skipped += 1
        super().leave_out()
