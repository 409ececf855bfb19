"""How many commands go over one connection at a time."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator

_START = 4
_MOST = 8
_CLEAN = 50


class SessionLimit:
    """A limit that finds itself: sites allow ten sessions by default, often less, and free one later than it ends for us.

    It is raised by one after 50 commands in a row without a refusal, up to 8, and halved by each refusal, down to 1.
    """

    def __init__(self) -> None:
        self.limit = _START
        self.in_use = 0
        self._clean = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @contextlib.asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold one session; who came first is served first."""
        if self.in_use < self.limit and not self._waiting:
            self.in_use += 1
        else:
            await self._wait()
        try:
            yield
        finally:
            self._release()

    async def _wait(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif not turn.cancelled():  # it had been given a session that it will not use
                self._release()
            raise

    def _release(self) -> None:
        self.in_use -= 1
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self.in_use < self.limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self.in_use += 1
                turn.set_result(None)

    def worked(self) -> None:
        """Count a command that got its session."""
        self._clean += 1
        if self._clean >= _CLEAN and self.limit < _MOST:
            self._clean = 0
            self.limit += 1
            self._serve()

    def refused(self) -> None:
        """Count a session that was refused."""
        self._clean = 0
        self.limit = max(1, self.limit // 2)
