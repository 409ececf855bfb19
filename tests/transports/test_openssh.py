"""The system's `ssh`, to the server within this process."""

import asyncio
import os
import subprocess
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncssh
import pytest

from aifactory_bench.errors import AccessError, NotExecutedError, OutcomeUnknownError
from aifactory_bench.sites.model import Login
from aifactory_bench.testing.ssh_server import SshServer
from aifactory_bench.transports.openssh import OpenSshTransport


@pytest.fixture(autouse=True)
def ssh(need: Callable[[str], str]) -> str:
    return need("ssh")


async def _no_wait(_duration_s: float) -> None:
    await asyncio.sleep(0.01)


Body = Callable[[SshServer, OpenSshTransport], Awaitable[None]]


def _check(home: Path, body: Body, *, jump: str | None = None, **server: object) -> None:
    async def run() -> None:
        async with SshServer(**server) as one:
            config = one.admit(home)
            login = Login("login", jump=jump)
            transport = OpenSshTransport(login, program=("ssh", "-F", str(config)), site="here", sleep=_no_wait)
            try:
                await body(one, transport)
            finally:
                await transport.close()

    asyncio.run(run())


def _folders() -> set[str]:
    return {name for name in os.listdir(tempfile.gettempdir()) if name.startswith("afb-ssh-")}


@pytest.fixture(autouse=True)
def own_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short, as a socket's path must be, and nobody else's."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield


def test_a_program_runs(home: Path) -> None:
    async def body(server: SshServer, transport: OpenSshTransport) -> None:
        server.faults.noise_before, server.faults.noise_after = b"Welcome\n", b"Bye\n"
        done = await transport.run('printf "%s|" "$@"; cat; echo words >&2; exit 7', "a b", "it's $(x)\n", stdin=b"\0\xff")
        assert (done.exit_code, done.stdout, done.stderr) == (7, b"a b|it's $(x)\n|\0\xff", b"words\n")
        assert (await transport.run("exit 255")).exit_code == 255  # which is what ssh itself ends with in despair
        assert server.counts.connections == 1
        (folder,) = _folders()
        assert os.stat(os.path.join(tempfile.gettempdir(), folder)).st_mode & 0o77 == 0
        await transport.close()
        assert not _folders()
        assert (await transport.run("echo again")).stdout == b"again\n"

    _check(home, body)


def test_much_goes_both_ways_at_once(home: Path) -> None:
    data = os.urandom(8 << 20)

    async def body(_server: SshServer, transport: OpenSshTransport) -> None:
        assert (await transport.run("cat", stdin=data)).stdout == data

    _check(home, body)


def test_refused_sessions_lose_nothing_and_make_no_connection(home: Path) -> None:
    """By itself `ssh` would log in anew for each command that its master has no session for."""

    async def body(server: SshServer, transport: OpenSshTransport) -> None:
        done = await asyncio.gather(*(transport.run('echo "$1"', str(number)) for number in range(30)))
        assert [int(one.stdout) for one in done] == list(range(30))
        assert (server.counts.connections, server.counts.commands) == (1, 31)  # and one that keeps the connection
        assert server.counts.refused > 0

    _check(home, body, max_sessions=3)


@pytest.mark.parametrize("fault", ["drop_during", "drop_after"])
def test_nobody_knows_what_became_of_a_command_whose_connection_was_lost(fault: str, home: Path, tmp_path: Path) -> None:
    async def body(server: SshServer, transport: OpenSshTransport) -> None:
        setattr(server.faults, fault, {2})
        with pytest.raises(OutcomeUnknownError):
            await transport.run(': > "$1"', str(tmp_path / "made"))
        while not (tmp_path / "made").exists():
            await asyncio.sleep(0.01)
        while server.logins:
            await asyncio.sleep(0.01)
        await _settled(transport)
        assert (await transport.run("echo again")).stdout == b"again\n"
        assert server.counts.connections == 2

    _check(home, body)


async def _settled(transport: OpenSshTransport) -> None:
    """Wait until the transport has seen that its connection is gone."""
    while transport._line is not None and not transport._line.lost:
        await asyncio.sleep(0.01)


def test_a_site_that_has_gone_is_not_executed(home: Path) -> None:
    async def body(server: SshServer, transport: OpenSshTransport) -> None:
        await transport.run("true")
        server.drop()
        await _settled(transport)
        assert (await transport.run("echo again")).stdout == b"again\n"

    _check(home, body)


def test_who_is_cancelled_leaves_no_process(home: Path) -> None:
    """The guard of all tests looks for them; the connection stays."""

    async def body(server: SshServer, transport: OpenSshTransport) -> None:
        await transport.run("true")
        task = asyncio.create_task(transport.run("echo begins; exec sleep 2"))
        while server.counts.commands < 3:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        assert (await transport.run("echo again")).stdout == b"again\n"
        assert server.counts.connections == 1

    _check(home, body)


def test_the_connection_goes_with_its_owner(home: Path) -> None:
    """Also where that one is killed: what keeps the connection sees its input end."""

    async def body(server: SshServer, transport: OpenSshTransport) -> None:
        await transport.run("true")
        process = transport._line._process
        process.stdin.close()  # what the end of this process would do
        while server.logins:
            await asyncio.sleep(0.01)
        assert await process.wait() == 0

    _check(home, body)


