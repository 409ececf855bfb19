"""The way to a login node, and what a person is asked on it."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from aifactory_bench.errors import AccessError, NotExecutedError
from aifactory_bench.sites.model import Login
from aifactory_bench.testing.ssh_server import SshServer
from aifactory_bench.transports.dial import _parse_jump, way_to
from aifactory_bench.transports.ssh import SshTransport


@pytest.mark.parametrize(
    ("text", "hops"),
    [
        ("gate", [("gate", None, None)]),
        ("alice@gate:2222", [("gate", 2222, "alice")]),
        ("a@one, two:33", [("one", None, "a"), ("two", 33, None)]),
        ("ssh://alice@gate:22", [("gate", 22, "alice")]),
        ("alice@site@gate", [("gate", None, "alice@site")]),
        ("[::1]:22", [("::1", 22, None)]),
        ("[::1]", [("::1", None, None)]),
        ("fe80::1", [("fe80::1", None, None)]),
    ],
)
def test_jump_hosts_as_they_are_written(text: str, hops: list[tuple[object, ...]]) -> None:
    assert list(_parse_jump(text)) == hops


@pytest.mark.parametrize("jump", ["", "alice@", "gate,"])
def test_jump_hosts_without_a_name(jump: str) -> None:
    with pytest.raises(ValueError, match="without a name"):
        list(_parse_jump(jump))


def test_the_way_is_that_of_the_configuration(home: Path) -> None:
    """Of the jump hosts only the first has a way of its own, as with OpenSSH; what the site says comes first."""
    (home / ".ssh").mkdir()
    (home / ".ssh" / "config").write_text(
        "Host login\n  HostName l.example\n  ProxyJump one,bob@two:33\n"
        "Host one\n  ProxyJump zero\n  HostKeyAlias first\nHost two\n  ProxyJump never\n"
    )

    def way(login: Login) -> list[str]:
        return [hop.pattern for hop in asyncio.run(way_to(login))]

    assert way(Login("login")) == ["zero", "first", "[two]:33", "l.example"]
    assert way(Login("login", port=44, jump="other")) == ["other", "[l.example]:44"]
    assert way(Login("login", jump="none")) == ["l.example"]


def test_over_jump_hosts(home: Path) -> None:
    """Each with its own key and host key; the way is that of the configuration, or of the site."""

    async def run() -> None:
        async with SshServer() as outer, SshServer() as gate, SshServer() as server:
            outer.admit(home, "outer")
            config = gate.admit(home, "gate")
            config.write_text(config.read_text().replace("Host gate\n", "Host gate\n  ProxyJump outer\n"))
            server.admit(home)
            transport = SshTransport(Login("login", jump="gate"))
            assert (await transport.run("echo in")).stdout == b"in\n"
            assert [one.counts.connections for one in (outer, gate, server)] == [1, 1, 1]
            gate.drop()  # noticed before anything is sent, so the command goes over new connections
            assert (await transport.run("echo in")).stdout == b"in\n"
            assert [one.counts.connections for one in (outer, gate, server)] == [2, 2, 2]
            assert [one.counts.commands for one in (outer, gate)] == [0, 0]
            await transport.close()
            while any(one.logins for one in (outer, gate, server)):  # none is left open
                await asyncio.sleep(0.01)
            config.write_text(config.read_text().replace("Host login\n", "Host login\n  ProxyJump outer,alice@gate\n"))
            transport = SshTransport(Login("login"))
            assert (await transport.run("echo in")).stdout == b"in\n"
            await transport.close()

    asyncio.run(run())


def test_jump_hosts_that_are_not_known(home: Path) -> None:
    async def run() -> None:
        async with SshServer() as gate, SshServer() as server:
            gate.admit(home, "gate")
            (home / ".ssh" / "known_hosts").unlink()
            server.admit(home)
            transport = SshTransport(Login("login", jump="gate"), site="here")
            with pytest.raises(AccessError, match=rf"gate: the host key of \[127.0.0.1\]:{gate.port} is not known"):
                await transport.run("true")
            assert server.counts.connections == 0
            await transport.close()

    asyncio.run(run())


@pytest.mark.parametrize("jump", ["dead", "[127.0.0.1]:1", "127.0.0.1:1", "ssh://alice@dead:22"])
def test_jump_hosts_that_are_not_there(jump: str, home: Path) -> None:
    async def run() -> None:
        async with SshServer() as server:
            config = server.admit(home)
            config.write_text(config.read_text() + "Host dead\n  HostName 127.0.0.1\n  Port 1\n")
            transport = SshTransport(Login("login", jump=jump))
            with pytest.raises(NotExecutedError, match=r"127.0.0.1 port (1|22)"):
                await transport.run("true")
            await transport.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("Host login\n  ProxyJump login\n", "goes round in circles"),
        ("Host login\n  IdentityFile ~/.ssh/nosuch\n", "nosuch"),
        ("Match sessiontype exec\n", "config line 1"),
        ("Host login\n  Port many\n", "config line 2"),
    ],
)
def test_a_configuration_that_cannot_be_used(lines: str, said: str, home: Path) -> None:
    """The file is named, and where it is one that OpenSSH could read, the other transport."""

    async def body() -> None:
        (home / ".ssh").mkdir()
        (home / ".ssh" / "config").write_text(lines)
        transport = SshTransport(Login("login"))
        with pytest.raises(AccessError, match=said) as raised:
            await transport.run("true")
        assert "openssh" in raised.value.hint or "circles" in said
        await transport.close()

    asyncio.run(body())


def test_a_proxy_command_is_used(home: Path) -> None:
    async def run() -> None:
        async with SshServer() as server:
            config = server.admit(home)
            relay = home / "relay.py"
            relay.write_text(
                "import os, socket, sys, threading\n"
                f"line = socket.create_connection(('127.0.0.1', {server.port}))\n"
                "def up():\n"
                "    while data := os.read(0, 65536): line.sendall(data)\n"
                "    line.shutdown(socket.SHUT_WR)\n"
                "threading.Thread(target=up, daemon=True).start()\n"
                "while data := line.recv(65536): os.write(1, data)\n"
            )
            text = config.read_text().replace(f"Port {server.port}", "Port 1")
            config.write_text(f"{text}  ProxyCommand {sys.executable} {relay}\n  HostKeyAlias [127.0.0.1]:{server.port}\n")
            transport = SshTransport(Login("login"))
            assert (await transport.run("echo in")).stdout == b"in\n"
            await transport.close()
            config.write_text(f"{text}  ProxyCommand nosuchprogram\n")
            with pytest.raises(AccessError, match="nosuchprogram"):
                await transport.run("true")
            await transport.close()

    asyncio.run(run())


def test_who_is_asked_need_not_answer_for_the_program_to_end(home: Path) -> None:
    """Ctrl-C at a prompt: the loop ends though the thread that asks does not."""
    script = home / "asks.py"
    script.write_text(
        "import asyncio, time\n"
        "from pathlib import Path\n"
        "from aifactory_bench.sites.model import Login\n"
        "from aifactory_bench.testing.ssh_server import SshServer\n"
        "from aifactory_bench.transports.ssh import SshTransport\n"
        "asked = []\n"
        "def answer(prompt, echo):\n"
        "    asked.append(prompt)\n"
        "    time.sleep(600)\n"
        "async def main():\n"
        "    async with SshServer(password='secret') as server:\n"
        "        server.admit(Path.home())\n"
        "        transport = SshTransport(Login('login'), answer=answer)\n"
        "        running = asyncio.create_task(transport.run('true'))\n"
        "        while not asked:\n"
        "            await asyncio.sleep(0.01)\n"
        "        running.cancel()\n"
        "        await transport.close()\n"
        "asyncio.run(main())\n"
        "print('over')\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "over\n"), done.stderr


def test_what_an_answer_raises_is_told(home: Path) -> None:
    def answer(_prompt: str, _echo: bool) -> str:
        raise EOFError("nobody")

    async def run() -> None:
        async with SshServer(password="secret") as server:
            server.admit(home)
            transport = SshTransport(Login("login"), answer=answer)
            with pytest.raises(EOFError, match="nobody"):
                await transport.run("true")
            await transport.close()

    asyncio.run(run())
