"""Over a connection of our own, made with asyncssh."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Optional

import asyncssh

from ..sites.model import Login
from . import known_hosts as host_keys
from .arrival import Arrival
from .connected import ConnectedTransport, Line, NoSessionError
from .dial import Answer, Dialler, hang_up
from .framing import Reply
from .stream import ForbiddenError, PairStream, Stream, UnreachableError


class SshTransport(ConnectedTransport):
    """Runs programs on a login node over SSH.

    The user's `~/.ssh/config`, agent and known hosts are used; host keys are always verified.

    Args:
        login: Of the site.
        answer: Asks a person for a password or a second factor, called in a thread; None where there is nobody to ask.
        known_hosts: Our list of host keys beside the user's; default that of `site trust`.
        site: Name of the site, for messages.
        clock: Seconds, never going back.
        sleep: Waits for so many seconds.
    """

    def __init__(
        self,
        login: Login,
        *,
        answer: Optional[Answer] = None,
        known_hosts: Optional[Path] = None,
        site: str = "NAME",
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        super().__init__(f"{login.user}@{login.host}" if login.user else login.host, clock=clock, sleep=sleep)
        self._dialler = Dialler(login, answer=answer, own_file=known_hosts or host_keys.own_file(), site=site)

    async def _open(self) -> Line:
        return _SshLine(await self._dialler.open())


class _SshLine(Line):
    """A connection of asyncssh, with those to jump hosts that it goes through."""

    def __init__(self, connections: "list[asyncssh.SSHClientConnection]") -> None:
        self._connections = connections

    @property
    def lost(self) -> bool:
        return any(connection.is_closed() for connection in self._connections)

    async def exchange(self, reply: Reply) -> Optional[int]:
        arrival = Arrival(reply)
        session = _Session(arrival)
        opening = asyncio.create_task(
            self._connections[-1].create_session(
                lambda: session, reply.request.command, encoding=None, request_pty=False, x11_forwarding=False
            )
        )
        try:
            # Shielded: asyncssh forgets a channel that is cancelled before it is open, and the site holds it for ever.
            channel, _ = await asyncio.shield(opening)
            channel.write(reply.request.stdin)
            channel.write_eof()
        except asyncio.CancelledError:
            opening.add_done_callback(_abandon)
            raise
        except (asyncssh.Error, OSError) as error:
            # Nothing of the program was sent, so whatever the login shell was told, it ran nothing.
            raise NoSessionError(str(error)) from None
        try:
            await arrival.wait()
        finally:
            channel.abort()
        return session.exit_status

    async def connect(self, host: str, port: int) -> Stream:
        opening = asyncio.create_task(self._connections[-1].open_connection(host, port, encoding=None))
        try:
            reader, writer = await asyncio.shield(opening)  # as with sessions, one that is cancelled is forgotten
        except asyncio.CancelledError:
            opening.add_done_callback(_abandon_stream)
            raise
        except asyncssh.ChannelOpenError as error:
            if self.lost:
                raise NoSessionError(str(error)) from None
            if error.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED:
                raise ForbiddenError(
                    f"the SSH server of the login node forwards nothing to {host}:{port}: {error.reason}"
                ) from None
            raise UnreachableError(f"{host}:{port} cannot be reached from the login node: {error.reason}") from None
        except (asyncssh.Error, OSError) as error:
            raise NoSessionError(str(error)) from None
        return SshStream(reader, writer)

    async def close(self) -> None:
        await hang_up(self._connections)


class SshStream(PairStream):
    """A forwarded connection; what asyncssh raises of it becomes an error of the operating system."""

    async def read(self) -> bytes:
        try:
            return await super().read()
        except asyncssh.Error as error:
            raise ConnectionResetError(str(error)) from None

    async def write(self, data: bytes) -> None:
        try:
            await super().write(data)
        except asyncssh.Error as error:
            raise ConnectionResetError(str(error)) from None

    async def close(self) -> None:
        self._writer.channel.abort()
        with contextlib.suppress(asyncssh.Error):
            await super().close()


def _abandon_stream(opening: "asyncio.Task[tuple[Any, Any]]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result()[1].channel.abort()


def _abandon(opening: "asyncio.Task[tuple[asyncssh.SSHClientChannel[Any], asyncssh.SSHClientSession[Any]]]") -> None:
    """Close a channel that nobody waits for any more."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result()[0].abort()


class _Session(asyncssh.SSHClientSession[bytes]):
    """Hands on what arrives.

    Where the connection is lost, asyncssh raises nothing: the exit status is missing, and that is all.
    """

    def __init__(self, arrival: Arrival) -> None:
        self._arrival = arrival
        self.exit_status: Optional[int] = None

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        (self._arrival.stdout if datatype is None else self._arrival.stderr)(data)

    def exit_status_received(self, status: int) -> None:
        self.exit_status = status

    def exit_signal_received(self, signal_name: str, _core_dumped: bool, _text: str, _language: str) -> None:
        number = getattr(signal, f"SIG{signal_name}", None)
        self.exit_status = None if number is None else 128 + number

    def connection_lost(self, _error: Optional[Exception]) -> None:
        self._arrival.close()
