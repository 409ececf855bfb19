"""A connection to a port of a machine that the site reaches, over the connection to the site."""

import asyncio
import contextlib
import os
import signal
from abc import ABC, abstractmethod
from typing import Any

from ..errors import SiteError

PIECE_BYTES = 1 << 16
_END_S = 5.0


class ForbiddenError(SiteError):
    """The site's SSH server forwards nothing there."""


class UnreachableError(SiteError):
    """Nobody listens there, or the site does not reach it."""


class Stream(ABC):
    """Both ways of a connection; each may end on its own."""

    @abstractmethod
    async def read(self) -> bytes:
        """Return what has come; nothing when the other end will send no more.

        Raises:
            OSError: the connection is lost.
        """

    @abstractmethod
    async def write(self, data: bytes) -> None:
        """Send, and wait while too much is under way.

        Raises:
            OSError: the connection is lost.
        """

    @abstractmethod
    async def end(self) -> None:
        """Send no more; what comes may still be read."""

    @abstractmethod
    async def close(self) -> None:
        """Give it up, both ways."""


class PairStream(Stream):
    """A reader and a writer, of asyncio or of asyncssh."""

    def __init__(self, reader: Any, writer: Any) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes:
        return bytes(await self._reader.read(PIECE_BYTES))

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def end(self) -> None:
        with contextlib.suppress(OSError):
            self._writer.write_eof()

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_END_S):
                await self._writer.wait_closed()


class ProcessStream(Stream):
    """The standard input and output of a program."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def read(self) -> bytes:
        assert self._process.stdout is not None
        return await self._process.stdout.read(PIECE_BYTES)

    async def write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        await self._process.stdin.drain()

    async def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    async def close(self) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.communicate()
