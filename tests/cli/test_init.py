"""`init`: what is asked, what is written, and what is left alone."""

import asyncio
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from aifactory_bench.cli import init as command
from aifactory_bench.errors import NotExecutedError, SiteError, UsageError
from aifactory_bench.sites.load import load_site
from aifactory_bench.testing.fake_slurm import FakeSlurm, down
from aifactory_bench.testing.ssh_server import SshServer


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[FakeSlurm]:
    with FakeSlurm(tmp_path / "slurm", partitions={"cpu": 7200.0, "gpu": 3600.0}, real_clock=True) as one:
        yield one


@pytest.fixture
def server(tmp_path: Path, slurm: FakeSlurm) -> Iterator[SshServer]:
    """A login node in a thread of its own, whose key nobody knows."""
    home, ready, done = tmp_path / "home", threading.Event(), threading.Event()
    mark = os.environ["AIFACTORY_BENCH_TEST"]
    environment = {"PATH": f"{slurm.bin}:/usr/bin:/bin", "HOME": str(home), "AIFACTORY_BENCH_TEST": mark}
    servers = []

    async def serve() -> None:
        async with SshServer(environment=environment) as one:
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
def written(tmp_path: Path) -> Path:
    """Where the profile of the site `lab` lies, once it does."""
    return tmp_path / "home" / ".config" / "aifactory-bench" / "sites" / "lab.yaml"


def run(*arguments: str, typed: str = "") -> tuple[object, str]:
    """Return what the command returns, or raises, and what it says."""
    result = CliRunner().invoke(command.command, arguments, input=typed, standalone_mode=False)
    return result.exception or result.return_value, result.output


def test_questions_and_a_profile(server: SshServer, written: Path) -> None:
    """Each answer may be empty where something is proposed."""
    typed = "lab\nlogin\n\ny\np200\n\n\n/scratch/runs\n\nn\n"
    code, said = run(typed=typed)
    assert code == 0, said
    assert f"shows ssh-ed25519 {server.host_key.get_fingerprint()}" in said
    assert "partition cpu (default): 4 of 4 nodes, 4 CPUs each, 02:00:00" in said
    assert f"written: {written}" in said
    assert "next: aifactory-bench doctor --site lab --job" in said
    site = load_site("lab")
    assert site.login is not None
    assert (site.login.host, site.login.user, site.runs) == ("login", None, "/scratch/runs")
    assert site.scheduler == {"account": "p200", "partition": "cpu"}
    assert site.rules.max_time_s == {"cpu": 7200.0, "gpu": 3600.0}
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    assert [path.name for path in written.parent.iterdir()] == ["lab.yaml"]


def test_flags_and_no_question(server: SshServer, written: Path) -> None:
    flags = ["--host", "login", "--user", "alice", "--partition", "gpu", "--runs", "/scratch/runs/", "--runtime", "host"]
    code, said = run("lab", *flags, "--yes")
    assert code == 0, said
    assert "?" not in said.replace("? CPUs", "")
    site = load_site("lab")
    assert site.login is not None
    assert (site.login.user, site.scheduler, site.runs, site.runtime) == (
        "alice",
        {"partition": "gpu"},
        "/scratch/runs",
        "host",
    )


def test_a_profile_that_is_there_stays(server: SshServer, written: Path) -> None:
    """Without a yes, also with --yes: what stands there may be work."""
    written.parent.mkdir(parents=True)
    written.write_text("mine\n")
    assert run("lab", "--host", "login", "--yes")[0] == 1
    assert run("lab", "--host", "login", typed="n\n")[0] == 1
    assert written.read_text() == "mine\n"
    code, _ = run("lab", "--host", "login", "--yes", typed="y\n")
    assert code == 0
    assert written.read_text().startswith("# Made by")


def test_a_key_that_is_not_agreed_to(server: SshServer, written: Path) -> None:
    code, said = run("lab", "--host", "login", "--user", "alice", typed="n\n")
    assert code == 4
    assert "not trusted: " in said
    assert not written.exists()


def test_a_key_that_has_changed_is_never_taken_unseen(server: SshServer, tmp_path: Path, written: Path) -> None:
    known = tmp_path / "home" / ".ssh" / "known_hosts"
    known.write_text(f"[127.0.0.1]:{server.port} {server.client_key.export_public_key().decode()}")
    code, said = run("lab", "--host", "login", "--yes")
    assert code == 4
    assert "warning: its key has changed" in said
    assert not written.exists()


def test_an_answer_that_makes_no_profile(server: SshServer, written: Path) -> None:
    """Is told with its place, and nothing is left."""
    error, _ = run("lab", "--host", "login", "--runs", "relative/path", "--yes")
    assert isinstance(error, UsageError)
    assert "runs: " in error.text
    assert list(written.parent.iterdir()) == []


def test_a_controller_that_does_not_answer(server: SshServer, slurm: FakeSlurm, written: Path) -> None:
    slurm.faults.always("*", down())
    error, _ = run("lab", "--host", "login", "--yes")
    assert isinstance(error, SiteError)
    assert "the controller of Slurm does not answer" in error.text
    assert not written.exists()


def test_a_host_that_is_not_there(tmp_path: Path, written: Path) -> None:
    error, _ = run("lab", "--host", "127.0.0.1", "--port", "1", "--yes")
    assert isinstance(error, NotExecutedError)
    assert not written.exists()


@pytest.mark.parametrize("name", ["local", "Lab", "1lab", "a" * 40])
def test_names_that_are_none(name: str) -> None:
    error, _ = run(name, "--yes", "--host", "login")
    assert isinstance(error, UsageError)


def test_nothing_asked_and_nothing_said() -> None:
    assert isinstance(run("--yes")[0], UsageError)
    assert isinstance(run("lab", "--yes")[0], UsageError)
    assert isinstance(run("lab", typed="")[0], click.Abort)


def test_a_shipped_profile_is_extended(server: SshServer, tmp_path: Path) -> None:
    """Only the user's own part is asked for and written."""
    flags = ["--host", "login", "--user", "alice", "--account", "p200", "--partition", "cpu", "--qos", "short"]
    code, said = run("meluxina", *flags, "--runs", "/scratch/runs", "--yes")
    assert code == 0, said
    path = tmp_path / "home" / ".config" / "aifactory-bench" / "sites" / "meluxina.yaml"
    assert "extends: meluxina" in path.read_text()
    site = load_site("meluxina")
    assert site.rules.whole_nodes
    assert site.scheduler == {"hint": "nomultithread", "account": "p200", "partition": "cpu", "qos": "short"}
