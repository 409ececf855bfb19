"""What the transports with a connection share: one connection, made when it is needed, and made again at a measured pace."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Optional, TypeVar

from ..errors import AccessError, NotExecutedError
from .base import Completed, Transport
from .framing import Reply, Request
from .sessions import SessionLimit
from .stream import ForbiddenError, Stream

T = TypeVar("T")

_SPACING_S = 1.0
_SPACING_MOST_S = 60.0
_REFUSALS = 14
_REFUSAL_WAIT_S = 0.02
_REFUSAL_WAIT_MOST_S = 2.0
_LOSSES = 2


class NoSessionError(Exception):
    """A command got no session: it was certainly not executed."""


class Line(ABC):
    """A connection that is up, or was."""

    @property
    @abstractmethod
    def lost(self) -> bool:
        """Whether it is known to be gone."""

    @abstractmethod
    async def exchange(self, reply: Reply) -> Optional[int]:
        """Send the request in a session of its own, fill the reply, and return the exit status, None where there was none.

        Raises:
            NoSessionError: The session was refused, or the connection lost before it was open.
        """

    async def connect(self, host: str, port: int) -> Stream:
        """Connect to a port as the site sees it.

        Raises:
            NoSessionError: The connection is gone.
            ForbiddenError: The site does not forward.
            UnreachableError: Nobody listens there.
        """
        raise ForbiddenError(f"cannot connect to {host}:{port}: this connection forwards nothing")

    async def check(self, host: str, port: int) -> None:
        """See whether `connect` would succeed."""
        await (await self.connect(host, port)).close()

    @abstractmethod
    async def close(self) -> None:
        """End it, waiting for nobody who does not answer."""


class _Pace:
    """When the next attempt at connecting may begin: 1, 2, 4 ... 60 s after the one before, 1 s if that one was of use."""

    def __init__(self, clock: Callable[[], float], sleep: Callable[[float], Awaitable[object]]) -> None:
        self._clock = clock
        self._sleep = sleep
        self._last_s: Optional[float] = None
        self._spacing_s = _SPACING_S

    async def turn(self) -> None:
        """Wait until an attempt may begin."""
        if self._last_s is not None:
            await self._sleep(max(0.0, self._last_s + self._spacing_s - self._clock()))
            self._spacing_s = min(2 * self._spacing_s, _SPACING_MOST_S)
        self._last_s = self._clock()

    def worked(self) -> None:
        """Note that a connection was of use: a command went over it."""
        self._spacing_s = _SPACING_S


class ConnectedTransport(Transport):
    """Runs programs over one connection at a time.

    Args:
        label: Whom it speaks to.
        clock: Seconds, never going back.
        sleep: Waits for so many seconds.
    """

    def __init__(
        self,
        label: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.label = label
        self.sessions = SessionLimit()
        self._sleep = sleep
        self._pace = _Pace(clock, sleep)
        self._line: Optional[Line] = None
        self._connecting: Optional[asyncio.Task[Line]] = None
        self._refusal: Optional[AccessError] = None
        """A person is needed; who asks again and again without one is locked out by the site."""
        self._closings = 0
        """How often it was closed: whoever began before that makes no new connection."""

    @abstractmethod
    async def _open(self) -> Line:
        """Connect.

        Raises:
            NotExecutedError: The site cannot be reached.
            AccessError: It lets nobody in without a person.
        """

    async def run(self, program: str, *arguments: str, stdin: bytes = b"", timeout_s: float = 60.0) -> Completed:
        refusals = losses = 0
        closings = self._closings
        while True:
            async with self.sessions.slot():
                if closings != self._closings:
                    raise NotExecutedError(f"{self.label}: the connection was closed")
                line = await self._connected()
                reply = Reply(Request.of(program, arguments, stdin, timeout_s))
                try:
                    exit_status = await line.exchange(reply)
                except NoSessionError as error:
                    why = str(error)
                else:
                    completed = reply.judge(self.label, exit_status)
                    self._pace.worked()
                    self.sessions.worked()
                    return completed
            if line.lost:
                losses += 1
            else:
                refusals += 1
                self.sessions.refused()
                await self._sleep(min(_REFUSAL_WAIT_S * 2 ** (refusals - 1), _REFUSAL_WAIT_MOST_S))
            if losses >= _LOSSES or refusals >= _REFUSALS:
                raise NotExecutedError(f"{self.label}: no session for a command: {why}")

    async def connect(self, host: str, port: int) -> Stream:
        return await self._over_line(lambda line: line.connect(host, port))

    async def check(self, host: str, port: int) -> None:
        await self._over_line(lambda line: line.check(host, port))

    async def _over_line(self, use: "Callable[[Line], Awaitable[T]]") -> T:
        """Use the connection, a second one where the first is found to be gone."""
        for last in (False, True):
            line = await self._connected()
            try:
                return await use(line)
            except NoSessionError as error:
                if last or not line.lost:
                    raise NotExecutedError(f"{self.label}: the connection was lost: {error}") from None
        raise AssertionError("unreachable")

    async def _connected(self) -> Line:
        """Return the connection; whoever comes while it is being made waits for the same attempt."""
        if self._refusal is not None:
            raise AccessError(self._refusal.text, self._refusal.hint)
        if self._line is not None and not self._line.lost:
            return self._line
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(lambda task: task.cancelled() or task.exception())  # nobody may be left to ask
        attempt = self._connecting
        await asyncio.wait({attempt})
        if attempt.cancelled():
            raise NotExecutedError(f"{self.label}: the connection was closed")
        return attempt.result()

    async def _connect(self) -> Line:
        try:
            if self._line is not None:
                await self._line.close()
                self._line = None
            await self._pace.turn()
            self._line = await self._open()
        except AccessError as error:
            self._refusal = error
            raise
        finally:
            self._connecting = None
        return self._line

    async def close(self) -> None:
        """End the connection; a later `run` makes a new one, also after an `AccessError`, which is repeated until then."""
        self._refusal = None
        self._closings += 1
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait({self._connecting})
        if self._line is not None:
            line, self._line = self._line, None
            await line.close()
