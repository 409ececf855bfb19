"""The console script as a user meets it: in a process of its own, with pipes or on a terminal of 80 columns."""

import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from fcntl import ioctl
from pathlib import Path

import pytest

from aifactory_bench.cli import main

COMMAND = [sys.executable, "-m", "aifactory_bench"]


@pytest.fixture
def console(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the program with pipes and return what it said."""

    def run(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
        options = {"cwd": tmp_path, "timeout": 60, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.run([*COMMAND, *arguments], text=True, check=False, **options)

    return run


@pytest.fixture
def inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the program within this process, which is quicker, and return what it said."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        capsys.readouterr()
        code = main(arguments)
        said = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, code, said.out, said.err)

    return run


class Terminal:
    """The program on a terminal of 80 columns and 24 lines."""

    def __init__(self, arguments: list[str], cwd: Path) -> None:
        self._own, other = pty.openpty()
        ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.process = subprocess.Popen(
            # A session's leader that opens a terminal gets it for its own, and Ctrl-C with it.
            ["sh", "-c", 'exec "$@" <"$0" >"$0" 2>&1', os.ttyname(other), *COMMAND, *arguments],
            cwd=cwd,
            stdin=other,
            stdout=other,
            stderr=other,
            env={**os.environ, "TERM": "xterm-256color"},
            start_new_session=True,
        )
        os.close(other)
        self.text = ""

    def read(self, timeout_s: float = 0.1) -> bool:
        """Take in what has come; False at the end."""
        ready, _, _ = select.select([self._own], [], [], timeout_s)
        if not ready:
            return True
        try:
            data = os.read(self._own, 65536)
        except OSError:  # every process of the terminal has closed it
            return False
        self.text += data.decode(errors="replace")
        return bool(data)

    def wait_for(self, text: str, timeout_s: float = 30.0) -> None:
        """Read until a text has come."""
        deadline = time.monotonic() + timeout_s
        while text not in self.text:
            assert self.read(), f"ended without {text!r}: {self.text}"
            assert time.monotonic() < deadline, f"no {text!r} in: {self.text}"

    def press_ctrl_c(self) -> None:
        """Type what the terminal turns into SIGINT."""
        os.write(self._own, b"\x03")

    def end(self, timeout_s: float = 60.0) -> int:
        """Read to the end and return the exit code."""
        deadline = time.monotonic() + timeout_s
        while self.read():
            assert time.monotonic() < deadline, f"still running: {self.text}"
        return self.process.wait(timeout=10)

    def close(self) -> None:
        """End the program if it still runs."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        os.close(self._own)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """Start the program on a terminal of its own."""
    opened = []

    def start(*arguments: str) -> Terminal:
        opened.append(Terminal(list(arguments), tmp_path))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


@pytest.fixture
def quick_recipe(tmp_path: Path) -> Path:
    """A recipe of half a minute's shortness: a real Redis, one second of load."""
    path = tmp_path / "quick.yaml"
    path.write_text(
        "schema: aifactory-bench/1\n"
        "name: quick\n"
        "services:\n"
        "  cache:\n"
        "    kind: redis\n"
        "clients:\n"
        "  load:\n"
        "    kind: redis-load\n"
        "    target: cache\n"
        "    parameters: {keys: 100}\n"
        "    load: {process: constant, rate: 500/s, connections: 4, warmup: 200ms, duration: 1s}\n"
        # Tests share the machine with others: what that does to the numbers is not what is tested.
        "limits: {lateness_invalid_floor_s: 10s, rate_not_achieved: 90%, window_short: 90%, client_bound: 100%,\n"
        "  observation_age_invalid_floor_s: 10s, generator_stalled_invalid: 100%}\n"
    )
    return path
