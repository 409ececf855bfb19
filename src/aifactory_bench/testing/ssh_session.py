"""One command of the test kit's SSH server: its session, and its process."""

# ruff: noqa: D102  most methods are declared, and documented, by asyncio and asyncssh

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import asyncssh

if TYPE_CHECKING:
    from .ssh_server import Login, SshServer

_END_LIMIT_S = 10.0
_LOOK_AGAIN_S = 0.005


class Session(asyncssh.SSHServerSession[bytes]):
    """One command: what arrives goes to its process, what it prints goes back."""

    _channel: "asyncssh.SSHServerChannel[bytes]"

    def __init__(self, server: "SshServer", login: "Login") -> None:
        self._server = server
        self._login = login
        self._command = ""
        self._number = 0
        self._child: Child | None = None
        self._starting: asyncio.Task[None] | None = None
        self._early = bytearray()
        """Input from before the process is there."""
        self._ended = self._lost = False
        self._sent_bytes = 0

    def connection_made(self, chan: "asyncssh.SSHServerChannel[bytes]") -> None:
        self._channel = chan
        counts = self._server.counts
        self._login.sessions += 1
        counts.open += 1
        counts.most_open = max(counts.most_open, counts.open)

    def connection_lost(self, _error: Exception | None) -> None:
        self._lost = True
        self._login.sessions -= 1
        self._server.counts.open -= 1
        if self._child is not None:
            self._child.close_pipes()

    def exec_requested(self, command: str) -> bool:
        self._command = command
        return True

    def session_started(self) -> None:
        self._server.counts.commands += 1
        self._number = self._server.counts.commands
        if self._number in self._server.faults.drop_before:
            self._login.connection.abort()
        else:
            self._send(self._server.faults.noise_before)
            self._starting = asyncio.create_task(self._start())

    async def _start(self) -> None:
        child = Child(self._server, self)
        await child.start([self._server.shell, "-c", self._command], self._server.environment)
        child.feed(bytes(self._early), end=self._ended)
        self._child = child
        if self._lost:
            child.close_pipes()

    def data_received(self, data: bytes, _datatype: asyncssh.DataType) -> None:
        if self._child is None:
            self._early += data
        else:
            self._child.feed(data)

    def eof_received(self) -> bool:
        self._ended = True
        if self._child is not None:
            self._child.feed(b"", end=True)
        return True  # the way back stays open

    def pause_writing(self) -> None:
        if self._child is not None:
            self._child.hold(True)

    def resume_writing(self) -> None:
        if self._child is not None:
            self._child.hold(False)

    def printed(self, data: bytes, datatype: asyncssh.DataType) -> None:
        """Send what the process printed, as far as the faults let it through."""
        faults = self._server.faults
        if self._number in faults.drop_during:
            self._login.connection.abort()
        if self._lost or self._number in faults.drop_after:
            return
        if datatype is None and faults.cut_at_bytes is not None:
            data = data[: max(0, faults.cut_at_bytes - self._sent_bytes)]
            self._sent_bytes += len(data)
        self._send(data, datatype)

    def _send(self, data: bytes, datatype: asyncssh.DataType = None) -> None:
        if data and not self._channel.is_closing():
            self._channel.write(data, datatype)

    def ended(self, exit_code: int) -> None:
        """Tell how the process ended; exit_code: minus the number of the signal that killed it."""
        if self._number in self._server.faults.drop_after:
            self._login.connection.abort()
        if self._lost:
            return
        self._send(self._server.faults.noise_after)
        if self._server.faults.no_exit_status:
            self._channel.close()
        elif exit_code < 0:
            self._channel.exit_with_signal(signal.Signals(-exit_code).name.removeprefix("SIG"))
        else:
            self._channel.exit(exit_code)


class Child(asyncio.SubprocessProtocol):
    """The process of a session."""

    _transport: asyncio.SubprocessTransport

    def __init__(self, server: "SshServer", session: Session) -> None:
        self._server = server
        self._session = session
        self._gone = asyncio.Event()

    async def start(self, argv: list[str], environment: dict[str, str]) -> None:
        self._server.children.add(self)
        await asyncio.get_running_loop().subprocess_exec(lambda: self, *argv, env=environment, start_new_session=True)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._transport = transport

    def feed(self, data: bytes, *, end: bool = False) -> None:
        pipe = self._transport.get_pipe_transport(0)
        assert isinstance(pipe, asyncio.WriteTransport)
        if not pipe.is_closing():
            pipe.write(data)
            if end:
                pipe.write_eof()

    def hold(self, on: bool) -> None:
        """Stop or go on reading what it prints."""
        for fd in (1, 2):
            pipe = self._transport.get_pipe_transport(fd)
            assert isinstance(pipe, asyncio.ReadTransport)
            if not pipe.is_closing():
                pipe.pause_reading() if on else pipe.resume_reading()

    def close_pipes(self) -> None:
        for fd in (0, 1, 2):
            pipe = self._transport.get_pipe_transport(fd)
            if pipe is not None:
                pipe.close()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._session.printed(data, None if fd == 1 else asyncssh.EXTENDED_DATA_STDERR)

    def connection_lost(self, _error: Exception | None) -> None:
        """Process and outputs have ended."""
        exit_code = self._transport.get_returncode()
        assert exit_code is not None
        self._transport.close()
        self._server.children.discard(self)
        self._gone.set()
        self._session.ended(exit_code)

    async def end(self) -> None:
        """Kill the process with all of its session."""
        async with asyncio.timeout(_END_LIMIT_S):
            # More than one look: whoever forks during one has a child that it did not see.
            while members := _session_members(self._transport.get_pid()):
                for pid in members:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                await asyncio.sleep(_LOOK_AGAIN_S)
            self.close_pipes()
            await self._gone.wait()


def _session_members(leader: int) -> list[int]:
    """Return the processes of a session that still run; `timeout` and shells divide it into groups."""
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(") ")[2].split()
                if int(fields[3]) == leader and fields[0] not in "ZX":
                    members.append(int(entry.name))
    return members
