"""`site trust`, with a server whose key nobody knows."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from aifactory_bench.cli import site as command
from aifactory_bench.errors import UsageError
from aifactory_bench.testing.ssh_server import SshServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SshServer]:
    """A login node in a thread of its own, as the command has a loop of its own."""
    home, ready, done = tmp_path / "home", threading.Event(), threading.Event()
    servers = []

    async def serve() -> None:
        async with SshServer() as one:
            servers.append(one)
            one.admit(home)
            (home / ".ssh" / "known_hosts").unlink()
            ready.set()
            while not done.is_set():
                await asyncio.sleep(0.01)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(20)
    yield servers[0]
    done.set()
    thread.join()


@pytest.fixture
def site(tmp_path: Path) -> str:
    """The name of a site that has a login node."""
    folder = tmp_path / "home" / ".config" / "aifactory-bench" / "sites"
    folder.mkdir(parents=True)
    (folder / "here.yaml").write_text(PROFILE)
    return "here"


PROFILE = """\
schema: aifactory-bench/site/1
name: here
runs: /scratch/runs
login: {host: login}
"""


def _trust(*arguments: str, typed: str = "") -> tuple[object, str]:
    """Run the command within this process; return what it returns, or raises, and what it says."""
    result = CliRunner().invoke(command.command, ["trust", *arguments], input=typed, standalone_mode=False)
    return result.exception or result.return_value, result.output


def test_a_key_is_shown_and_trusted(server: SshServer, site: str, tmp_path: Path) -> None:
    """After a yes; then it is known."""
    fingerprint = server.host_key.get_fingerprint()
    code, said = _trust(site, typed="y\n")
    assert code == 0
    assert f"[127.0.0.1]:{server.port} shows ssh-ed25519 {fingerprint}" in said
    assert f"trusted: [127.0.0.1]:{server.port} ssh-ed25519 {fingerprint}" in said
    assert (tmp_path / "home" / ".config" / "aifactory-bench" / "known_hosts").exists()
    assert _trust(site) == (0, "login is known already\n")


def test_no_is_no(server: SshServer, site: str, tmp_path: Path) -> None:
    code, said = _trust(site, typed="n\n")
    assert code == 4
    assert f"not trusted: [127.0.0.1]:{server.port}" in said
    assert not (tmp_path / "home" / ".config" / "aifactory-bench" / "known_hosts").exists()


def test_nobody_there_is_no(server: SshServer, site: str) -> None:
    """Standard input that has ended: nothing is trusted."""
    code, _ = _trust(site)
    assert isinstance(code, click.Abort)


def test_yes_asks_nothing(server: SshServer, site: str) -> None:
    code, said = _trust(site, "--yes")
    assert code == 0
    assert "publishes?" not in said


def test_a_changed_key_is_warned_about(server: SshServer, site: str, tmp_path: Path) -> None:
    known = tmp_path / "home" / ".ssh" / "known_hosts"
    other = server.client_key
    known.write_text(f"[127.0.0.1]:{server.port} {other.export_public_key().decode()}")
    _, said = _trust(site, "--yes")
    assert f"warning: its key has changed; known is {other.get_fingerprint()}" in said


def test_a_site_without_login_node() -> None:
    error, _ = _trust("local")
    assert isinstance(error, UsageError)
    assert "no login node" in error.text


def test_a_site_that_there_is_not() -> None:
    error, _ = _trust("nosuch")
    assert isinstance(error, UsageError)
    assert str(error).startswith("there is no site 'nosuch'")
