"""The test kit's SSH server, as seen by asyncssh's own client: commands are real, and so are the faults."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncssh
import pytest

from aifactory_bench.testing.ssh_server import SshServer


@asynccontextmanager
async def _connected(server: SshServer, **options: object) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """Connect as a user with the right key who knows the host."""
    known = asyncssh.import_known_hosts(f"[127.0.0.1]:{server.port} {server.host_key.export_public_key().decode()}")
    options = {"username": server.user, "client_keys": [server.client_key], "known_hosts": known, **options}
    async with asyncssh.connect("127.0.0.1", server.port, config=None, **options) as connection:
        yield connection


def _serve(check: Callable[[SshServer], Awaitable[None]], **options: object) -> None:
    async def run() -> None:
        async with SshServer(**options) as server:
            await check(server)

    asyncio.run(run())


def test_commands_run_for_real_in_the_environment_given(tmp_path: Path) -> None:
    async def check(server: SshServer) -> None:
        async with _connected(server) as connection:
            done = await connection.run('cat; echo "$WHO" >&2; exit 3', input="a\0b")
            assert (done.stdout, done.stderr, done.exit_status) == ("a\0b", "me\n", 3)
            killed = await connection.run("kill -9 $$")
            assert (killed.exit_status, killed.exit_signal[0]) == (-1, "KILL")
        assert (server.counts.connections, server.counts.sessions, server.counts.commands) == (1, 2, 2)
        while server.counts.open:
            await asyncio.sleep(0.01)

    _serve(check, environment={"WHO": "me", "PATH": os.environ["PATH"]})


def test_output_is_held_back_while_nobody_reads(tmp_path: Path) -> None:
    """A program that prints without end does not fill the memory."""

    async def check(server: SshServer) -> None:
        async with (
            _connected(server) as connection,
            connection.create_process("exec cat /dev/zero", encoding=None, window=1 << 16) as process,
        ):
            assert len(await process.stdout.readexactly(1 << 20)) == 1 << 20
            process.close()

    _serve(check)


def test_sessions_are_limited_and_refused_by_number() -> None:
    async def check(server: SshServer) -> None:
        async with _connected(server) as connection:
            server.faults.refused_sessions = {2}
            async with connection.create_process("cat") as first:
                with pytest.raises(asyncssh.ChannelOpenError, match="open failed"):
                    await connection.run("true")
                assert (await connection.run("true")).exit_status == 0
                async with connection.create_process("cat") as second:
                    with pytest.raises(asyncssh.ChannelOpenError):
                        await connection.run("true")
                    second.stdin.write_eof()
                first.stdin.write_eof()
        assert (server.counts.refused, server.counts.most_open) == (2, 2)

    _serve(check, max_sessions=2)


@pytest.mark.parametrize(("fault", "made"), [("drop_before", False), ("drop_during", True), ("drop_after", True)])
def test_connections_are_lost_around_a_command(fault: str, made: bool, tmp_path: Path) -> None:
    """asyncssh takes the loss for a result without exit status; whether the command had its effect depends on the fault."""

    async def check(server: SshServer) -> None:
        setattr(server.faults, fault, {1})
        async with _connected(server) as connection:
            done = await connection.run(f"echo begins; sleep 0.1; : > {tmp_path}/made")
            assert (done.exit_status, done.stdout) == (None, "")
            await connection.wait_closed()
        while (tmp_path / "made").exists() != made:
            await asyncio.sleep(0.02)

    _serve(check)


def test_output_is_cut_and_exit_status_kept_back() -> None:
    async def check(server: SshServer) -> None:
        server.faults.cut_at_bytes = 3
        async with _connected(server) as connection:
            done = await connection.run("echo abcdef; echo err >&2")
            assert (done.stdout, done.stderr, done.exit_status) == ("abc", "err\n", 0)
            server.faults.cut_at_bytes = None
            server.faults.no_exit_status = True
            done = await connection.run("echo abcdef")
            assert (done.stdout, done.exit_status) == ("abcdef\n", None)

    _serve(check)


def test_noise_and_delay() -> None:
    async def check(server: SshServer) -> None:
        server.faults.noise_before, server.faults.noise_after, server.faults.delay_s = b"Welcome\n", b"Bye\n", 0.05
        async with _connected(server) as connection:
            began = asyncio.get_running_loop().time()
            assert (await connection.run("echo hi")).stdout == "Welcome\nhi\nBye\n"
            assert asyncio.get_running_loop().time() - began >= 0.2  # opening and asking are two round trips

    _serve(check)


def test_frozen_and_resumed() -> None:
    async def check(server: SshServer) -> None:
        async with _connected(server) as connection:
            server.freeze()
            waiting = asyncio.ensure_future(connection.run("echo hi"))
            done, _ = await asyncio.wait([waiting], timeout=0.5)
            assert not done
            assert server.counts.sessions == 0
            server.resume()
            assert (await waiting).stdout == "hi\n"

    _serve(check)


def test_frozen_is_noticed_by_keepalive() -> None:
    async def check(server: SshServer) -> None:
        async with _connected(server, keepalive_interval=0.1, keepalive_count_max=2) as connection:
            server.freeze()
            await connection.wait_closed()

    _serve(check)


def test_another_host_key() -> None:
    async def check(server: SshServer) -> None:
        before = server.host_key.convert_to_public()
        options = {"known_hosts": ([before], [], [])}
        async with _connected(server, **options) as connection:
            await server.change_host_key()
            await connection.wait_closed()
        with pytest.raises(asyncssh.HostKeyNotVerifiable):
            async with _connected(server, **options):
                pass
        async with _connected(server) as connection:
            assert (await connection.run("echo hi")).stdout == "hi\n"
            server.drop()
            await connection.wait_closed()
        assert server.counts.connections == 3

    _serve(check)


class _Person(asyncssh.SSHClient):
    asked: list[tuple[str, bool]] = []
    answers = ["secret", "123456"]

    def kbdint_auth_requested(self) -> str:
        return ""

    def kbdint_challenge_received(self, name: str, instructions: str, lang: str, prompts: list[tuple[str, bool]]) -> list[str]:
        self.asked.extend(prompts)
        return self.answers if prompts else []


def test_second_factor() -> None:
    async def check(server: SshServer) -> None:
        async with _connected(server, client_factory=_Person) as connection:
            assert (await connection.run("echo hi")).stdout == "hi\n"
        assert _Person.asked == [("Password: ", False), ("Verification code: ", True)]
        with pytest.raises(asyncssh.PermissionDenied):
            async with _connected(server):
                pass

    _serve(check, password="secret", code="123456")


def test_password() -> None:
    async def check(server: SshServer) -> None:
        async with _connected(server, password="secret") as connection:
            assert (await connection.run("echo hi")).stdout == "hi\n"
        for wrong in ({"password": "wrong"}, {"password": "secret", "username": "bob"}, {}):
            with pytest.raises(asyncssh.PermissionDenied):
                async with _connected(server, **wrong):
                    pass

    _serve(check, password="secret")


def test_other_keys_and_users_stay_out() -> None:
    async def check(server: SshServer) -> None:
        for wrong in ({"client_keys": [asyncssh.generate_private_key("ssh-ed25519")]}, {"username": "bob"}):
            with pytest.raises(asyncssh.PermissionDenied):
                async with _connected(server, **wrong):
                    pass

    _serve(check)


def test_it_is_a_jump_host_too(tmp_path: Path) -> None:
    async def check(server: SshServer) -> None:
        async with SshServer() as inner, _connected(server) as gate, _connected(inner, tunnel=gate) as connection:
            assert (await connection.run("echo hi")).stdout == "hi\n"
            assert (server.counts.commands, inner.counts.commands) == (0, 1)

    _serve(check)


def test_admit_writes_what_a_client_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"

    async def check(server: SshServer) -> None:
        config = server.admit(home)
        assert config.parent.stat().st_mode & 0o77 == 0
        async with asyncssh.connect("login", known_hosts=str(home / ".ssh" / "known_hosts")) as connection:
            assert (await connection.run("echo hi")).stdout == "hi\n"

    _serve(check)


def test_what_is_left_running_is_ended_with_the_server(tmp_path: Path) -> None:
    """Even in a process group of its own."""

    async def check(server: SshServer) -> None:
        server.faults.drop_during = {1}
        async with _connected(server) as connection:
            await connection.run(f"timeout 600 sh -c 'echo $$ > {tmp_path}/pid; echo begins; sleep 600'")
        pid = int((tmp_path / "pid").read_text())
        os.kill(pid, 0)  # it has survived the loss

    _serve(check)


def test_what_forks_while_the_server_ends_is_ended_too(tmp_path: Path) -> None:
    """Twenty processes that start a lasting child every 20 ms; that nothing outlives the test is looked at after each."""
    (tmp_path / "spawns.py").write_text(
        "import os, time\nfor _ in range(150):\n    time.sleep(0.02)\n    os.fork() or time.sleep(600)\n"
    )
    many = f"for _ in $(seq 20); do {sys.executable} {tmp_path}/spawns.py & done; echo begins; wait"

    async def check(server: SshServer) -> None:
        server.faults.drop_during = {1}
        async with _connected(server) as connection:
            await connection.run(many)
        await asyncio.sleep(0.3)

    _serve(check)
