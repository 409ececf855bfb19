"""An SSH server within this process that runs the commands it is sent for real, with faults to switch on.

A test of anything that goes over a `Transport` needs no second machine for it:

    async with SshServer(environment={"PATH": path}) as server:
        server.admit(home)  # where $HOME of the test leads
        transport = SshTransport("login")

As with OpenSSH a command goes on when its connection is lost. Whatever is left is ended with the server.
"""

# ruff: noqa: D102  most methods are declared, and documented, by asyncio and asyncssh

import asyncio
import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import asyncssh
from attrs import define, field

from ..node.files import make_private_folder, write_atomic
from .ssh_session import Child, Session

if TYPE_CHECKING:
    from typing import Self

_HOST = "127.0.0.1"
_CHUNK_BYTES = 1 << 16


@define
class Faults:
    """What goes wrong; may be changed at any time. Sessions and commands are counted from 1 since the server began."""

    noise_before: bytes = b""
    """Printed by the login shell before each command."""
    noise_after: bytes = b""
    refused_sessions: set[int] = field(factory=set)
    """Sessions that are not opened, by number; those refused count too."""
    drop_before: set[int] = field(factory=set)
    """Commands at whose arrival the connection is lost; they never run."""
    drop_during: set[int] = field(factory=set)
    """Commands at whose first output the connection is lost; they go on."""
    drop_after: set[int] = field(factory=set)
    """Commands that run to their end, and then the connection is lost; none of their output arrives."""
    cut_at_bytes: int | None = None
    """How much of each command's standard output arrives; the exit status arrives all the same."""
    no_exit_status: bool = False
    """Sessions end without saying how, as with some servers."""
    delay_s: float = 0.0
    """Time that bytes take, each way."""


@define
class Counts:
    """What the server has seen."""

    connections: int = 0
    sessions: int = 0
    """Asked for, the refused ones included."""
    refused: int = 0
    commands: int = 0
    """Arrived, those of `drop_before` included."""
    open: int = 0
    """Sessions open now, over all connections."""
    most_open: int = 0


class SshServer:
    """A login node on loopback, for as long as its context lasts.

    Args:
        shell: Login shell: it gets each command with `-c`.
        environment: Of the commands; this process's own by default.
        max_sessions: Sessions of one connection at a time, as OpenSSH's `MaxSessions`.
        password: Opens the account in place of the key.
        code: Asked for together with the password, keyboard-interactive: a second factor.
    """

    user = "alice"

    def __init__(
        self,
        *,
        shell: str = "/bin/sh",
        environment: Mapping[str, str] | None = None,
        max_sessions: int = 10,
        password: str | None = None,
        code: str | None = None,
    ) -> None:
        self.shell = shell
        self.environment = dict(os.environ if environment is None else environment)
        self.max_sessions = max_sessions
        self.password = password
        self.code = code
        self.faults = Faults()
        self.counts = Counts()
        self.host_key = asyncssh.generate_private_key("ssh-ed25519")
        self.client_key = asyncssh.generate_private_key("ssh-ed25519")
        """The key that opens the account."""
        self.port = 0
        self.logins: set[Login] = set()
        self.children: set[Child] = set()
        self._acceptor: asyncssh.SSHAcceptor | None = None
        self._wire = _Wire(self)

    async def __aenter__(self) -> "Self":
        await self._listen()
        self.port = await self._wire.listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.resume()
        await self._unlisten()
        await self._wire.close()
        for child in list(self.children):
            await child.end()

    async def _listen(self) -> None:
        self._acceptor = await asyncssh.listen(
            _HOST,
            0,
            server_host_keys=[self.host_key],
            server_factory=lambda: Login(self),
            encoding=None,
        )
        self._wire.inner_port = self._acceptor.get_port()

    async def _unlisten(self) -> None:
        assert self._acceptor is not None
        self._acceptor.close()
        await self._acceptor.wait_closed()
        for login in list(self.logins):
            login.connection.abort()
            await login.connection.wait_closed()

    async def change_host_key(self) -> None:
        """Become another machine to those who connect from now on; connections are lost."""
        await self._unlisten()
        self.host_key = asyncssh.generate_private_key("ssh-ed25519")
        await self._listen()

    def drop(self) -> None:
        """Lose every connection."""
        for login in list(self.logins):
            login.connection.abort()

    def freeze(self) -> None:
        """Let nothing in and nothing out, and close nothing: a cable that was pulled."""
        self._wire.running.clear()

    def resume(self) -> None:
        """End `freeze`; what was held up arrives."""
        self._wire.running.set()

    def admit(self, home: Path, alias: str = "login") -> Path:
        """Make `.ssh` of a home folder so that `alias` leads here, with the key that opens and the host key that we have.

        Returns:
            The configuration, for `ssh -F`: OpenSSH itself does not look at `$HOME`.
        """
        folder = make_private_folder(home / ".ssh")
        key, known, config = folder / f"id_{alias}", folder / "known_hosts", folder / "config"
        write_atomic(key, self.client_key.export_private_key())
        with open(known, "ab") as stream:
            stream.write(f"[{_HOST}]:{self.port} ".encode() + self.host_key.export_public_key())
        with open(config, "a", encoding="utf-8") as text:
            text.write(
                f"Host {alias}\n  HostName {_HOST}\n  Port {self.port}\n  User {self.user}\n"
                f"  IdentityFile {key}\n  IdentitiesOnly yes\n  UserKnownHostsFile {known}\n"
            )
        return config


