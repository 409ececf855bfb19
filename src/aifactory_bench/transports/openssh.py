"""Over the system's `ssh`: for configurations that asyncssh does not read, and for a shared connection of the user.

A master connection carries every command. It is the user's own, where the configuration names a `ControlPath` and one is
open there; else one of ours, whose socket lies in a private folder. It runs `cat` on the site with our end as its input, so
it goes when we go, however that comes about.

A command that gets no session from its master would make a connection of its own: another login, with everything that the
site asks for. Its `ProxyCommand` prevents that, and says with a mark that nothing was executed.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import IO, Optional

from attrs import frozen

from ..errors import AccessError, NotExecutedError, TransportError
from ..node.files import read_text
from ..sites.model import Login
from . import known_hosts as host_keys
from .connected import ConnectedTransport, Line, NoSessionError
from .dial import KEEPALIVE_MISSES, KEEPALIVE_S
from .framing import Reply
from .process import exchange
from .stream import ForbiddenError, ProcessStream, Stream, UnreachableError

_NO_SESSION = "aifactory-bench: no session"
_FAILED = 255
_CONNECT_LIMIT_S = 90.0
_FORWARD_S = 2.0
"""In which a connection that is refused has ended."""
_LOCAL_LIMIT_S = 20.0
"""For questions that `ssh` answers without the network."""
_KEY_TEXTS = ("host key verification failed", "remote host identification has changed", "host key is known for")
_ACCESS_TEXTS = ("permission denied", "too many authentication failures", "no more authentication methods")
_CONFIGURATION_TEXTS = ("bad configuration option", "terminating, ", "can't open user config file", "bad owner or permissions")


@frozen
class _Ssh:
    """The program, with what is the same in each call."""

    program: "tuple[str, ...]"
    options: "tuple[str, ...]"
    host: str

    def argv(self, *options: str, command: "tuple[str, ...]" = ()) -> "list[str]":
        return [*self.program, *options, *self.options, "--", self.host, *command]

    async def ask(self, *options: str) -> "tuple[int, str, str]":
        """Return exit status, output and errors of a call that stays on this machine."""
        process = await _start(self.argv(*options), stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE)
        try:
            async with asyncio.timeout(_LOCAL_LIMIT_S):
                stdout, stderr = await process.communicate()
        except TimeoutError:
            raise NotExecutedError(f"{self.host}: ssh {options[0]} does not answer") from None
        finally:
            await _end(process)
        return process.returncode or 0, stdout.decode("utf-8", "replace"), stderr.decode("utf-8", "replace")


async def _start(
    argv: Sequence[str], *, stdin: int, stdout: int, stderr: "int | IO[bytes]" = asyncio.subprocess.PIPE
) -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            *argv, stdin=stdin, stdout=stdout, stderr=stderr, env=_environment(), start_new_session=True
        )
    except OSError as error:
        raise AccessError(f"{argv[0]}: cannot be started: {error.strerror}", "install the OpenSSH client") from None


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with what it connects through
        await process.communicate()


def _environment() -> "dict[str, str]":
    """Return an environment in which nothing asks a person and `ProxyCommand` runs in a shell that is known."""
    return {**os.environ, "SSH_ASKPASS_REQUIRE": "never", "SHELL": "/bin/sh", "LC_ALL": "C"}


class OpenSshTransport(ConnectedTransport):
    """Runs programs on a login node with the system's `ssh`, which never asks a person anything.

    Args:
        login: Of the site.
        known_hosts: Our list of host keys beside the user's; default that of `site trust`.
        site: Name of the site, for messages.
        program: `ssh`, and options that stand before all others.
        sleep: Waits for so many seconds.
    """

    def __init__(
        self,
        login: Login,
        *,
        known_hosts: Optional[Path] = None,
        site: str = "NAME",
        program: Sequence[str] = ("ssh",),
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        super().__init__(f"{login.user}@{login.host}" if login.user else login.host, sleep=sleep)
        self._site = site
        own_file = known_hosts or host_keys.own_file()
        # Beside the files of the user's configuration, which stay what they are.
        key_files = " ".join(f'"{file}"' for file in (own_file, *host_keys.SYSTEM_FILES))
        settings = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "UpdateHostKeys": "no",
            "GlobalKnownHostsFile": key_files,
            "ServerAliveInterval": str(KEEPALIVE_S),
            "ServerAliveCountMax": str(KEEPALIVE_MISSES),
            "ConnectTimeout": "30",
            "ForwardAgent": "no",
            "ForwardX11": "no",
            "ClearAllForwardings": "yes",
            "RequestTTY": "no",
            "RemoteCommand": "none",
            "PermitLocalCommand": "no",
            "LogLevel": "ERROR",
        }
        options = [f"-o{name}={value}" for name, value in settings.items()]
        for name, value in (("Port", login.port), ("User", login.user), ("ProxyJump", login.jump)):
            options += [f"-o{name}={value}"] if value is not None else []
        self._ssh = _Ssh(tuple(program), tuple(options), login.host)

    async def _open(self) -> Line:
        code, configuration, said = await self._ssh.ask("-G")
        if code != 0:
            raise self._explained(said)
        path = next((line[12:] for line in configuration.splitlines() if line.startswith("controlpath ")), "none")
        if path != "none":
            code, _, _ = await self._ssh.ask("-S", path, "-O", "check")
            if code == 0:
                return _MasterLine(self._ssh, path)
        return await self._master()

    async def _master(self) -> Line:
        """Open a connection of our own."""
        folder = _MasterFolder(tempfile.mkdtemp(prefix="afb-ssh-"))  # 0700; short, for the path of a socket is
        argv = self._ssh.argv("-M", "-S", folder.socket, "-oControlPersist=no", command=("cat",))
        try:
            with open(folder.log, "wb") as log:  # noqa: ASYNC230  a file of ours; a pipe would have to be read all the time
                process = await _start(argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=log)
        except BaseException:
            folder.remove()
            raise
        line = _MasterLine(self._ssh, folder.socket, process, folder)
        try:
            async with asyncio.timeout(_CONNECT_LIMIT_S):
                while not folder.listening:  # it does once it is logged in
                    if process.returncode is not None:
                        raise self._explained(folder.said)
                    await asyncio.sleep(0.02)
        except TimeoutError:
            await line.close()
            raise NotExecutedError(f"{self.label}: no answer within the time for connecting") from None
        except BaseException:
            await line.close()
            raise
        return line

    def _explained(self, said: str) -> TransportError:
        """Return the error for what `ssh` said when it failed to connect."""
        lines = [line.strip() for line in said.splitlines() if line.strip(" @\t\r")]
        text, what = " ".join(said.lower().split()), "; ".join(lines[-4:]) or "ssh failed without a word"
        if any(sign in text for sign in _KEY_TEXTS):
            return AccessError(
                f"{self.label}: the host key is not known, or has changed: {what}",
                f"compare it with what the site publishes, then: aifactory-bench site trust {self._site}",
            )
        if any(sign in text for sign in _ACCESS_TEXTS):
            return AccessError(
                f"{self.label}: the login was refused: {what}",
                "where the site asks a person: set ControlMaster and ControlPath in ~/.ssh/config, and log in with ssh first",
            )
        if any(sign in text for sign in _CONFIGURATION_TEXTS):
            return AccessError(f"{self.label}: the SSH configuration cannot be used: {what}", "correct ~/.ssh/config")
        return NotExecutedError(f"{self.label}: cannot be reached: {what}", "see that its name is right and that it is up")


@frozen
class _MasterFolder:
    """Where a master connection of ours lies."""

    path: str

    @property
    def socket(self) -> str:
        return f"{self.path}/master"

    @property
    def log(self) -> str:
        return f"{self.path}/log"

    @property
    def listening(self) -> bool:
        return os.path.exists(self.socket)

    @property
    def said(self) -> str:
        return read_text(self.log) or ""

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


class _MasterLine(Line):
    """A master connection; process and folder are those of one of ours."""

    def __init__(
        self,
        ssh: _Ssh,
        path: str,
        process: "asyncio.subprocess.Process | None" = None,
        folder: Optional[_MasterFolder] = None,
    ) -> None:
        self._ssh = ssh
        self._path = path
        self._process = process
        self._folder = folder
        self._lost = False

    @property
    def lost(self) -> bool:
        return self._lost or (self._process is not None and self._process.returncode is not None)

    async def exchange(self, reply: Reply) -> Optional[int]:
        # The first of two ways that are given counts, so a ProxyJump of the configuration is none here.
        # The mark is out before ssh notices the end of this command, upon which it would be hung up.
        options = ("-S", self._path, "-oControlMaster=no", f"-oProxyCommand=sh -c 'echo {_NO_SESSION} >&2'")
        argv = self._ssh.argv(*options, command=(reply.request.command,))
        try:
            exit_status = await exchange(argv, reply, environment=_environment())
        except OSError as error:
            raise NoSessionError(f"ssh cannot be started: {error.strerror}") from None
        if exit_status != _FAILED or reply.begun:
            return exit_status
        if _NO_SESSION in reply.said:
            code, _, _ = await self._ssh.ask("-S", self._path, "-O", "check")
            self._lost = code != 0
            raise NoSessionError(reply.said.partition(_NO_SESSION)[0].strip() or "the shared connection is gone")
        return None  # the connection was lost: 255 is what ssh itself says

    async def _forward(self, host: str, port: int) -> asyncio.subprocess.Process:
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        proxy = f"-oProxyCommand=sh -c 'echo {_NO_SESSION} >&2'"
        argv = self._ssh.argv("-S", self._path, "-oControlMaster=no", proxy, "-W", target)
        pipe = asyncio.subprocess.PIPE
        return await _start(argv, stdin=pipe, stdout=pipe)

    async def connect(self, host: str, port: int) -> Stream:
        return ProcessStream(await self._forward(host, port))

    async def check(self, host: str, port: int) -> None:
        process = await self._forward(host, port)
        stderr = process.stderr
        assert stderr is not None
        said = b""
        try:
            async with asyncio.timeout(_FORWARD_S):  # it says nothing when it is through, and ends when it is not
                said = await stderr.read()
        except TimeoutError:
            return
        finally:
            await ProcessStream(process).close()
        text = said.decode("utf-8", "replace").strip()
        if _NO_SESSION in text:
            self._lost = True
            raise NoSessionError("the shared connection is gone")
        if "prohibited" in text:
            raise ForbiddenError(f"the SSH server of the login node forwards nothing to {host}:{port}: {text}")
        raise UnreachableError(
            f"{host}:{port} cannot be reached: nobody listens there, or the login node's SSH server forwards nothing: {text}"
        )

    async def close(self) -> None:
        if self._process is not None:
            await _end(self._process)
        if self._folder is not None:
            self._folder.remove()
