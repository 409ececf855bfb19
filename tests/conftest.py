"""What every test gets: a home of its own, loopback only, and no process left behind."""

import fcntl
import functools
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple, NoReturn

import pytest

_MARK = "AIFACTORY_BENCH_TEST"
_LEFT_S = 5.0
"""How long processes of a test may take to go."""
_ROOT = Path(__file__).parents[1]
_COMPILED_S = 900.0
"""How long the compiler of llama-server may take from the first test that needs it."""


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


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put last what needs a server that may still be in the compiler's hands."""
    items.sort(key=_needs_llama)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Wait for that server, if it is being made: before the time limit of the test begins."""
    if _needs_llama(item):
        _wait_for_llama(item.config)
    return (yield)


@pytest.fixture(scope="session")
def leave_out() -> Callable[[str], NoReturn]:
    """Leave a test out for want of something real, and say what; where everything must be there, fail it."""

    def leave(text: str) -> NoReturn:
        if os.environ.get("CI") == "true":
            pytest.fail(text)
        pytest.skip(text)

    return leave


@pytest.fixture(scope="session")
def llama_server() -> Path:
    """The program of a real llama.cpp server, in a folder with its libraries and nothing else."""
    program = _ROOT / ".venv-llama/bin/llama-server"
    if not program.exists() or not list(_ROOT.glob(".venv-llama/made-*")):
        text = "llama-server is not there: `.ci/llm-servers llama` compiles it in minutes, and needs g++"
        if os.environ.get("CI") != "true":
            pytest.skip(text)
        log = _ROOT / ".venv-llama.log"
        said = log.read_text(errors="replace").splitlines()[-20:] if log.exists() else ["it was not begun"]
        pytest.fail("\n".join([text, f"{log.name} ends with:", *said]))
    return program.resolve()


class Timing(NamedTuple):
    """What llama-server says of one request in its log."""

    prompt_ms: float
    prompt_tokens: int
    """That it worked on: without those that it had from the request before."""
    output_ms: float
    """From the first token to the last one."""
    output_tokens: int


@pytest.fixture(scope="session")
def llama_timings() -> Callable[[Path], list[Timing]]:
    """Returns a function: log of llama-server -> all requests that it ended, in the order of their ends."""
    line = re.compile(r"task +(\d+) \| +(?:prompt eval|eval) time = +([0-9.]+) ms / +(\d+) tokens")

    def read(log: Path) -> list[Timing]:
        found: dict[str, list[float]] = {}
        for task, took_ms, tokens in line.findall(log.read_text(errors="replace")):
            found.setdefault(task, []).extend((float(took_ms), int(tokens)))
        return [Timing(*numbers) for numbers in found.values()]

    return read


@pytest.fixture(scope="session")
def tiny_gguf(llama_server: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Returns a function: shape of `services/llm/tiny_model.py` -> file of a random model for llama-server."""
    folder = tmp_path_factory.mktemp("models")

    def make(shape: str) -> Path:
        path = folder / f"{shape}.gguf"
        if not path.exists():
            maker = Path(__file__).parent / "services/llm/tiny_model.py"
            subprocess.run([_ROOT / ".venv-llama/bin/python", maker, "gguf", path, shape], check=True)
        return path

    return make


def _needs_llama(item: pytest.Item) -> bool:
    return "llama_server" in getattr(item, "fixturenames", ())


@functools.cache
def _wait_for_llama(config: pytest.Config) -> None:
    began = time.monotonic()
    while _llama_is_being_made() and time.monotonic() < began + _COMPILED_S:
        time.sleep(0.5)
    waited_s = time.monotonic() - began
    if waited_s > 1 and (reporter := config.pluginmanager.get_plugin("terminalreporter")):
        reporter.write_line(f"\nwaited {waited_s:.0f} s for the compiler of llama-server")


def _llama_is_being_made() -> bool:
    try:
        with (_ROOT / ".venv-llama.lock").open() as lock:  # held by the one who makes it
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
