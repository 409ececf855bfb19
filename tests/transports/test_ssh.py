"""Our own SSH connection, to a server within this process and with every fault that it has."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncssh
import pytest

from aifactory_bench.errors import AccessError, NotExecutedError, OutcomeUnknownError
from aifactory_bench.sites.model import Login
from aifactory_bench.testing.ssh_server import SshServer
from aifactory_bench.transports import dial
from aifactory_bench.transports.ssh import SshTransport


async def _no_wait(_duration_s: float) -> None:
    await asyncio.sleep(0)


def _check(
    home: Path,
    body: Callable[[SshServer, SshTransport], Awaitable[None]],
    *,
    answer: dial.Answer | None = None,
    **server: object,
) -> None:
    """Run a test's body with a server that `login` leads to."""

    async def run() -> None:
        async with SshServer(**server) as one:
            one.admit(home)
            transport = SshTransport(Login("login"), answer=answer, site="here", sleep=_no_wait)
            try:
                await body(one, transport)
            finally:
                await transport.close()

    asyncio.run(run())


def test_a_program_runs(home: Path) -> None:
    async def body(server: SshServer, transport: SshTransport) -> None:
        server.faults.noise_before, server.faults.noise_after = b"Welcome\n", b"Bye\n"
        done = await transport.run('printf "%s|" "$@"; cat; echo words >&2; exit 7', "a b", "it's $(x)\n", stdin=b"\0\xff")
        assert (done.exit_code, done.stdout, done.stderr) == (7, b"a b|it's $(x)\n|\0\xff", b"words\n")

    _check(home, body)


def test_much_goes_both_ways_at_once(home: Path) -> None:
    """More than any window or pipe holds."""
    data = os.urandom(8 << 20)

    async def body(_server: SshServer, transport: SshTransport) -> None:
        assert (await transport.run("cat", stdin=data)).stdout == data
        assert (await transport.run("exit 4", stdin=data)).exit_code == 4  # and where nobody reads

    _check(home, body)


def test_one_connection_and_never_too_many_sessions(home: Path) -> None:
    async def body(server: SshServer, transport: SshTransport) -> None:
        done = await asyncio.gather(*(transport.run('echo "$1"', str(number)) for number in range(120)))
        assert [int(one.stdout) for one in done] == list(range(120))
        counts = server.counts
        assert (counts.connections, counts.commands, counts.refused) == (1, 120, 0)
        assert counts.most_open <= 8

    _check(home, body)


def test_refused_sessions_lose_nothing(home: Path) -> None:
    """At a site that allows two at a time, and refuses some besides."""

    async def body(server: SshServer, transport: SshTransport) -> None:
        server.faults.refused_sessions = {1, 5, 9}
        done = await asyncio.gather(*(transport.run('echo "$1"', str(number)) for number in range(40)))
        assert [int(one.stdout) for one in done] == list(range(40))
        assert (server.counts.connections, server.counts.commands) == (1, 40)
        assert server.counts.refused >= 3

    _check(home, body, max_sessions=2)


def test_sessions_that_are_never_given(home: Path) -> None:
    async def body(server: SshServer, transport: SshTransport) -> None:
        with pytest.raises(NotExecutedError, match="open failed"):
            await transport.run("true")
        assert server.counts.commands == 0

    _check(home, body, max_sessions=0)


@pytest.mark.parametrize(("fault", "made"), [("drop_before", False), ("drop_during", True), ("drop_after", True)])
def test_nobody_knows_what_became_of_a_command_whose_connection_was_lost(
    fault: str, made: bool, home: Path, tmp_path: Path
) -> None:
    """It is said so whether the command had its effect or not; and the next one goes over a new connection."""

    async def body(server: SshServer, transport: SshTransport) -> None:
        setattr(server.faults, fault, {1})
        with pytest.raises((OutcomeUnknownError, NotExecutedError)) as raised:
            await transport.run(': > "$1"', str(tmp_path / "made"))
        if made:
            assert isinstance(raised.value, OutcomeUnknownError)
            while not (tmp_path / "made").exists():
                await asyncio.sleep(0.01)
        assert (tmp_path / "made").exists() == made
        assert (await transport.run("echo again")).stdout == b"again\n"
        assert server.counts.connections == 2

    _check(home, body)


