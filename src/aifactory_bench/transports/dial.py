"""Connecting with asyncssh: the way to a login node as the user's configuration has it, and refusals as errors that help.

asyncssh makes connections to jump hosts with settings of its own, so each hop is connected here: host keys are verified, and a
person is asked, in the same way on all of them.
"""

import asyncio
import contextlib
import re
import shlex
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Optional

import asyncssh
from attrs import frozen

from ..errors import AccessError, NotExecutedError, TransportError
from ..sites.model import Login
from . import known_hosts

Answer = Callable[[str, bool], str]
"""Asks a person: the prompt, and whether the answer may be shown while it is typed."""

KEEPALIVE_S = 10
KEEPALIVE_MISSES = 2
"""A connection without life is given up after three intervals."""
_CONNECT_LIMIT_S = 60.0
_PERSON_LIMIT_S = 300.0
_MOST_HOPS = 8
_ATTEMPTS = 3
"""How often a person may answer a prompt wrongly."""


@frozen
class Hop:
    """One machine on the way, as the configuration resolves it."""

    name: str
    """As it was asked for: what `Host` in the configuration matches."""
    port: Optional[int]
    user: Optional[str]
    options: asyncssh.SSHClientConnectionOptions

    def command(self) -> str:
        """Return how a person would log in."""
        port = ["-p", str(self.port)] if self.port else []
        return shlex.join(["ssh", *port, f"{self.user}@{self.name}" if self.user else self.name])

    @property
    def label(self) -> str:
        """User and host, for messages."""
        return f"{self.user}@{self.name}" if self.user else self.name

    @property
    def pattern(self) -> str:
        """The name under which its host key is known."""
        if self.options.host_key_alias:
            return self.options.host_key_alias
        return known_hosts.pattern(self.options.host, self.options.port)

    def keys(self, own_file: Path) -> asyncssh.SSHKnownHosts:
        """Return every host key that the user, the system and we know.

        Raises:
            AccessError: A file of keys cannot be read.
        """
        configured = self.options.known_hosts
        users = configured if isinstance(configured, list) and configured else ["~/.ssh/known_hosts"]
        return known_hosts.load([*([] if configured is None else users), *known_hosts.SYSTEM_FILES, own_file])

    def known(self, own_file: Path) -> "list[asyncssh.SSHKey]":
        """Return the keys that this machine is known by."""
        port = self.options.port
        name = self.options.host_key_alias or self.options.host
        found = self.keys(own_file).match(name, "", None if port == known_hosts.DEFAULT_PORT else port)
        return list(found[0])


def _parse_jump(text: str) -> "Iterator[tuple[str, Optional[int], Optional[str]]]":
    """Yield host, port and user of each hop of `[user@]host[:port],...`."""
    for hop in text.split(","):
        user, _, place = hop.strip().removeprefix("ssh://").rpartition("@")
        found = re.fullmatch(r"\[(.+)\](?::(\d+))?|([^:]+)(?::(\d+))?|(.+)", place)
        if found is None:
            raise ValueError(f"a jump host without a name: {text!r}")
        port = found[2] or found[4]
        yield found[1] or found[3] or found[5], int(port) if port else None, user or None


async def way_to(login: Login) -> "list[Hop]":
    """Return the machines on the way to a login node, itself last.

    Raises:
        AccessError: The SSH configuration cannot be used.
    """
    return await _way(login.host, login.port, login.user, login.jump, 0)


async def _way(name: str, port: Optional[int], user: Optional[str], jump: Optional[str], depth: int) -> "list[Hop]":
    if depth > _MOST_HOPS:
        raise AccessError(f"{name}: ProxyJump of the SSH configuration goes round in circles", "correct ~/.ssh/config")
    try:
        # Files are read, and `Match exec` runs programs.
        options = await asyncio.to_thread(
            asyncssh.SSHClientConnectionOptions, config=(), host=name, port=port or (), username=user or ()
        )
        hop = Hop(name, port, user, options)
        through = jump or options.tunnel
        jumps = list(_parse_jump(through)) if isinstance(through, str) and through != "none" else []
    except (OSError, ValueError, asyncssh.Error) as error:
        raise _unusable(name, error) from None
    before: list[Hop] = []
    for jump_name, jump_port, jump_user in jumps:
        # Only the first one is reached as its own entry says; the others come from the one before, as with OpenSSH.
        way = await _way(jump_name, jump_port, jump_user, None if not before else "none", depth + 1)
        before += way
    return [*before, hop]


