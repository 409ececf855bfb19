"""The real OpenSSH server, with its own limits and its own ways to end."""

import asyncio
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from aifactory_bench.errors import OutcomeUnknownError
from aifactory_bench.sites.model import Login
from aifactory_bench.transports import dial
from aifactory_bench.transports.base import Transport
from aifactory_bench.transports.connected import ConnectedTransport
from aifactory_bench.transports.openssh import OpenSshTransport
from aifactory_bench.transports.ssh import SshTransport


@pytest.fixture(params=["ssh", "openssh"])
def check(request: pytest.FixtureRequest, sshd, home: Path) -> Callable[..., None]:
    """Run a test's body with a transport of each kind."""
    config = sshd.admit(home)

    def run(body: Callable[[ConnectedTransport], Awaitable[None]]) -> None:
        async def whole() -> None:
            transport: ConnectedTransport
            if request.param == "ssh":
                transport = SshTransport(Login("login"))
            else:
                transport = OpenSshTransport(Login("login"), program=("ssh", "-F", str(config)))
            try:
                await body(transport)
            finally:
                await transport.close()

        asyncio.run(whole())

    return run


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


async def _begun(path: Path) -> int:
    """Wait until a program has written its process id."""
    while not _read(path).endswith("\n"):
        await asyncio.sleep(0.01)
    return int(_read(path))


def test_a_program_runs(check) -> None:
    data = os.urandom(4 << 20)

    async def body(transport: Transport) -> None:
        done = await transport.run('printf "%s|" "$@"; cat; echo words >&2; exit 7', "a b", "it's $(x)\n", stdin=data)
        assert (done.exit_code, done.stdout) == (7, b"a b|it's $(x)\n|" + data)
        assert done.stderr.endswith(b"words\n")

    check(body)


@pytest.fixture
def agent(sshd, need: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An agent that holds the key, and nobody else does."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # short, as a socket's path must be
        socket = Path(folder, "agent")
        process = subprocess.Popen([need("ssh-agent"), "-D", "-a", socket], stdout=subprocess.DEVNULL)
        while not socket.exists():
            time.sleep(0.01)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        subprocess.run(["ssh-add", "-q", sshd.folder / "user"], check=True, capture_output=True)
        (sshd.folder / "user").unlink()
        yield
        process.terminate()
        process.wait()


def test_the_agent_is_used_and_not_lent(sshd, agent: None, home: Path, check) -> None:
    """Whatever the configuration says."""
    config = home / ".ssh" / "config"
    kept = [line for line in config.read_text().splitlines() if "Identit" not in line]
    config.write_text("\n".join([*kept, "  ForwardAgent yes\n"]))

    async def body(transport: Transport) -> None:
        assert (await transport.run('echo "in, ${SSH_AUTH_SOCK:-alone}"')).stdout == b"in, alone\n"

    check(body)


def test_forty_at_once_lose_none(check, sshd) -> None:
    """Ten sessions are allowed at a time, and each is free again a little later than the client knows."""

    async def body(transport: ConnectedTransport) -> None:
        done = await asyncio.gather(*(transport.run('echo "$1"', str(number)) for number in range(40)))
        assert [int(one.stdout) for one in done] == list(range(40))
        assert transport.sessions.limit <= 8

    check(body)
    assert (sshd.folder / "log").read_text().count("Accepted publickey") == 1


def test_sessions_above_the_site_s_limit_are_refused_and_lose_none(check, sshd) -> None:
    """Where others use the connection too, or the site allows few."""

    async def body(transport: ConnectedTransport) -> None:
        transport.sessions.limit = 30
        done = await asyncio.gather(*(transport.run('sleep 0.1; echo "$1"', str(number)) for number in range(40)))
        assert [int(one.stdout) for one in done] == list(range(40))
        assert transport.sessions.limit < 30

    check(body)
    log = (sshd.folder / "log").read_text()
    assert "no more sessions" in log
    assert log.count("Accepted publickey") == 1


def test_a_session_that_is_killed(check, sshd, tmp_path: Path) -> None:
    """Its end looks like a result to asyncssh; the command goes on."""

    async def body(transport: Transport) -> None:
        running = asyncio.create_task(
            transport.run('trap "" PIPE; echo "$$" > "$1"; sleep 0.5; : > "$2"', str(tmp_path / "pid"), str(tmp_path / "made"))
        )
        await _begun(tmp_path / "pid")
        sshd.send(signal.SIGKILL)
        with pytest.raises(OutcomeUnknownError):
            await running
        while not (tmp_path / "made").exists():
            await asyncio.sleep(0.01)
        assert (await transport.run("echo again")).stdout == b"again\n"

    check(body)


def test_a_program_that_is_killed(check, tmp_path: Path) -> None:
    """The shell around it tells, unless that is killed too."""

    async def body(transport: Transport) -> None:
        running = asyncio.create_task(transport.run('exec sh -c \'echo "$$" > "$1"; sleep 60\' - "$1"', str(tmp_path / "one")))
        os.kill(await _begun(tmp_path / "one"), signal.SIGKILL)
        assert (await running).exit_code == 128 + signal.SIGKILL
        running = asyncio.create_task(transport.run('echo "$$" > "$1"; exec sleep 60', str(tmp_path / "two")))
        os.killpg(os.getpgid(await _begun(tmp_path / "two")), signal.SIGKILL)
        with pytest.raises(OutcomeUnknownError):
            await running

    check(body)


def test_a_stopped_server_is_noticed(check, sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "KEEPALIVE_S", 1)
    monkeypatch.setattr("aifactory_bench.transports.openssh.KEEPALIVE_S", 1)

    async def body(transport: Transport) -> None:
        if isinstance(transport, OpenSshTransport):
            transport = OpenSshTransport(Login("login"), program=transport._ssh.program)
        running = asyncio.create_task(transport.run('echo "$$" > "$1"; sleep 2', str(tmp_path / "pid"), timeout_s=600))
        await _begun(tmp_path / "pid")
        sshd.send(signal.SIGSTOP)
        try:
            with pytest.raises(OutcomeUnknownError):
                await running
        finally:
            sshd.send(signal.SIGCONT)
        await transport.close()

    check(body)


def test_what_is_cancelled_is_ended_by_the_site(check, tmp_path: Path) -> None:
    """No client can end it, so its time does."""

    async def body(transport: Transport) -> None:
        running = asyncio.create_task(transport.run('echo "$$" > "$1"; sleep 600', str(tmp_path / "pid"), timeout_s=2))
        pid = await _begun(tmp_path / "pid")
        running.cancel()
        await asyncio.wait({running})
        while _read(Path(f"/proc/{pid}/cmdline")):
            await asyncio.sleep(0.05)

    check(body)
