"""Getting to know host keys, and opening the transport of a site."""

import asyncio
from pathlib import Path

import asyncssh
import pytest

from aifactory_bench.errors import AccessError, NotExecutedError
from aifactory_bench.sites.model import Login
from aifactory_bench.testing.ssh_server import SshServer
from aifactory_bench.transports import known_hosts
from aifactory_bench.transports.local import LocalTransport
from aifactory_bench.transports.open import open_transport
from aifactory_bench.transports.openssh import OpenSshTransport
from aifactory_bench.transports.ssh import SshTransport
from aifactory_bench.transports.trust import HostKey, trust

LOGIN = Login("login")


def _own(home: Path) -> Path:
    return home / ".config" / "aifactory-bench" / "known_hosts"


def _admit(server: SshServer, home: Path, alias: str = "login") -> None:
    """Write the configuration, and forget the host key."""
    server.admit(home, alias)
    (home / ".ssh" / "known_hosts").unlink()


def test_a_key_is_shown_and_pinned(home: Path) -> None:
    """Then programs run; asked again there is nothing to agree to."""
    shown: list[HostKey] = []

    async def run() -> None:
        async with SshServer() as server:
            _admit(server, home)
            pinned = await trust(LOGIN, lambda key: shown.append(key) or True)
            name = f"[127.0.0.1]:{server.port}"
            assert pinned == tuple(shown) == (HostKey(name, "ssh-ed25519", server.host_key.get_fingerprint()),)
            assert shown[0].fingerprint.startswith("SHA256:")
            assert _own(home).stat().st_mode & 0o777 == 0o600
            assert server.counts.commands == 0
            transport = open_transport(LOGIN)
            assert (await transport.run("echo in")).stdout == b"in\n"
            await transport.close()
            assert await trust(LOGIN, lambda key: shown.append(key) or True) == ()
            assert len(shown) == 1

    asyncio.run(run())


def test_a_key_that_the_user_knows_is_not_asked_about(home: Path) -> None:
    async def run() -> None:
        async with SshServer() as server:
            server.admit(home)
            assert await trust(LOGIN, lambda _key: False) == ()
        assert not _own(home).exists()

    asyncio.run(run())


def test_no_is_no(home: Path) -> None:
    async def run() -> None:
        async with SshServer() as server:
            _admit(server, home)
            assert await trust(LOGIN, lambda _key: False) == ()
        assert not _own(home).exists()

    asyncio.run(run())


def test_a_key_that_has_changed_takes_the_place_of_the_one_before(home: Path, tmp_path: Path) -> None:
    """In the file that was given; other hosts keep theirs."""
    file = tmp_path / "ours"
    file.write_text("other.example ssh-ed25519 AAAA\n# a word\n")
    shown: list[HostKey] = []

    async def run() -> None:
        async with SshServer() as server:
            _admit(server, home)
            await trust(LOGIN, lambda _key: True, known_hosts=file)
            before = server.host_key.get_fingerprint()
            await server.change_host_key()
            await trust(LOGIN, lambda key: shown.append(key) or True, known_hosts=file)
            assert [key.before for key in shown] == [(before,)]
            assert shown[0].fingerprint == server.host_key.get_fingerprint() != before
            lines = file.read_text().splitlines()
            assert lines[:2] == ["other.example ssh-ed25519 AAAA", "# a word"]
            assert len(lines) == 3
            transport = open_transport(LOGIN, known_hosts=file)
            assert (await transport.run("echo in")).stdout == b"in\n"
            await transport.close()

    asyncio.run(run())


def test_behind_a_jump_host(home: Path) -> None:
    """Both are asked about, the jump host first, for it must be trusted before anybody logs in to it."""
    shown: list[str] = []

    async def run() -> None:
        async with SshServer() as gate, SshServer() as server:
            _admit(gate, home, "gate")
            _admit(server, home)
            names = [f"[127.0.0.1]:{one.port}" for one in (gate, server)]
            login = Login("login", jump="gate")
            assert len(await trust(login, lambda key: shown.append(key.name) or len(shown) == 1)) == 1
            assert shown == names
            assert len(await trust(login, lambda key: shown.append(key.name) or True)) == 1
            assert shown == [*names, names[1]]
            transport = open_transport(login)
            assert (await transport.run("echo in")).stdout == b"in\n"
            await transport.close()
            while gate.logins or server.logins:
                await asyncio.sleep(0.01)

    asyncio.run(run())


def test_an_alias_is_the_name(home: Path) -> None:
    """`HostKeyAlias`, for login nodes that share their keys."""

    async def run() -> None:
        async with SshServer() as server:
            _admit(server, home)
            config = home / ".ssh" / "config"
            config.write_text(config.read_text() + "  HostKeyAlias cluster\n")
            (pinned,) = await trust(LOGIN, lambda _key: True)
            assert pinned.name == "cluster"
            for login in (LOGIN, Login("login", transport="openssh")):
                transport = open_transport(login)
                if isinstance(transport, SshTransport):
                    assert (await transport.run("echo in")).stdout == b"in\n"
                await transport.close()

    asyncio.run(run())


def test_a_site_that_is_not_there(home: Path) -> None:
    async def run() -> None:
        with pytest.raises(NotExecutedError, match="cannot be reached"):
            await trust(Login("127.0.0.1", port=1), lambda _key: True)

    asyncio.run(run())


def test_a_site_that_speaks_something_else(home: Path) -> None:
    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.0 400 Bad Request\r\n\r\n" + b"x" * 5000)
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises((NotExecutedError, AccessError), match=f"127.0.0.1 port {port}"):
            await trust(Login("127.0.0.1", port=port), lambda _key: True)
        server.close()
        await server.wait_closed()

    asyncio.run(run())


def test_the_file_of_ours_follows_the_user_s_settings(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert known_hosts.own_file() == _own(home)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    assert known_hosts.own_file() == tmp_path / "settings" / "aifactory-bench" / "known_hosts"


def test_keys_of_all_files_count(tmp_path: Path) -> None:
    """Hashed names, certificate authorities and files that are not there included."""
    keys = [asyncssh.generate_private_key("ssh-ed25519").convert_to_public() for _ in range(3)]
    for number, key in enumerate(keys):
        known_hosts.pin(tmp_path / str(number), known_hosts.pattern("h", 2222), key)
    found = known_hosts.load([tmp_path / "0", tmp_path / "nosuch", str(tmp_path / "1"), tmp_path / "2"])
    assert list(found.match("h", "", 2222)[0]) == keys
    assert known_hosts.pattern("h", 22) == known_hosts.pattern("h", None) == "h"


@pytest.mark.parametrize(
    ("transport", "expected"), [("ssh", SshTransport), ("openssh", OpenSshTransport), ("local", LocalTransport)]
)
def test_a_login_says_which_transport(transport: str, expected: type) -> None:
    opened = open_transport(Login("login.example", user="alice", transport=transport))
    assert type(opened) is expected
    assert transport == "local" or opened.label == "alice@login.example"