def _unusable(name: str, error: Exception) -> AccessError:
    return AccessError(
        f"{name}: the SSH configuration cannot be used: {error}",
        "correct ~/.ssh/config, or set `transport: openssh` for the site",
    )


class _Client(asyncssh.SSHClient):
    """Our side of one connection: it notes the host key that is not known, and asks a person what the site wants to know."""

    def __init__(self, label: str, answer: Optional[Answer]) -> None:
        self._label = label
        self._answer = answer
        self._left = _ATTEMPTS
        self.offered: Optional[asyncssh.SSHKey] = None
        self.wanted: set[str] = set()
        """What was asked for and nobody was there to answer."""

    def validate_host_public_key(self, _host: str, _addr: str, _port: int, key: asyncssh.SSHKey) -> bool:
        self.offered = key
        return False

    async def password_auth_requested(self) -> Optional[str]:
        if not self._may_ask("a password"):
            return None
        return (await self._ask([("Password: ", False)]))[0]

    def kbdint_auth_requested(self) -> Optional[str]:
        return "" if self._may_ask("a password or a second factor") else None

    async def kbdint_challenge_received(
        self, _name: str, instructions: str, _language: str, prompts: "Sequence[tuple[str, bool]]"
    ) -> "list[str]":
        told = f"{instructions.strip()}\n" if instructions.strip() else ""
        return await self._ask(
            [(told + prompt if number == 0 else prompt, echo) for number, (prompt, echo) in enumerate(prompts)]
        )

    def _may_ask(self, what: str) -> bool:
        if self._answer is None:
            self.wanted.add(what)
        self._left -= 1
        return self._answer is not None and self._left >= 0

    async def _ask(self, prompts: "Sequence[tuple[str, bool]]") -> "list[str]":
        assert self._answer is not None
        return [await _in_thread(self._answer, f"({self._label}) {prompt}", echo) for prompt, echo in prompts]


async def _in_thread(answer: Answer, prompt: str, echo: bool) -> str:
    """Ask a person; unlike `asyncio.to_thread`, a loop that ends meanwhile does not wait for the answer."""
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[str] = loop.create_future()

    def tell(result: "str | BaseException") -> None:
        if answered.done():
            return
        if isinstance(result, str):
            answered.set_result(result)
        else:
            answered.set_exception(result)

    def ask() -> None:
        result: str | BaseException
        try:
            result = answer(prompt, echo)
        except BaseException as error:  # noqa: BLE001  whatever the caller's function raises is the caller's to see
            result = error
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(tell, result)

    threading.Thread(target=ask, daemon=True).start()
    return await answered


