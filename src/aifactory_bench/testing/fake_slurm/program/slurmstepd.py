"""Executes one job: runs its script, passes on what is to end it, and reports how it ended."""

import ctypes
import os
import signal
import time
from typing import Optional

from .environment import job_environment, output_path
from .execution import KILL, TERMINATE, Effects, descendants, send
from .job import Job
from .schedule import end, finish, settle
from .store import Store, stat

_PR_SET_CHILD_SUBREAPER = 36
_SIGNALS = (signal.SIGCHLD, TERMINATE, KILL)
_DEFAULT = (*_SIGNALS, signal.SIGPIPE, signal.SIGXFSZ)
"""Signals that Python ignores, or that we wait for, and that a script finds as ever."""


def execute(folder: str, key: int) -> None:
    """Execute a job that the controller has started, unless somebody else does."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    for number in (signal.SIGINT, signal.SIGQUIT):  # a shell lets its background ignore them
        signal.signal(number, signal.SIG_DFL)
    # What a job leaves behind becomes a child of ours, whatever session it has put itself into.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with Store(folder) as store:
        job = store.job(key)
        if job.state != "RUNNING" or job.pid is not None or store.setting("closed"):
            return
        script, environment = store.query("SELECT script, environment FROM scripts WHERE key = ?", key)[0]
        job.pid, job.ticks = os.getpid(), stat(os.getpid())[1]
        store.save(job, "pid", "ticks")
        grace_s = store.setting("kill_wait_s")
        variables = job_environment(store, job, environment)
    job.shell = _start(folder, job, script, variables)
    if job.shell is not None:
        with Store(folder) as store:
            store.save(job, "shell")
    status = 1 << 8 if job.shell is None else _wait(job.shell, grace_s)
    _kill_rest()
    with Store(folder) as store:
        _report(store, store.job(key), status, launched=job.shell is not None)
        settle(store)
        effects = Effects(store)
    effects.do()


def _report(store: Store, job: Job, status: int, *, launched: bool) -> None:
    if job.pid != os.getpid():  # it was taken for dead
        return
    code = os.waitstatus_to_exitcode(status)
    ended = (max(code, 0), max(-code, 0))
    if job.state == "RUNNING":
        job.pid = None
        end(store, job, store.now, "FAILED" if code else "COMPLETED", ended)
        if not launched:
            store.query("UPDATE jobs SET reason = 'JobLaunchFailure' WHERE key = ?", job.key)
        return
    if job.outcome == "CANCELLED":
        job.exit_code, job.exit_signal = ended
        store.save(job, "exit_code", "exit_signal")
    finish(store, job, store.now)


def _start(folder: str, job: Job, script: bytes, variables: "dict[str, str]") -> Optional[int]:
    """Start the script; None: it cannot be."""
    spool = os.path.join(folder, "spool", f"job{job.job_id:05d}.{job.key}")
    os.makedirs(spool, mode=0o700, exist_ok=True)
    script_path = os.path.join(spool, "slurm_script")
    with open(script_path, "wb") as file:
        file.write(script)
    os.chmod(script_path, 0o700)
    flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if job.append else os.O_TRUNC)
    outputs = []
    try:
        os.chdir(job.workdir if os.path.isdir(job.workdir) else "/tmp")  # noqa: S108  # as slurmd does
        paths = [output_path(job, stream) for stream in (job.stdout, job.stderr)]
        outputs = [os.open(path, flags, 0o644) for path in dict.fromkeys(paths)]  # one file for both is opened once
        actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
        actions += [(os.POSIX_SPAWN_DUP2, outputs[0], 1), (os.POSIX_SPAWN_DUP2, outputs[-1], 2)]
        return os.posix_spawn(
            script_path, [script_path], variables, file_actions=actions, setsid=True, setsigmask=[], setsigdef=_DEFAULT
        )
    except OSError:
        return None
    finally:
        for fd in outputs:
            os.close(fd)


def _wait(shell: int, grace_s: float) -> int:
    """Wait for the script, and return its status. Once told to end: TERM to everything, and KILL after the grace."""
    deadline: Optional[float] = None
    while True:
        left_s = 60.0 if deadline is None else max(0.01, deadline - time.monotonic())
        got = signal.sigtimedwait(_SIGNALS, left_s)
        if got is not None and got.si_signo == KILL:
            deadline = 0.0
        elif got is not None and got.si_signo == TERMINATE and deadline is None:
            deadline = time.monotonic() + grace_s
            _signal_all(signal.SIGTERM)
        if deadline is not None and time.monotonic() >= deadline:
            _signal_all(signal.SIGKILL)
        for pid, status in _reaped():
            if pid == shell:
                return status


def _reaped() -> "list[tuple[int, int]]":
    found: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if not pid:
            return found
        found.append((pid, status))


def _signal_all(number: int) -> None:
    for pid in descendants(os.getpid()):
        send(pid, number)


def _kill_rest() -> None:
    """End what the script has left behind."""
    while descendants(os.getpid()):
        _signal_all(signal.SIGKILL)
        _reaped()
        time.sleep(0.002)
    _reaped()