@pytest.mark.parametrize("cut", [0, 5, 60])
def test_an_answer_without_its_end_is_none(cut: int, home: Path) -> None:
    """Even with exit status 0."""

    async def body(server: SshServer, transport: SshTransport) -> None:
        server.faults.cut_at_bytes = cut
        with pytest.raises(OutcomeUnknownError):
            await transport.run("echo " + "x" * 200)

    _check(home, body)


def test_an_end_without_exit_status_is_one(home: Path) -> None:
    """Some servers never tell it; the answer carries its own."""

    async def body(server: SshServer, transport: SshTransport) -> None:
        server.faults.no_exit_status = True
        assert (await transport.run("exit 5")).exit_code == 5

    _check(home, body)


def test_too_much_output_is_given_up_and_the_connection_goes_on(home: Path) -> None:
    async def body(server: SshServer, transport: SshTransport) -> None:
        with pytest.raises(OutcomeUnknownError, match="more than 64 MiB"):
            await transport.run("cat /dev/zero")
        assert (await transport.run("echo again")).stdout == b"again\n"
        assert server.counts.connections == 1

    _check(home, body)


def test_time_that_is_up(home: Path) -> None:
    async def body(_server: SshServer, transport: SshTransport) -> None:
        with pytest.raises(OutcomeUnknownError, match="limit of 1 s"):
            await transport.run("sleep 600", timeout_s=1)

    _check(home, body)


