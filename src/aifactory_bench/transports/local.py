"""For a controller that runs on the login node itself: the same programs, as processes of this machine."""

import asyncio
import socket

from ..errors import NotExecutedError
from .base import Completed, Transport
from .framing import Reply, Request
from .process import exchange
from .stream import PairStream, Stream, UnreachableError


class LocalTransport(Transport):
    """Runs programs on this machine; a `run` that is cancelled takes its processes with it."""

    def __init__(self) -> None:
        self.label = socket.gethostname()

    async def run(self, program: str, *arguments: str, stdin: bytes = b"", timeout_s: float = 60.0) -> Completed:
        reply = Reply(Request.of(program, arguments, stdin, timeout_s))
        try:
            # `exec`, so that `timeout` leads the group that a cancellation ends.
            exit_status = await exchange(["/bin/sh", "-c", f"exec {reply.request.command}"], reply)
        except OSError as error:
            raise NotExecutedError(f"{self.label}: no process could be started: {error.strerror or error}") from None
        return reply.judge(self.label, exit_status)

    async def connect(self, host: str, port: int) -> Stream:
        try:
            return PairStream(*await asyncio.open_connection(host, port))
        except OSError as error:
            raise UnreachableError(f"{host}:{port} cannot be reached: {error.strerror or error}") from None

    async def close(self) -> None:
        """Do nothing: there is no connection."""