class Login(asyncssh.SSHServer):
    """One connection: who may come in, and how many sessions there are."""

    connection: asyncssh.SSHServerConnection

    def __init__(self, server: SshServer) -> None:
        self._server = server
        self.sessions = 0

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self.connection = conn
        self._server.logins.add(self)
        self._server.counts.connections += 1

    def connection_lost(self, _error: Exception | None) -> None:
        self._server.logins.discard(self)

    def begin_auth(self, _username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return self._server.password is None and self._server.code is None

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return username == self._server.user and key == self._server.client_key.convert_to_public()

    def password_auth_supported(self) -> bool:
        return self._server.password is not None and self._server.code is None

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == (self._server.user, self._server.password)

    def kbdint_auth_supported(self) -> bool:
        return self._server.code is not None

    def _factors(self) -> "list[tuple[str, bool, str]]":
        """Return what is asked: the prompt, whether the answer may be shown, and the answer."""
        asked = [("Password: ", False, self._server.password), ("Verification code: ", True, self._server.code)]
        return [(prompt, echo, answer) for prompt, echo, answer in asked if answer is not None]

    def get_kbdint_challenge(
        self, _username: str, _language: str, _submethods: str
    ) -> tuple[str, str, str, list[tuple[str, bool]]]:
        return "", "", "", [(prompt, echo) for prompt, echo, _ in self._factors()]

    def validate_kbdint_response(self, username: str, responses: Sequence[str]) -> bool:
        return username == self._server.user and list(responses) == [answer for _, _, answer in self._factors()]

    def connection_requested(self, _host: str, _port: int, _from_host: str, _from_port: int) -> bool:
        return True  # it may be a jump host

    def session_requested(self) -> Session:
        counts = self._server.counts
        counts.sessions += 1
        if self.sessions >= self._server.max_sessions or counts.sessions in self._server.faults.refused_sessions:
            counts.refused += 1
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, "open failed")
        return Session(self._server, self)


class _Wire:
    """What lies between a client and the server: it can be slow, and it can stand still."""

    def __init__(self, server: SshServer) -> None:
        self._server = server
        self.inner_port = 0
        self.running = asyncio.Event()
        self.running.set()
        self._outer: asyncio.Server | None = None
        self._lines: set[asyncio.Task[None]] = set()

    async def listen(self) -> int:
        self._outer = await asyncio.start_server(self._accept, _HOST, 0)
        port: int = self._outer.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        assert self._outer is not None
        self._outer.close()
        for line in self._lines:
            line.cancel()
        await asyncio.gather(*self._lines, return_exceptions=True)
        await self._outer.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = asyncio.current_task()
        assert line is not None
        self._lines.add(line)
        inner = None
        try:
            inner_reader, inner = await asyncio.open_connection(_HOST, self.inner_port)
            ways = [asyncio.create_task(self._carry(reader, inner)), asyncio.create_task(self._carry(inner_reader, writer))]
            try:
                # Who closes, closes both: half-open is nothing that SSH knows.
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass  # the server ends; asyncio's own callback takes a cancelled handler for a fault
        finally:
            self._lines.discard(line)
            for end in (writer, inner):
                if end is not None:
                    end.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK_BYTES):
                await asyncio.sleep(self._server.faults.delay_s)
                await self.running.wait()
                writer.write(data)
                await writer.drain()
