"""What every test gets: a home of its own, loopback only, and no process left behind."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

_MARK = "AIFACTORY_BENCH_TEST"
_LEFT_S = 5.0
"""How long processes of a test may take to go."""


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a test away from the user's home, settings and runs, and from what the terminal says about itself."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("AIFACTORY_BENCH_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("NO_COLOR", "1")
    for name in list(os.environ):
        if name.startswith(("XDG_", "SLURM_", "SBATCH_")) or name in {"COLUMNS", "LINES", "FORCE_COLOR", "AFB_RUN_DIR"}:
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def own_hosts() -> set[str]:
    """Addresses of the hosts that tests have made on this machine: whoever makes one adds its address."""
    return set()


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch, own_hosts: set[str]) -> None:
    """Refuse connections of this process to anywhere but this machine and the hosts made on it."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if self.family in {socket.AF_INET, socket.AF_INET6} and isinstance(address, tuple):
            host = str(address[0])
            ours = host in {"localhost", socket.gethostname()} or host in own_hosts
            assert ours or ip_address(host).is_loopback, f"a test connects to {host}"
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True)
def no_process_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test whose processes outlive it, and end them.

    They are known by a variable that the whole family inherits, or by the test's folder in their command line.
    """
    mark = uuid.uuid4().hex
    monkeypatch.setenv(_MARK, mark)
    yield
    signs = (f"{_MARK}={mark}".encode(), os.fsencode(tmp_path) + b"/")
    deadline = time.monotonic() + _LEFT_S
    while (left := _processes(signs)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in left:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    assert not left, f"processes outlived the test: {left}"


def _processes(signs: tuple[bytes, ...]) -> dict[int, str]:
    """Return process id and command line of everything but ourselves that bears one of the signs."""
    found = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = Path(entry.path, "cmdline").read_bytes()
            if command and any(sign in command or sign in Path(entry.path, "environ").read_bytes() for sign in signs):
                found[int(entry.name)] = command.replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:  # it has just ended, or it is not ours
            continue
    return found


@pytest.fixture
def python_of() -> Callable[[str], str]:
    """Find an interpreter of a version: on PATH, or kept by pyenv; a shim without the version behind it does not count."""

    def find(version: str) -> str:
        home = Path(pwd.getpwuid(os.getuid()).pw_dir, ".pyenv")  # not $HOME, which is the test's own
        kept = Path(os.environ.get("PYENV_ROOT") or home).glob(f"versions/{version}.*/bin/python")
        for found in filter(None, (shutil.which(f"python{version}"), *map(str, sorted(kept)))):
            if subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0:
                return found
        pytest.skip(f"Python {version} is not installed")

    return find
