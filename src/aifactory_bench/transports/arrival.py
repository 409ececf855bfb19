"""Waiting until a reply is whole, or will never be."""

import asyncio

from .framing import Reply

_AFTER_END_S = 2.0
"""Between the end of a program and that of its session: for standard error on its way, and not for what was left running."""


class Arrival:
    """Takes in what comes, and knows when it is enough."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ended = asyncio.Event()

    def stdout(self, data: bytes) -> None:
        """Take in standard output."""
        if not self._reply.feed_stdout(data):
            self.close()
        elif self._reply.ended(len(data)):
            self._ended.set()

    def stderr(self, data: bytes) -> None:
        """Take in standard error."""
        self._reply.feed_stderr(data)

    def close(self) -> None:
        """Note that nothing more will come."""
        self._ended.set()
        if not self._over.done():
            self._over.set_result(None)

    async def wait(self) -> None:
        """Return when nothing more will come, when it is too much, or when it has taken too long."""
        try:
            async with asyncio.timeout(self._reply.request.patience_s):
                await self._ended.wait()
            async with asyncio.timeout(_AFTER_END_S):
                await self._over
        except TimeoutError:
            pass
