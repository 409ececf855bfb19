"""The way to the login node: name, port and host key of the first machine, and whether we are let in."""

import asyncio
import contextlib
import os
import re
import socket
from pathlib import Path
from typing import Optional

import asyncssh

from ..errors import AccessError, NotExecutedError, TransportError
from ..sites.model import Login, Site
from ..transports.base import Transport
from ..transports.dial import Dialler, Hop, hang_up, way_to
from .findings import Report

_LIMIT_S = 10.0
_AGENT_LIMIT_S = 5.0
_PROFILE = "`login` in the site's profile"


async def look_at_way(site: Site, login: Login, own_file: Path, report: Report) -> "tuple[Hop, ...]":
    """Look at the first machine on the way, without logging in; return all machines, none where there is no use going on."""
    try:
        hops = await way_to(login)
    except AccessError as error:
        missing = re.search(r"No such file or directory: '?([^']+)'?", error.text)
        if missing:
            report.fail(
                "key",
                f"the SSH configuration names a key that is not there: {missing[1]}",
                "correct `IdentityFile` in ~/.ssh/config, or put the key there (ssh-keygen makes a new one)",
            )
        else:
            report.fail("ssh configuration", error.text, error.hint)
        return ()
    first = hops[0]
    what = "login node" if len(hops) == 1 else f"jump host {first.name}"
    if first.options.proxy_command:
        report.skip("address", "the SSH configuration has a ProxyCommand, which finds its own way")
        return tuple(hops)
    if not await _resolves(first, what, report) or not await _listens(first, what, report):
        return ()
    return tuple(hops) if await _is_known(site, login, first, own_file, report) else ()


async def _resolves(hop: Hop, what: str, report: Report) -> bool:
    host = hop.options.host
    try:
        async with asyncio.timeout(_LIMIT_S):
            found = await asyncio.get_running_loop().getaddrinfo(host, hop.options.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError) as error:
        why = getattr(error, "strerror", None) or str(error) or "no answer"
        report.fail(
            "address",
            f"{what}: there is no host {host!r}: {why}",
            f"correct {_PROFILE}, or `HostName` in ~/.ssh/config; some names are known inside of a VPN only",
        )
        return False
    report.ok("address", f"{what}: {host} is {found[0][4][0]}")
    return True


async def _listens(hop: Hop, what: str, report: Report) -> bool:
    host, port = hop.options.host, hop.options.port
    try:
        async with asyncio.timeout(_LIMIT_S):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        report.fail(
            "port",
            f"{what}: {host} port {port} gives no answer within {_LIMIT_S:.0f} s",
            "a firewall is in between, or the host is down: try from the site's network or VPN, and see the site's status page",
        )
        return False
    except OSError as error:
        report.fail(
            "port",
            f"{what}: {host} port {port} cannot be reached: {os.strerror(error.errno) if error.errno else error}",
            f"correct `port` of {_PROFILE} (not every site uses 22), or see whether the host is up",
        )
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    report.ok("port", f"{what}: {host} listens on port {port}")
    return True


async def _is_known(site: Site, login: Login, hop: Hop, own_file: Path, report: Report) -> bool:
    if login.transport == "openssh":
        return True  # it has rules of its own, and says so itself
    try:
        key = await Dialler(login, answer=None, own_file=own_file, site=site.name).fetch(hop, None)
        known = hop.known(own_file)
    except TransportError as error:
        report.fail("host key", error.text, error.hint)
        return False
    shown = f"{key.get_algorithm()} {key.get_fingerprint()}"
    trust = f"aifactory-bench site trust {site.name}"
    if key in known:
        report.ok("host key", f"{hop.pattern} shows {shown}, which is known")
    elif known:
        report.fail(
            "host key",
            f"{hop.pattern} shows {shown}, and is known by another key: {known[0].get_fingerprint()}",
            f"somebody may be in between; only if the site says that the new key is its own: {trust}",
        )
    else:
        report.fail(
            "host key", f"{hop.pattern} shows {shown}, which is not known", f"compare it with the site's pages, then: {trust}"
        )
    return key in known