def test_a_connection_of_the_user_is_used(home: Path, ssh: str) -> None:
    """One that a person has opened, with whatever the site asked for; it is left open."""

    async def body(server: SshServer, transport: OpenSshTransport) -> None:
        config = home / ".ssh" / "config"
        config.write_text(config.read_text() + f"  ControlPath {tempfile.gettempdir()}/mine-%r-%p\n")
        person = await asyncio.create_subprocess_exec(
            ssh, "-F", config, "-M", "-N", "login", stdin=asyncio.subprocess.DEVNULL, start_new_session=True
        )
        while not any(name.startswith("mine-") for name in os.listdir(tempfile.gettempdir())):
            await asyncio.sleep(0.01)
        for _ in range(2):
            assert (await transport.run("echo in")).stdout == b"in\n"
            await transport.close()
        assert (server.counts.connections, server.counts.commands) == (1, 2)
        assert not _folders()
        assert (await transport.run("echo in")).stdout == b"in\n"
        person.kill()  # its socket stays behind
        await person.wait()
        while server.logins:
            await asyncio.sleep(0.01)
        assert (await transport.run("echo in")).stdout == b"in\n"  # over one of our own
        assert server.counts.connections == 2

    _check(home, body)


def test_host_keys_are_verified(home: Path) -> None:
    """Not known, then changed; what is pinned in our own file counts."""

    async def body(server: SshServer, transport: OpenSshTransport) -> None:
        known = home / ".ssh" / "known_hosts"
        line = known.read_text()
        known.unlink()
        for _ in range(2):
            with pytest.raises(AccessError, match="host key is not known") as raised:
                await transport.run("true")
            assert raised.value.hint.endswith("aifactory-bench site trust here")
        assert server.counts.connections == 1
        own = home / ".config" / "aifactory-bench" / "known_hosts"
        own.parent.mkdir(parents=True)
        own.write_text(line)
        await transport.close()
        assert (await transport.run("echo in")).stdout == b"in\n"
        await server.change_host_key()
        await _settled(transport)
        with pytest.raises(AccessError, match="or has changed"):
            await transport.run("true")

    _check(home, body)


def test_a_login_that_is_refused(home: Path) -> None:
    async def body(server: SshServer, transport: OpenSshTransport) -> None:
        asyncssh.generate_private_key("ssh-ed25519").write_private_key(home / ".ssh" / "id_login")
        for _ in range(3):
            with pytest.raises(AccessError, match="login was refused") as raised:
                await transport.run("true")
            assert "ControlPath" in raised.value.hint
        assert server.counts.connections == 1
        assert not _folders()

    _check(home, body)


def test_nobody_is_asked(home: Path) -> None:
    """A site that wants a second factor refuses, and nothing waits for a terminal."""

    async def body(_server: SshServer, transport: OpenSshTransport) -> None:
        with pytest.raises(AccessError, match="login was refused"):
            await transport.run("true")

    _check(home, body, password="secret", code="123")


def test_over_a_jump_host(home: Path) -> None:
    async def run() -> None:
        async with SshServer() as gate:
            gate.admit(home, "gate")

            async def body(server: SshServer, transport: OpenSshTransport) -> None:
                assert (await transport.run("echo in")).stdout == b"in\n"
                assert (await transport.run("echo in")).stdout == b"in\n"
                assert [one.counts.connections for one in (gate, server)] == [1, 1]

            async with SshServer() as server:
                config = server.admit(home)
                transport = OpenSshTransport(Login("login", jump="gate"), program=("ssh", "-F", str(config)))
                await body(server, transport)
                await transport.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("lines", "login", "error", "said"),
    [
        ("", Login("127.0.0.1", port=1), NotExecutedError, "refused"),
        ("", Login("nosuch.invalid"), NotExecutedError, "resolve|not known"),
        ("Nonsense yes\n", Login("127.0.0.1"), AccessError, "configuration cannot be used"),
    ],
)
def test_what_keeps_ssh_from_connecting(lines: str, login: Login, error: type[Exception], said: str, home: Path) -> None:
    (home / "config").write_text(lines)

    async def run() -> None:
        transport = OpenSshTransport(login, program=("ssh", "-F", str(home / "config")))
        with pytest.raises(error, match=said):
            await transport.run("true")
        await transport.close()
        assert not _folders()

    asyncio.run(run())


def test_no_ssh(home: Path) -> None:
    async def run() -> None:
        transport = OpenSshTransport(Login("login"), program=("/nosuch/ssh",))
        with pytest.raises(AccessError, match="/nosuch/ssh: cannot be started"):
            await transport.run("true")

    asyncio.run(run())


def test_options_are_for_all_calls(home: Path) -> None:
    """What no configuration may change: read back from ssh itself."""
    (home / "config").write_text("Host *\n  StrictHostKeyChecking no\n  ForwardAgent yes\n  RequestTTY force\n  BatchMode no\n")
    transport = OpenSshTransport(
        Login("h", port=2222, user="alice", jump="gate"),
        known_hosts=Path("/a b/known"),
        program=("ssh", "-F", str(home / "config")),
    )
    said = subprocess.run(transport._ssh.argv("-G"), capture_output=True, text=True, check=True).stdout.splitlines()
    assert {
        "stricthostkeychecking true",
        "forwardagent no",
        "requesttty false",
        "batchmode yes",
        "port 2222",
        "user alice",
        "proxyjump gate",
        "serveraliveinterval 10",
        "serveralivecountmax 2",
        "globalknownhostsfile /a b/known /etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2",
    } <= set(said)
