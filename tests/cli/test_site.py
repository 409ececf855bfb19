"""`site trust`, with a server whose key nobody knows; `site list`, `site show`, and what a plan takes of a site."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from aifactory_bench.cli import site as command
from aifactory_bench.cli.plan import command as plan_command
from aifactory_bench.cli.run import command as run_command
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


RULED = """\
schema: aifactory-bench/site/1
name: ruled
extends: lumi
runs: /scratch/runs
login: {user: alice}
slurm: {account: p200, partition: small-g}
images: {docker://redis:7.4: /images/redis.sif}
notes: {login: ask for a key first}
"""


@pytest.fixture
def ruled(tmp_path: Path) -> Path:
    """A profile of the user's that extends a shipped one."""
    path = tmp_path / "home" / ".config" / "aifactory-bench" / "sites" / "ruled.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(RULED)
    return path


def _site(*arguments: str) -> tuple[object, str]:
    result = CliRunner().invoke(command.command, [*arguments], standalone_mode=False)
    return result.exception or result.return_value, result.output


def test_sites_are_listed_with_where_they_come_from(ruled: Path) -> None:
    code, said = _site("list")
    assert code == 0
    lines = [line.split() for line in said.splitlines()]
    assert lines[0] == ["NAME", "SUBMITTER", "LOGIN", "FROM"]
    assert lines[1] == ["local", "local", "this", "machine", "built", "in"]
    assert lines[2] == ["ruled", "slurm", "alice@lumi.csc.fi", "user", "file"]
    assert ["meluxina", "slurm", "login.lxp.lu:8822", "shipped,", "lacks", "your", "part"] in lines


def test_a_broken_profile_hides_no_other(ruled: Path) -> None:
    """It is in the list, and what is wrong with it is told."""
    ruled.write_text(RULED.replace("runs: /scratch/runs", "runs: scratch"))
    code, said = _site("list")
    assert code == 2
    assert "user file, broken" in said
    assert "runs: must be an absolute path" in said
    assert "meluxina" in said


def test_a_profile_is_shown_with_sources_and_unknowns(ruled: Path) -> None:
    code, said = _site("show", "ruled")
    assert code == 0
    rows = {words[0]: words[1:] for line in said.splitlines() if (words := line.split())}
    sources = {words[0]: " ".join(words[1:]) for line in said.splitlines() if (words := line.split()) and words[0][0] == "["}
    assert rows["login.user"][0] == "alice"
    assert sources[rows["login.user"][1]] == str(ruled)
    assert sources[rows["rules.max_time.small-g"][1]].endswith("partitions.md at 6c3a26c, 2024-10-15")
    assert rows["rules.compute_internet"][2] == "no"
    assert "not known:\n  python\n" in said
    assert "  login: ask for a key first\n" in said
    assert "lacks your own part" not in said
    assert "lacks your own part: runs, login.user" in _site("show", "karolina")[1]


def test_a_profile_as_json(ruled: Path) -> None:
    code, said = _site("show", "ruled", "--json")
    assert code == 0
    shown = json.loads(said)
    assert (shown["name"], shown["from"], shown["file"]) == ("ruled", "user file", str(ruled))
    assert shown["parts"]["runs"] == {
        "value": "/scratch/runs",
        "text": "/scratch/runs",
        "source": str(ruled),
        "date": "",
        "verified": True,
    }


def test_a_plan_shows_what_it_takes(ruled: Path) -> None:
    """On a Slurm site, by its billing; on this machine there is nothing to pay."""
    recipe = str(Path(__file__).parents[2] / "recipes" / "quickstart.yaml")
    result = CliRunner().invoke(plan_command, [recipe, "--site", "ruled"], standalone_mode=False)
    assert result.return_value == 0, result.output
    assert "at the same time: 2 jobs, 2 nodes, 0 GPUs" in result.output
    assert "30m       3d small-g  0.50" in result.output
    assert "/images/redis.sif  compute  cache" in result.output
    assert "node-hours" not in CliRunner().invoke(plan_command, [recipe], standalone_mode=False).output


def test_a_cap_of_node_hours_refuses_before_anything_is_done(ruled: Path, tmp_path: Path) -> None:
    """No folder of a run is made, and nobody logs in."""
    recipe = str(Path(__file__).parents[2] / "recipes" / "quickstart.yaml")
    arguments = [recipe, "--site", "ruled", "--max-node-hours", "0.5", "--runs-dir", str(tmp_path / "mine")]
    result = CliRunner().invoke(run_command, arguments, standalone_mode=False)
    assert result.return_value == 2
    assert "node-hours on ruled, and at most 0.5 are allowed" in result.output
    assert not list((tmp_path / "mine").glob("*"))
