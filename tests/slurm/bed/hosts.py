"""Hosts: sets of namespaces of this machine, or this machine itself under several names."""

import os
import pwd
import signal
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from . import layout
from .errors import BedError
from .programs import find

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CLEAN = {"PATH": PATH, "LANG": "C.UTF-8"}
_UP_S = 20.0
_INIT = Path(__file__).with_name("host-init.sh")


class Host(ABC):
    """One host of a cluster."""

    def __init__(self, name: str, places: layout.Layout) -> None:
        self.name = name
        self.places = places

    @abstractmethod
    def argv(self, argv: Sequence[str], user: str = "root") -> list[str]:
        """Return what runs a command on this host, as a user, in the user's home, with nothing of our environment."""

    def popen(self, argv: Sequence[str], user: str = "root", **options) -> subprocess.Popen:
        """Start a command on this host, as a user."""
        return subprocess.Popen(self.argv(argv, user), cwd="/", env=_CLEAN, **options)

    def run(
        self, argv: Sequence[str], user: str = "root", *, stdin: str = "", timeout_s: int = 30, check: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; exit code 124 when it takes longer than `timeout_s`.

        Raises:
            BedError: with `check`, the command fails.
        """
        bounded = ["timeout", "-k", "2", str(timeout_s), *argv]
        done = subprocess.run(
            self.argv(bounded, user),
            input=stdin,
            capture_output=True,
            text=True,
            cwd="/",
            env=_CLEAN,
            timeout=timeout_s + 20,
            check=False,
        )
        if check and done.returncode != 0:
            raise BedError(f"{self.name}: {' '.join(argv)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done


class LoopHost(Host):
    """This machine, under a host's name."""

    def argv(self, argv: Sequence[str], user: str = "root") -> list[str]:
        own = pwd.getpwuid(os.geteuid())
        path = f"{self.places.root}/sbin:{PATH}"
        variables = {"HOME": own.pw_dir, "USER": own.pw_name, "LOGNAME": own.pw_name, "PATH": path, "LANG": "C.UTF-8"}
        variables.update(self.places.variables)
        return ["env", "-i", *(f"{name}={value}" for name, value in variables.items()), *argv]


class NamespaceHost(Host):
    """A host with its own network, name, file tree and processes."""

    def __init__(self, name: str, places: layout.Layout) -> None:
        super().__init__(name, places)
        self.pid = 0
        """Process id of the host's first process, as seen from this machine; 0 without power."""
        self._shell: subprocess.Popen | None = None
        self._record = places.root / "hosts" / name / "init"

    def start(self, *, die_with_us: bool) -> None:
        """Power on; `ready` waits for it.

        What dies with us dies with the thread that starts it: only the main thread lives as long as the process.
        """
        self.power_off()
        (self.places.root / "hosts" / self.name / "run/ready").unlink(missing_ok=True)
        bound_to_us = die_with_us and threading.current_thread() is threading.main_thread()
        bound = [find("setpriv"), "--pdeathsig", "KILL"] if bound_to_us else []
        spaces = ["--net", "--uts", "--mount", "--pid", "--fork", "--mount-proc", "--propagation", "private", "--kill-child"]
        log = self.places.root / "hosts" / self.name / "init.log"
        with log.open("ab") as out:
            self._shell = subprocess.Popen(
                [*bound, find("unshare"), *spaces, "--", "bash", str(_INIT), str(self.places.root), self.name],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                cwd="/",
                env=_CLEAN,
            )

    def ready(self) -> None:
        """Wait until the host has its name and file tree.

        Raises:
            BedError: it does not get them.
        """
        log = self.places.root / "hosts" / self.name / "init.log"
        deadline = time.monotonic() + _UP_S
        while not (self.places.root / "hosts" / self.name / "run/ready").exists():
            if self._shell.poll() is not None or time.monotonic() > deadline:
                raise BedError(f"host {self.name} does not start: {log.read_text(errors='replace')}")
            time.sleep(0.01)
        self.pid = int(Path(f"/proc/{self._shell.pid}/task/{self._shell.pid}/children").read_text().split()[0])
        self._record.write_text(f"{self.pid} {start_time(self.pid)}")

    def power_off(self) -> None:
        """Kill everything on the host at once."""
        kill_recorded(self._record)
        self.pid = 0
        if self._shell is not None:
            self._shell.wait(_UP_S)
            self._shell = None

    def argv(self, argv: Sequence[str], user: str = "root") -> list[str]:
        if not self.pid:
            raise BedError(f"host {self.name} has no power")
        enter = [find("nsenter"), "-t", str(self.pid), "--net", "--uts", "--mount", "--pid", "--"]
        home, become = "/root", []
        if user != "root":
            uid = str(dict((layout.ALICE, layout.BOB))[user])
            home, become = f"/home/{user}", ["setpriv", "--reuid", uid, "--regid", uid, "--clear-groups", "--"]
        variables = {"HOME": home, "USER": user, "LOGNAME": user, "SHELL": "/bin/bash", "PATH": PATH, "LANG": "C.UTF-8"}
        clean = ["env", "-i", "-C", home, *(f"{name}={value}" for name, value in variables.items())]
        return [*enter, *become, *clean, *argv]


def start_time(pid: int) -> str:
    """Return when a process was started, in the kernel's ticks: with its id, a name for good; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def kill_recorded(record: Path) -> None:
    """Kill the first process of a host, known by the record it left, and wait until it is gone."""
    try:
        pid, started = record.read_text().split()
    except (OSError, ValueError):
        return
    deadline = time.monotonic() + _UP_S
    while started and start_time(int(pid)) == started and _state(int(pid)) not in "ZX":
        try:
            os.kill(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            break
        if time.monotonic() > deadline:
            raise BedError(f"process {pid} of {record} does not end")
        time.sleep(0.005)
    record.unlink(missing_ok=True)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"
