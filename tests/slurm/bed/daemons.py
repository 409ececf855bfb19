"""Daemons of a cluster, each on its host, and waiting for them with a bound."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from .errors import BedError, with_log
from .hosts import Host

UP_S = 40.0
_ALIVE = 'pid=$(cat "$1") && kill -0 "$pid" && ! grep -q "^State:.[ZX]" "/proc/$pid/status"'
_SIGNAL = 'kill -"$2" "$(cat "$1")"'


def wait(what: str, condition: Callable[[], bool], *logs: Path, limit_s: float = UP_S, pause_s: float = 0.03) -> None:
    """Wait until a condition holds.

    Raises:
        BedError: it does not within `limit_s`; the text shows the end of the logs.
    """
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            raise with_log(f"{what}: not within {limit_s:g} s", *logs)
        time.sleep(pause_s)


class Daemon:
    """A program that puts itself into the background and writes its process id into a file."""

    def __init__(self, host: Host, argv: Sequence[str], pid_file: str, log: str) -> None:
        self.host = host
        self.name = argv[0].rpartition("/")[2]
        self._argv = list(argv)
        self._pid_file = pid_file
        self.log = host.places.host_file(host.name, log)
        self._pid_path = host.places.host_file(host.name, pid_file)

    def start(self) -> None:
        """Start it and wait until it runs.

        Raises:
            BedError: it does not run.
        """
        self._pid_path.unlink(missing_ok=True)
        try:
            self.host.run(self._argv, timeout_s=30, check=True)
        except BedError as error:
            raise with_log(str(error), self.log) from None
        wait(f"{self.name} on {self.host.name}", self.alive, self.log)

    def alive(self) -> bool:
        """Say whether it runs (a stopped one does)."""
        return self._shell(_ALIVE) == 0

    def stop(self) -> None:
        """Freeze it (SIGSTOP): connections to it are taken, and nothing answers."""
        self._send("STOP")

    def cont(self) -> None:
        """Let it go on (SIGCONT)."""
        self._send("CONT")

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        self._send("KILL")
        wait(f"end of {self.name} on {self.host.name}", lambda: not self.alive(), self.log)

    def restart(self) -> None:
        """End it, if it runs, and start it again."""
        if self.alive():
            self.kill()
        self.start()

    def _send(self, name: str) -> None:
        if self._shell(_SIGNAL, name) != 0:
            raise with_log(f"{self.name} on {self.host.name} does not run", self.log)

    def _shell(self, program: str, *arguments: str) -> int:
        return self.host.run(["sh", "-c", program, "sh", self._pid_file, *arguments]).returncode