async def look_at_login(transport: Transport, hops: "tuple[Hop, ...]", report: Report) -> bool:
    """Log in and run nothing; tell why where that fails."""
    try:
        await transport.run(":", timeout_s=30.0)
    except AccessError as error:
        if "host key" in error.text:
            report.fail("host key", error.text, error.hint)
        elif "asks for a" in error.text:
            report.fail("login", error.text, error.hint)
        else:
            report.fail("login", *await _refusal(error, hops))
    except NotExecutedError as error:
        if "login shell" in error.text:
            report.fail("login shell", error.text, error.hint)
        elif "no session" in error.text:
            report.fail("sessions", error.text, "the site opens no session for commands (MaxSessions 0): ask it to")
        else:
            report.fail("login", error.text, error.hint or "see whether `ssh` gets there")
    except TransportError as error:
        report.fail(
            "login shell",
            f"{error.text}; the login was accepted, and the login shell gave no answer",
            "a start-up file such as ~/.bashrc leaves, hangs or starts another program: let it do so only where a person is"
            " there (`case $- in *i*) ;; *) return ;; esac` as its first line)",
        )
    else:
        report.ok("login", f"let in as {transport.label}")
        return True
    return False


async def _refusal(error: AccessError, hops: "tuple[Hop, ...]") -> "tuple[str, str]":
    """Return cause and fix of a login that was refused."""
    hop = next((hop for hop in hops if error.text.startswith(f"{hop.label} (")), hops[-1] if hops else None)
    if hop is None:
        return error.text, error.hint
    files = [pair for pair in hop.options.client_keys or () if pair is not None]
    held, agent = await _agent(hop.options.agent_path)
    who = f"{hop.label}: the login was refused: "
    if not files and not held:
        if agent == "none":
            fix = (
                "make a key (ssh-keygen -t ed25519) and give its public half to the site; one with a passphrase has to be in an"
                " agent: eval $(ssh-agent), then ssh-add"
            )
            return f"{who}there is no key: no agent is running, and no key file can be read without a passphrase", fix
        state = "holds no key" if agent == "there" else "does not answer"
        return (
            f"{who}there is no key: the agent {state}, and no key file can be read without a passphrase",
            "ssh-add ~/.ssh/YOUR_KEY"
            if agent == "there"
            else "start it again: eval $(ssh-agent), then ssh-add ~/.ssh/YOUR_KEY",
        )
    fix = (
        f"see that user and key are those the site knows (`{hop.command()}` has to work); a key can be new to the site for an"
        " hour, or its certificate be over"
    )
    count = len(files) + held
    return f"{who}permission denied; the site takes none of {count} key{'s' * (count > 1)}", fix


async def _agent(path: Optional[str]) -> "tuple[int, str]":
    """Return how many keys an agent holds, and whether it is `there`, `dead` or `none`."""
    if not path:
        return 0, "none"
    try:
        async with asyncio.timeout(_AGENT_LIMIT_S), asyncssh.SSHAgentClient(path) as agent:
            count = len(await agent.get_keys())
    except (OSError, ValueError, asyncssh.Error, TimeoutError):
        return 0, "dead"
    return count, "there"


class SecondConnection:
    """Another connection to the login node, to see what a program of ours would never see; none where a person is needed."""

    def __init__(self, site: Site, login: Login, own_file: Path) -> None:
        self._dialler = Dialler(login, answer=None, own_file=own_file, site=site.name)
        self._connections: "list[asyncssh.SSHClientConnection]" = []

    async def __aenter__(self) -> "asyncssh.SSHClientConnection | None":
        with contextlib.suppress(TransportError):
            self._connections = await self._dialler.open()
            return self._connections[-1]
        return None

    async def __aexit__(self, *_error: object) -> None:
        await hang_up(self._connections)