class Dialler:
    """Connects to one login node.

    Args:
        login: Of the site.
        answer: Asks a person; None where there is nobody to ask.
        own_file: Our list of host keys.
        site: Its name, for the command that a message advises.
    """

    def __init__(self, login: Login, *, answer: Optional[Answer], own_file: Path, site: str) -> None:
        self._login = login
        self._answer = answer
        self.own_file = own_file
        self._site = site

    async def open(self) -> "list[asyncssh.SSHClientConnection]":
        """Connect over all hops; the last connection is that to the login node.

        Raises:
            NotExecutedError: A machine cannot be reached.
            AccessError: A person is needed.
        """
        connections: list[asyncssh.SSHClientConnection] = []
        try:
            for hop in await way_to(self._login):
                connections.append(await self.connect(hop, connections[-1] if connections else None))
        except BaseException:
            await hang_up(connections)
            raise
        return connections

    async def connect(self, hop: Hop, through: Optional[asyncssh.SSHClientConnection]) -> asyncssh.SSHClientConnection:
        """Connect to one machine; the errors are those of `open`."""
        client = _Client(hop.label, self._answer)
        limit_s = _CONNECT_LIMIT_S if self._answer is None else _PERSON_LIMIT_S
        keys = hop.keys(self.own_file)
        try:
            return await asyncssh.connect(
                hop.name,
                port=hop.port or (),
                username=hop.user or (),
                tunnel=through,
                known_hosts=keys,
                client_factory=lambda: client,
                agent_forwarding=False,
                x11_forwarding=False,
                keepalive_interval=KEEPALIVE_S,
                keepalive_count_max=KEEPALIVE_MISSES,
                connect_timeout=limit_s,
                login_timeout=limit_s,
            )
        except (OSError, ValueError, asyncssh.Error) as error:
            raise self._explained(error, hop, client) from None

    async def fetch(self, hop: Hop, through: Optional[asyncssh.SSHClientConnection]) -> asyncssh.SSHKey:
        """Return the host key that a machine shows, whether it is known or not; nobody logs in.

        Raises:
            NotExecutedError: It cannot be reached.
            AccessError: It shows none.
        """
        try:
            async with asyncio.timeout(_CONNECT_LIMIT_S):
                key = await asyncssh.get_server_host_key(hop.name, port=hop.port or (), tunnel=through, config=())
        except (OSError, ValueError, asyncssh.Error) as error:
            raise self._explained(error, hop, _Client(hop.label, None)) from None
        if key is None:
            raise AccessError(f"{hop.label}: it shows no host key")
        return key

    def _explained(self, error: Exception, hop: Hop, client: _Client) -> TransportError:
        place = f"{hop.label} ({hop.options.host} port {hop.options.port})"
        if isinstance(error, asyncssh.HostKeyNotVerifiable) and client.offered is not None:
            return self._host_key(hop, client.offered)
        if isinstance(error, asyncssh.HostKeyNotVerifiable) or "host key" in str(error):
            return AccessError(f"{place}: the host key is not to be trusted: {error}", self._advice())
        if isinstance(error, asyncssh.PermissionDenied) or "uthentication" in str(error):
            if client.wanted:
                return AccessError(
                    f"{place}: the site asks for {' and for '.join(sorted(client.wanted))}, and nobody is there to answer",
                    "run the command on a terminal, or open a shared connection with ssh and set `transport: openssh`",
                )
            return AccessError(
                f"{place}: the login was refused: {_reason(error)}",
                f"see that `{hop.command()}` works; a key with a passphrase must be in the agent (ssh-add)",
            )
        if isinstance(error, (ValueError, FileNotFoundError)):
            return _unusable(hop.label, error)
        if isinstance(error, TimeoutError):
            return NotExecutedError(f"{place}: no answer within the time for connecting", "see that the host can be reached")
        return NotExecutedError(f"{place}: cannot be reached: {_reason(error)}", "see that its name is right and that it is up")

    def _host_key(self, hop: Hop, key: asyncssh.SSHKey) -> AccessError:
        offered = f"{key.get_algorithm()} {key.get_fingerprint()}"
        known = hop.known(self.own_file)
        if known:
            return AccessError(
                f"{hop.label}: the host key has changed: {hop.pattern} now shows {offered}; known is "
                + ", ".join(old.get_fingerprint() for old in known),
                f"somebody may be in between; if the site says that the new key is its own: {self._command()}",
            )
        return AccessError(f"{hop.label}: the host key of {hop.pattern} is not known: it shows {offered}", self._advice())

    def _advice(self) -> str:
        return f"compare it with what the site publishes, then: {self._command()}"

    def _command(self) -> str:
        return f"aifactory-bench site trust {self._site}"


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(getattr(error, "reason", "") or error)


async def hang_up(connections: "list[asyncssh.SSHClientConnection]") -> None:
    """End connections, the last one first; who does not answer is not waited for."""
    for connection in reversed(connections):
        connection.close()
        try:
            async with asyncio.timeout(5):
                await connection.wait_closed()
        except TimeoutError:
            connection.abort()
            await connection.wait_closed()
