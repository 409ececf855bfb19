"""Running a field-standard load tool: its own process group, a limit of time, its output kept, its CPU counted."""

import contextlib
import os
import select
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterable, List, Optional, Sequence

from .contract import ToolOutcome
from .exit_record import clean, masked
from .files import PRIVATE_FILE
from .kernel import OURS, dying_with_parent

KEPT_BYTES = 256 << 20
"""Of the output of one point; what lies past it is cut off after it was reduced."""
RUNAWAY_BYTES = 1 << 30
"""A tool that has printed so much is stopped."""
_TERM_LIMIT_S = 2.0
_LOOK_EVERY_S = 0.1
_TAIL_BYTES = 2000


class ToolError(Exception):
    """A tool gave no result; the text says which and why."""


@dataclass(frozen=True)
class ToolRun:
    """The last command of a point, and why it was stopped."""

    outcome: ToolOutcome
    stop_reason: str
    """Empty when it ended by itself."""


def run_tool(
    commands: Sequence[Sequence[str]],
    folder: Path,
    work: Path,
    secrets: Iterable[str],
    limit_s: float,
    stop: Callable[[], Optional[str]],
) -> ToolRun:
    """Run the commands one after another and return how the last one ended, or the one that was stopped.

    `commands` are complete, argv[0] is a path. Output goes to `folder/command-<n>.out` and `.err`; `limit_s` is for all
    together. `stop` is asked ten times a second.

    Raises:
        ToolError: a command could not be started, or one before the last did not exit with 0.
    """
    end = time.monotonic() + limit_s
    run: Optional[ToolRun] = None
    for number, argv in enumerate(commands, start=1):
        if run is not None and run.outcome.exit_code != 0:
            raise ToolError(f"command {number - 1} of {len(commands)}: {how_it_ended(run.outcome, secrets)}")
        run = _run_one(argv, folder, number, work, secrets, end, limit_s, stop)
        if run.stop_reason:
            return run
    if run is None:
        raise ToolError("the point has no command to run")
    return run


def _run_one(
    argv: Sequence[str],
    folder: Path,
    number: int,
    work: Path,
    secrets: Iterable[str],
    end: float,
    limit_s: float,
    stop: Callable[[], Optional[str]],
) -> ToolRun:
    stdout, stderr = folder / f"command-{number}.out", folder / f"command-{number}.err"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    descriptors = [os.open(path, flags, PRIVATE_FILE) for path in (stdout, stderr)]
    start_wall_ns, start = time.time_ns(), time.monotonic()
    try:
        die_with_us = dying_with_parent(deaf_to=OURS)

        def before_exec() -> None:
            os.setpgid(0, 0)
            die_with_us()

        try:
            process = subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=descriptors[0],
                stderr=descriptors[1],
                cwd=work,
                preexec_fn=before_exec,  # noqa: PLW1509 - two system calls, no other thread
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise ToolError(f"{argv[0]} could not be started: {error}") from None
        supervised = _Supervised(process, descriptors)
        try:
            stop_reason, timed_out = supervised.wait(end, limit_s, stop)
        finally:
            cpu_s = supervised.finish()
        duration_s = time.monotonic() - start
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    outcome = ToolOutcome(
        argv=tuple(masked(argument, secrets) for argument in argv),
        exit_code=process.returncode,
        timed_out=timed_out,
        stopped=bool(stop_reason) and not timed_out,
        start_wall_ns=start_wall_ns,
        duration_s=duration_s,
        cpu_s=cpu_s,
        stdout=stdout,
        stderr=stderr,
    )
    return ToolRun(outcome, stop_reason)


class _Supervised:
    """One running command. It is reaped last, so that its process group's number stays ours until all of it is gone."""

    def __init__(self, process: "subprocess.Popen[bytes]", descriptors: List[int]) -> None:
        self._process = process
        self._descriptors = descriptors
        try:
            self._pidfd: Optional[int] = os.pidfd_open(process.pid)
        except (AttributeError, OSError):  # an old kernel: looked at more often instead
            self._pidfd = None

    def wait(self, end: float, limit_s: float, stop: Callable[[], Optional[str]]) -> "tuple[str, bool]":
        """Wait for the end; return why it had to be stopped (empty: it was not), and whether that was for time."""
        while not self._ended_within(_LOOK_EVERY_S):
            reason = stop()
            if reason:
                return reason, False
            if time.monotonic() >= end:
                return f"it ran longer than its {limit_s:g} s and was stopped", True
            if max(os.fstat(descriptor).st_size for descriptor in self._descriptors) > RUNAWAY_BYTES:
                return f"it printed more than {RUNAWAY_BYTES >> 20} MiB and was stopped", False
        return "", False

    def finish(self) -> float:
        """End what is left of the group, TERM first, and return the CPU seconds of the command and its children."""
        if not self._ended_within(0.0):
            self._signal_group(signal.SIGTERM)
            self._ended_within(_TERM_LIMIT_S)
        self._signal_group(signal.SIGKILL)
        _, status, usage = os.wait4(self._process.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        if self._pidfd is not None:
            os.close(self._pidfd)
        return usage.ru_utime + usage.ru_stime

    def _ended_within(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while True:
            if os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None:
                return True
            left_s = end - time.monotonic()
            if left_s <= 0:
                return False
            if self._pidfd is not None:
                select.select([self._pidfd], [], [], left_s)
            else:
                time.sleep(min(left_s, 0.01))

    def _signal_group(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # nothing left of it
            os.killpg(self._process.pid, number)


def how_it_ended(outcome: ToolOutcome, secrets: Iterable[str]) -> str:
    """Return a sentence such as `redis-benchmark ended with exit code 1: Could not connect`, secrets left out."""
    name = Path(outcome.argv[0]).name
    if outcome.exit_code < 0:
        try:
            how = f"was ended by {signal.Signals(-outcome.exit_code).name}"
        except ValueError:
            how = f"was ended by signal {-outcome.exit_code}"
    else:
        how = f"ended with exit code {outcome.exit_code}"
    # Masked before it is cut: half a secret would not be found.
    said = clean(_tail(outcome.stderr) or _tail(outcome.stdout), secrets)[-500:]
    return f"{name} {how}" + (f": {said}" if said else "")


def _tail(path: Path) -> str:
    try:
        with open(path, "rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - _TAIL_BYTES))
            lines = stream.read(_TAIL_BYTES).decode("utf-8", "replace").strip().splitlines()
    except OSError:
        return ""
    return " / ".join(line.strip() for line in lines[-3:])


def cut_output(folder: Path, limit_bytes: int = KEPT_BYTES) -> List[str]:
    """Cut the largest files of a folder until all together keep within the limit; return the names of those cut."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    left = limit_bytes
    cut = []
    for path in sorted(files, key=lambda path: path.stat().st_size):
        size = path.stat().st_size
        if size > left:
            os.truncate(path, left)
            cut.append(str(path.relative_to(folder)))
        left -= min(size, left)
    return cut
