"""What a login is like: the shell, what it prints, how many commands may run at a time, forwarding, and the clock."""

import asyncio
import time
from typing import Optional

import asyncssh

from ..errors import TransportError
from ..site_setup.cluster import Cluster
from ..transports.base import Transport
from ..transports.connected import ConnectedTransport
from .findings import Report

_AT_ONCE = 4
_STAGGER_S = 0.05
"""Between their beginnings, far less than they take."""
_LIMIT_S = 15.0
_MARK = "afb-doctor-mark"
_POSIX = ("sh", "bash", "dash", "ksh", "zsh", "ash", "mksh")
_OTHERS = {"csh": "~/.cshrc", "tcsh": "~/.cshrc or ~/.tcshrc", "fish": "~/.config/fish"}
_FORBIDDEN = asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED
CLOCK_S = 60.0
"""Difference between a site's clock and ours that is told."""


def look_at_shell(cluster: Cluster, report: Report) -> None:
    """Look at what kind of login shell it is."""
    name = cluster.shell.rpartition("/")[2]
    if name in _POSIX or not name:
        report.ok("login shell", cluster.shell or "it runs what it is sent")
    else:
        report.warn(
            "login shell",
            f"the login shell is {cluster.shell}: it runs what it is sent, but jobs run in bash, where nothing holds that"
            f" {_OTHERS.get(name, 'its start-up files')} sets",
            "if `module` or a PATH is missing in jobs, set it in the profile: `setup: [source /etc/profile]`",
        )


async def look_at_sessions(transport: Transport, report: Report) -> None:
    """Run some commands at a time and see whether the site lets them."""
    if not isinstance(transport, ConnectedTransport):
        report.skip("sessions", "there is no connection: the controller runs on the login node")
        return
    try:
        await asyncio.gather(*(_hold(transport, number * _STAGGER_S) for number in range(_AT_ONCE)))
    except TransportError as error:
        report.fail("sessions", error.text, "the site refuses sessions of a connection: ask it for MaxSessions 10")
        return
    limit = transport.sessions.limit
    if limit < _AT_ONCE:
        report.warn(
            "sessions",
            f"the site takes {limit} command{'s' * (limit > 1)} at a time over a connection (MaxSessions), which is slower",
            "ask the site for MaxSessions 10; with `transport: openssh` one of them is taken by the connection itself",
        )
    else:
        report.ok("sessions", f"{_AT_ONCE} commands at a time")


async def _hold(transport: Transport, after_s: float) -> None:
    """Run a command that takes some time."""
    await asyncio.sleep(after_s)
    await transport.run("sleep 0.5 2>/dev/null || sleep 1", timeout_s=_LIMIT_S)


async def look_at_connection(connection: Optional[asyncssh.SSHClientConnection], port: int, report: Report) -> None:
    """Look at what the shell prints by itself, and whether ports may be forwarded."""
    if connection is None:
        for check in ("shell output", "forwarding"):
            report.skip(check, "a second connection needs a person")
        return
    await _look_at_output(connection, report)
    await _look_at_forwarding(connection, port, report)


async def _look_at_output(connection: asyncssh.SSHClientConnection, report: Report) -> None:
    try:
        async with asyncio.timeout(_LIMIT_S):
            done = await connection.run(f"echo {_MARK}", encoding="utf-8", errors="replace", stdin=asyncssh.DEVNULL)
    except (OSError, asyncssh.Error, TimeoutError) as error:
        report.skip("shell output", f"a plain command gave no answer: {error or 'too late'}")
        return
    before, _, after = str(done.stdout).partition(_MARK)
    noise = " ".join(f"{before} {after}".split())
    if noise:
        shown = "".join(letter if letter.isprintable() else " " for letter in noise)[:80]
        report.warn(
            "shell output",
            f"the login shell prints by itself, before or after every command: {shown!r}",
            "it does not harm us, but scp, rsync and sftp fail of it: print only where a person is there, in ~/.bashrc with"
            " `case $- in *i*) ;; *) return ;; esac` first; the site's own banner belongs into /etc/motd",
        )
    else:
        report.ok("shell output", "the login shell prints nothing by itself")


async def _look_at_forwarding(connection: asyncssh.SSHClientConnection, port: int, report: Report) -> None:
    try:
        async with asyncio.timeout(_LIMIT_S):
            _, writer = await connection.open_connection("127.0.0.1", port, encoding=None)
            writer.close()
    except asyncssh.ChannelOpenError as error:
        if error.code == _FORBIDDEN:
            report.warn(
                "forwarding",
                "the site forbids port forwarding (AllowTcpForwarding no): runs need none, `tunnel` and jumping through it do",
                "reach services from the site itself, or ask the site to allow it",
            )
            return
    except (OSError, asyncssh.Error, TimeoutError) as error:
        report.skip("forwarding", f"it could not be tried: {error or 'no answer'}")
        return
    report.ok("forwarding", "allowed")  # a port that nobody listens on is refused in other words


async def look_at_clock(transport: Transport, report: Report) -> None:
    """Compare the site's clock with ours; the way there and back is not counted against it."""
    before = time.time()
    try:
        done = await transport.run("date +%s", timeout_s=_LIMIT_S)
        theirs = float(done.stdout.decode("ascii").strip())
    except (TransportError, ValueError) as error:
        report.skip("clock", f"the login node does not tell the time: {error}")
        return
    after = time.time()
    off_s = theirs - after if theirs > after else theirs + 1 - before if theirs + 1 < before else 0.0
    if abs(off_s) > CLOCK_S:
        report.warn(
            "clock",
            f"the clocks are {abs(off_s):.0f} s apart: the login node's is {'ahead' if off_s > 0 else 'behind'}",
            "let the clock be set by the network (NTP) where it is wrong; times in reports are those of the site, and one-time"
            " codes and certificates fail with a wrong clock",
        )
    else:
        report.ok("clock", "login node and this machine agree within a minute")
