"""A real Slurm cluster for tests: started when the first test wants it, shared by all, whole again before each."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

sys.path.append(str(Path(__file__).parent))  # a folder of programs for people too: docs/test-bed.md

from bed import BedError, Cluster, missing, new_folder

_CLUSTERS = {"cluster", "accounting_cluster"}
_CHROMA = Path(__file__).parents[2] / ".venv-chroma"

LeaveOut = Callable[[str], NoReturn]


@pytest.fixture(scope="session")
def cluster(own_hosts: set[str], leave_out: LeaveOut) -> Iterator[Cluster]:
    """Four nodes, two of them with GPUs, a login host with sshd and a gate host; no accounting."""
    with _up(own_hosts, leave_out, accounting=False) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def accounting_cluster(own_hosts: set[str], leave_out: LeaveOut) -> Iterator[Cluster]:
    """A cluster of its own with slurmdbd and MariaDB; takes some seconds more to start."""
    with _up(own_hosts, leave_out, accounting=True) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def chroma_bin(cluster: Cluster, leave_out: LeaveOut) -> str:
    """The folder with `chroma` and with a Python that has its application, by its path on the cluster.

    Users there may not see this checkout: the environment is linked into the folder that all hosts share, and goes with it.
    """
    if not list(_CHROMA.glob("made-*")):
        leave_out("Chroma is not there: `.ci/chroma-server` installs it in half a minute")
    folder, seen = cluster.here(cluster.shared) / "chroma", f"{cluster.shared}/chroma/bin"
    shutil.copytree(_CHROMA, folder, symlinks=True, copy_function=_link)
    program = folder / "bin/chroma"
    _, rest = program.read_text().split("\n", 1)
    program.unlink()  # the file is that of the checkout, too
    program.write_text(f"#!{seen}/python\n{rest}")
    program.chmod(0o755)
    said = cluster.run([f"{seen}/python", "-c", "import chromadb_rust_bindings"], min(cluster.nodes))
    if said.returncode != 0:
        leave_out(f"{cluster.user} cannot run Chroma, which `.ci/chroma-server` made with a Python of its own: {said.stderr}")
    return seen


@pytest.fixture(autouse=True)
def no_job_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Undo a test's faults, and fail the test if it leaves jobs in the queue, which are cancelled."""
    used: list[Cluster] = [request.getfixturevalue(name) for name in sorted(_CLUSTERS & set(request.fixturenames))]
    yield
    for cluster in used:
        if left := cluster.recover():
            pytest.fail(f"jobs outlived the test: {left}")


@pytest.fixture
def site(cluster, tmp_path):
    """A user's home from which one gets to the cluster, and a function that writes a site profile; returns its path."""
    cluster.give_ssh(tmp_path / "home")

    def write(runtime="host", **more):
        keys = {"file_lag": "2s", "unsure": "3s", **more}
        path = tmp_path / f"site-{runtime}.yaml"
        path.write_text(cluster.profile(runtime).read_text() + "".join(f"{key}: {value}\n" for key, value in keys.items()))
        return path

    return write


@pytest.fixture
def command(tmp_path):
    """Start the command line as a process."""
    started = []

    def start(*arguments, runs="runs"):
        argv = [sys.executable, "-m", "aifactory_bench", *map(str, arguments), "--runs-dir", str(tmp_path / runs)]
        child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(child)
        return child

    yield start
    for child in started:
        child.kill()
        child.communicate()


@pytest.fixture
def cli(command):
    """Run the command line to its end; returns exit code, standard output, standard error."""

    def run(*arguments, timeout=150, **options):
        child = command(*arguments, **options)
        out, err = child.communicate(timeout=timeout)
        return child.returncode, out, err

    return run


def _link(source: str, target: str) -> None:
    """Have a file at another place: for nothing, or where that is another file system as a copy."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


@contextmanager
def _up(own_hosts: set[str], leave_out: LeaveOut, *, accounting: bool) -> Iterator[Cluster]:
    if packages := missing(accounting=accounting):
        leave_out(f"not installed: {' '.join(packages)}")
    folder, lock = new_folder()
    cluster = Cluster(folder, accounting=accounting)
    try:
        cluster.up()
        own_hosts |= cluster.addresses
        yield cluster
    except BedError as error:
        pytest.fail(str(error))
    finally:
        own_hosts -= cluster.addresses
        cluster.down()
        os.close(lock)