def test_a_frozen_site_is_noticed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the keepalive, which is asked every 10 s in earnest, and not by the patience with the command."""
    assert dial.KEEPALIVE_S * (dial.KEEPALIVE_MISSES + 1) <= 30
    monkeypatch.setattr(dial, "KEEPALIVE_S", 0.2)

    async def body(server: SshServer, transport: SshTransport) -> None:
        running = asyncio.create_task(transport.run("echo begins; sleep 600", timeout_s=600))
        while server.counts.commands == 0:
            await asyncio.sleep(0.01)
        server.freeze()
        with pytest.raises(OutcomeUnknownError):
            await running
        server.resume()
        assert (await transport.run("echo again")).stdout == b"again\n"

    _check(home, body)


@pytest.mark.parametrize("when", ["opening", "running"])
def test_who_is_cancelled_holds_no_session(when: str, home: Path) -> None:
    """Also one whose session was not open yet."""

    async def body(server: SshServer, transport: SshTransport) -> None:
        await transport.run("true")
        if when == "opening":
            server.freeze()
        tasks = [asyncio.create_task(transport.run("cat /dev/zero | head -c 1000; exec sleep 2")) for _ in range(4)]
        while server.counts.open < (4 if when == "running" else 0):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)  # so that they are on their way
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert all(task.cancelled() for task in tasks)
        server.resume()
        assert transport.sessions.in_use == 0
        while server.counts.open:
            await asyncio.sleep(0.01)
        done = await asyncio.gather(*(transport.run("echo again") for _ in range(8)))
        assert {one.stdout for one in done} == {b"again\n"}
        assert (server.counts.connections, server.counts.refused) == (1, 0)

    _check(home, body, max_sessions=4)


def test_close_ends_what_is_under_way_and_run_begins_anew(home: Path) -> None:
    async def body(server: SshServer, transport: SshTransport) -> None:
        running = asyncio.create_task(transport.run("echo begins; sleep 600"))
        while server.counts.commands == 0:
            await asyncio.sleep(0.01)
        await transport.close()
        with pytest.raises((OutcomeUnknownError, NotExecutedError)):  # it may have closed before the program was sent
            await running
        assert (await transport.run("echo again")).stdout == b"again\n"
        assert server.counts.commands == 2

    _check(home, body)


def test_a_host_key_that_is_not_known(home: Path) -> None:
    async def body(server: SshServer, transport: SshTransport) -> None:
        (home / ".ssh" / "known_hosts").unlink()  # absent files hold no keys, and are no fault
        for _ in range(2):
            with pytest.raises(AccessError) as raised:
                await transport.run("true")
            assert f"[127.0.0.1]:{server.port} is not known: it shows ssh-ed25519" in raised.value.text
            assert server.host_key.get_fingerprint() in raised.value.text
            assert raised.value.hint.endswith("aifactory-bench site trust here")
        assert (server.counts.connections, server.counts.commands) == (1, 0)

    _check(home, body)


def test_a_host_key_that_has_changed(home: Path) -> None:
    async def body(server: SshServer, transport: SshTransport) -> None:
        await transport.run("true")
        before = server.host_key.get_fingerprint()
        await server.change_host_key()
        with pytest.raises(AccessError, match="has changed") as raised:
            await transport.run("true")
        assert before in raised.value.text
        assert server.host_key.get_fingerprint() in raised.value.text
        assert "aifactory-bench site trust here" in raised.value.hint

    _check(home, body)


def test_a_revoked_host_key(home: Path) -> None:
    async def body(server: SshServer, transport: SshTransport) -> None:
        known = home / ".ssh" / "known_hosts"
        known.write_text(known.read_text() + f"@revoked * {server.host_key.export_public_key().decode()}")
        with pytest.raises(AccessError, match="revoked"):
            await transport.run("true")

    _check(home, body)


def test_known_hosts_that_are_no_list_of_keys(home: Path) -> None:
    async def body(_server: SshServer, transport: SshTransport) -> None:
        (home / ".ssh" / "known_hosts").write_text("what\n")
        with pytest.raises(AccessError, match=r"known_hosts: host keys cannot be read: Invalid known hosts entry"):
            await transport.run("true")

    _check(home, body)


def test_a_key_that_opens_nothing(home: Path) -> None:
    async def body(server: SshServer, transport: SshTransport) -> None:
        asyncssh.generate_private_key("ssh-ed25519").write_private_key(home / ".ssh" / "id_login")
        for _ in range(3):
            with pytest.raises(AccessError, match="login was refused"):
                await transport.run("true")
        assert server.counts.connections == 1

    _check(home, body)


def test_a_second_factor_is_asked_for(home: Path) -> None:
    asked = []

    def answer(prompt: str, echo: bool) -> str:
        asked.append((prompt, echo))
        return {"(login) Password: ": "secret", "(login) Verification code: ": "123"}[prompt]

    async def body(_server: SshServer, transport: SshTransport) -> None:
        assert (await transport.run("echo in")).stdout == b"in\n"
        assert (await transport.run("echo in")).stdout == b"in\n"
        assert asked == [("(login) Password: ", False), ("(login) Verification code: ", True)]

    _check(home, body, answer=answer, password="secret", code="123")


def test_a_password_is_asked_for(home: Path) -> None:
    async def body(_server: SshServer, transport: SshTransport) -> None:
        assert (await transport.run("echo in")).stdout == b"in\n"

    _check(home, body, answer=lambda prompt, _echo: "secret" if "assword" in prompt else "", password="secret")


@pytest.mark.parametrize("server", [{"password": "secret", "code": "123"}, {"password": "secret"}])
def test_without_a_person_nobody_is_asked(server: dict[str, str], home: Path) -> None:
    async def body(server: SshServer, transport: SshTransport) -> None:
        with pytest.raises(AccessError, match=r"the site asks for a password.*nobody is there to answer") as raised:
            await transport.run("true")
        assert "terminal" in raised.value.hint
        assert server.counts.connections == 1

    _check(home, body, **server)


def test_a_person_who_does_not_know_is_not_asked_for_ever(home: Path) -> None:
    asked = []

    async def body(_server: SshServer, transport: SshTransport) -> None:
        with pytest.raises(AccessError, match="refused"):
            await transport.run("true")
        assert 1 <= len(asked) <= 6

    _check(home, body, answer=lambda prompt, _echo: asked.append(prompt) or "wrong", password="secret", code="123")


def test_a_site_that_is_not_there(home: Path) -> None:
    """Nothing was executed, and what helps is said."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))  # without accepting: refused
        port = listening.getsockname()[1]

        async def body() -> None:
            transport = SshTransport(Login("127.0.0.1", port=port, user="alice"))
            with pytest.raises(
                NotExecutedError, match=rf"alice@127.0.0.1 \(127.0.0.1 port {port}\): cannot be reached: Connect"
            ):
                await transport.run("true")
            await transport.close()
            transport = SshTransport(Login("nosuch.invalid"))
            with pytest.raises(NotExecutedError, match=r"nosuch.invalid \(nosuch.invalid port 22\): cannot be reached"):
                await transport.run("true")
            await transport.close()

        asyncio.run(body())


def test_a_site_that_does_not_answer(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "_CONNECT_LIMIT_S", 0.5)

    async def body(server: SshServer, transport: SshTransport) -> None:
        server.freeze()
        with pytest.raises(NotExecutedError, match="no answer within the time for connecting"):
            await transport.run("true")

    _check(home, body)
