"""Where transports lead in tests: the test kit's server within this process, and a real sshd on loopback."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aifactory_bench.sites.model import Login


@pytest.fixture(scope="session")
def need() -> Callable[[str], str]:
    """Find a program; without it a test is skipped, or fails where everything must be there."""

    def find(name: str) -> str:
        found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        if found is None:
            (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"{name} is not installed")
        return found

    return find


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The test's own home, as `$HOME` has it."""
    return tmp_path / "home"


class Sshd:
    """A real OpenSSH server on loopback, for logins of the user who runs the tests."""

    def __init__(self, program: str, folder: Path) -> None:
        self.folder = folder
        self.user = pwd.getpwuid(os.getuid()).pw_name
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        (folder / "config").write_text(
            f"ListenAddress 127.0.0.1:{self.port}\nHostKey {folder}/host\nPidFile {folder}/pid\n"
            f"AuthorizedKeysFile {folder}/user.pub\nStrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\n"
            "KbdInteractiveAuthentication no\nPasswordAuthentication no\nMaxSessions 10\nLogLevel VERBOSE\n"
        )
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self._process = subprocess.Popen([program, "-D", "-f", folder / "config", "-E", folder / "log"])
        deadline = time.monotonic() + 20
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    break
            assert self._process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def admit(self, home: Path) -> Path:
        """Write `.ssh` of a home as a user has it, with the site as `login`; return the configuration."""
        (home / ".ssh").mkdir(mode=0o700)
        known = home / ".ssh" / "known_hosts"
        known.write_text(f"[127.0.0.1]:{self.port} {(self.folder / 'host.pub').read_text()}")
        config = home / ".ssh" / "config"
        config.write_text(
            f"Host login\n  HostName 127.0.0.1\n  Port {self.port}\n  User {self.user}\n"
            f"  IdentityFile {self.folder}/user\n  IdentitiesOnly yes\n  UserKnownHostsFile {known}\n"
        )
        return config

    def connections(self) -> list[int]:
        """Return the processes that serve connections."""
        pids, found = [self._process.pid], []
        while pids:
            pids += map(int, _proc(f"{pids[0]}/task/{pids[0]}/children").split())
            found.append(pids.pop(0))
        return [pid for pid in found[1:] if "sshd" in _proc(f"{pid}/cmdline")]

    def send(self, number: signal.Signals) -> None:
        """Send a signal to every process that serves a connection."""
        for pid in self.connections():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def close(self) -> None:
        """End the server and its connections."""
        try:
            self.send(signal.SIGKILL)
        finally:
            self._process.kill()
            self._process.wait()


def _proc(name: str) -> str:
    """Return what /proc says; nothing of a process that has just ended."""
    try:
        return Path("/proc", name).read_text()
    except OSError:
        return ""


@pytest.fixture
def sshd(need: Callable[[str], str], tmp_path: Path) -> Iterator[Sshd]:
    """A real sshd."""
    folder = tmp_path / "sshd"
    folder.mkdir()
    server = Sshd(need("sshd"), folder)
    yield server
    server.close()


@pytest.fixture
def login() -> Login:
    """What a site profile says of the servers here: the name in the SSH configuration."""
    return Login("login")
