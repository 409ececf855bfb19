"""The simulated cluster, as a test holds it."""

import math
import os
import shlex
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from attrs import frozen

from .behaviour import Behaviour, Instant, columns
from .faults import Faults
from .program import execution, sbatch
from .program.job import Job
from .program.main import COMMANDS
from .program.options import Answer
from .program.schedule import end, settle
from .program.scontrol import set_node
from .program.store import Store, alive, create

_T = TypeVar("_T")
_START = 1_767_261_600.0
"""2026-01-01 10:00 UTC: where a clock that the test moves begins."""
_TICK_S = 0.1
_END_LIMIT_S = 20.0
"""How long processes may take to end that were told to."""
_POLL_S = 0.01


@frozen
class FakeJob:
    """One job, or one task of an array, as it is now. Times are seconds of the cluster's clock since the epoch."""

    job_id: str
    """As users see it: `17`, or `17_3`."""
    name: str
    state: str
    """Long word."""
    reason: str
    nodes: tuple[str, ...]
    exit_code: int
    signal: int
    restarts: int
    submitted: float
    started: float | None
    ended: float | None
    known: bool
    """Whether the controller still shows it."""


@frozen
class Call:
    """One call of an executable."""

    command: str
    arguments: tuple[str, ...]
    at: float
    """On the cluster's clock."""
    exit_code: int | None
    """None: it has not ended, or was killed."""
    struck: bool
    """Whether a fault struck it."""


class FakeSlurm:
    """A cluster in a folder: `with FakeSlurm(folder) as slurm:`, with `slurm.bin` first on PATH.

    The executables find the folder by themselves; they need nothing from the environment. At the end of the block every process
    of the cluster is ended.
    """

    def __init__(
        self,
        folder: Path,
        *,
        nodes: int | Sequence[str] = 4,
        cpus: int = 4,
        partitions: Mapping[str, float] | None = None,
        jobs: Behaviour | None = None,
        real_clock: bool = False,
        accounting: bool = True,
        accounting_lag_s: float = 0.0,
        min_job_age_s: float = 300.0,
        kill_wait_s: float = 2.0,
        requeue_delay_s: float = 120.0,
        default_limit_s: float = math.inf,
        enforce_limits: bool = False,
        name: str = "fake",
    ) -> None:
        """Make a new cluster.

        Args:
            folder: Where its state lies; made if it is not there.
            nodes: Their names, or how many; then they are called `node1` and so on.
            cpus: Of each node.
            partitions: Longest time of a job in seconds by name, the default first; without it one, `batch`, without a limit.
            jobs: What jobs do about which `behave` says nothing.
            real_clock: Whether the cluster's clock is the machine's; otherwise only `advance` moves it.
            accounting: Whether sacct knows anything.
            accounting_lag_s: How long after its submission sacct learns of a job.
            min_job_age_s: How long the controller remembers a job that has ended.
            kill_wait_s: Time between TERM and KILL for executed jobs, on the machine's clock.
            requeue_delay_s: How long a job that was requeued waits.
            default_limit_s: Time limit of a job that asks for none.
            enforce_limits: Whether a job that can never start is refused; otherwise it waits for ever.
            name: Of the cluster.

        Raises:
            FileExistsError: the folder holds a cluster.
        """
        self.folder = Path(os.path.abspath(folder))
        self.bin = self.folder / "bin"
        """The folder for PATH."""
        self.faults = Faults(self.folder)
        self._real_clock = real_clock
        self._stopped = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="fake-slurm", daemon=True)
        for place in (self.bin, self.folder / "released"):
            place.mkdir(parents=True, exist_ok=True)
        settings = {
            "now": None if real_clock else _START,
            "next_id": 1,
            "cluster": name,
            "accounting": int(accounting),
            "accounting_lag_s": accounting_lag_s,
            "min_job_age_s": min_job_age_s,
            "kill_wait_s": kill_wait_s,
            "requeue_delay_s": requeue_delay_s,
            "default_limit_s": default_limit_s,
            "enforce_limits": int(enforce_limits),
            "closed": 0,
        }
        names = [f"node{number}" for number in range(1, nodes + 1)] if isinstance(nodes, int) else nodes
        create(str(self.folder), settings, dict.fromkeys(names, cpus), dict(partitions or {"batch": math.inf}))
        self.behave("*", jobs or Instant())
        for command in COMMANDS:
            path = self.bin / command
            path.write_text(f'#!/bin/sh\nexec {shlex.join(execution.start_text(str(self.folder), command))} "$@"\n')
            path.chmod(0o755)

    def __enter__(self) -> "FakeSlurm":
        if self._real_clock:
            self._ticker.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End every process of the cluster; its state can still be looked at."""
        self._stopped.set()
        if self._ticker.is_alive():
            self._ticker.join()
        with Store(str(self.folder)) as store:
            store.set("closed", 1)
            executors = [(job.pid, job.ticks) for job in store.active()]
        for pid, ticks in executors:
            if pid is not None and alive(pid, ticks):
                execution.send(pid, execution.KILL)
        deadline = time.monotonic() + _END_LIMIT_S
        while left := execution.processes_of(str(self.folder)):
            # An executor ends what its job has left behind, so it gets some time before it is ended itself.
            if not any(alive(*executor) for executor in executors) or time.monotonic() > deadline:
                for pid in left:
                    execution.send(pid, signal.SIGKILL)
            time.sleep(_POLL_S)

    def run(
        self, command: str, *arguments: str, stdin: str = "", timeout_s: float = 60.0
    ) -> "subprocess.CompletedProcess[str]":
        """Call one of the executables, with nothing of our environment but the home folder.

        Raises:
            subprocess.TimeoutExpired: it hangs.
        """
        environment = {"PATH": f"{self.bin}:/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "HOME": os.environ.get("HOME", "/")}
        argv = [str(self.bin / command), *arguments]
        return subprocess.run(
            argv, input=stdin, env=environment, cwd=self.folder, capture_output=True, text=True, timeout=timeout_s, check=False
        )

    def submit(self, name: str, *options: str, body: str = "true") -> str:
        """Submit a job without calling sbatch, which is ten times as quick, and return its id.

        Args:
            name: Of the job.
            options: As for sbatch.
            body: What the job's script does, in the words of `sh`.

        Raises:
            ValueError: sbatch would refuse it.
        """
        try:
            argv = [f"--job-name={name}", f"--chdir={self.folder}", "--parsable", *options, "--wrap", body]
            given = self._change(sbatch.prepare(argv))
        except Answer as refused:
            raise ValueError(refused.stderr) from None
        return given.stdout.strip()

    @property
    def now(self) -> float:
        """The cluster's clock, in seconds since the epoch."""
        with Store(str(self.folder)) as store:
            return store.now

    def advance(self, seconds: float) -> None:
        """Move the clock on; everything that is due in that time happens.

        Raises:
            ValueError: the clock is the machine's, or would go backwards.
        """
        if self._real_clock or seconds < 0:
            raise ValueError(
                f"the clock cannot be moved by {seconds} s: " + ("it is the machine's" if self._real_clock else "backwards")
            )
        self._change(lambda store: store.set("now", store.now + seconds))

    def behave(self, pattern: str, behaviour: Behaviour) -> None:
        """Let jobs whose name matches (`*`, `?`, `[...]`) do this; of several patterns the last one given counts."""
        with Store(str(self.folder)) as store:
            store.insert("behaviours", {"pattern": pattern} | columns(behaviour))

    def jobs(self, name: str | None = None) -> list[FakeJob]:
        """Return all jobs ever submitted, those that the controller has forgotten or does not show yet included."""
        with Store(str(self.folder)) as store:
            jobs = store.jobs() if name is None else store.jobs("name = ?", name)
            return [_fake_job(job, store.now) for job in jobs]

    def job(self, job_id: str | int) -> FakeJob:
        """Return one job.

        Raises:
            KeyError: there never was one of that id.
        """
        with Store(str(self.folder)) as store:
            return _fake_job(_found(store, job_id), store.now)

    def script(self, job_id: str | int) -> str:
        """Return the script that a job was submitted with.

        Raises:
            KeyError: there never was one of that id.
        """
        with Store(str(self.folder)) as store:
            script = store.query("SELECT script FROM scripts WHERE key = ?", _found(store, job_id).key)[0][0]
            return bytes(script).decode()

    def wait(self, job_id: str | int, states: Iterable[str] = (), timeout_s: float = 30.0) -> FakeJob:
        """Wait until an executed job is in one of the states, or without states until it has ended; in the machine's time.

        Raises:
            KeyError: there never was one of that id.
            TimeoutError: it is not.
        """
        wanted = set(states)
        deadline = time.monotonic() + timeout_s
        while True:
            job = self.job(job_id)
            if job.state in wanted if wanted else job.ended is not None:
                return job
            if time.monotonic() > deadline:
                raise TimeoutError(f"job {job_id} is {job.state} after {timeout_s} s")
            time.sleep(_POLL_S)

    def end(self, job_id: str | int, state: str, exit_code: int = 0, signal: int = 0) -> None:
        """Let a job end in a state; one that is executed is killed first.

        Raises:
            KeyError: there never was one of that id.
            TimeoutError: its processes do not end.
        """
        self._end(job_id, state, (exit_code, signal))

    def requeue(self, job_id: str | int) -> None:
        """Put a job that runs back into the queue: the same id, one restart more.

        Raises:
            KeyError: there never was one of that id.
            TimeoutError: its processes do not end.
        """
        self._end(job_id, "REQUEUE", (0, 0))

    def purge(self, job_id: str | int) -> None:
        """Let the controller forget a job; accounting remembers it.

        Raises:
            KeyError: there never was one of that id.
        """
        self._change(lambda store: store.query("UPDATE jobs SET gone = 1 WHERE key = ?", _found(store, job_id).key))

    def node(self, name: str, state: str) -> None:
        """Make a node `idle`, `drain` or `down`; the jobs of one that is down are requeued, or end as NODE_FAIL."""
        self._change(lambda store: set_node(store, name, state))

    def submit_count(self, name: str) -> int:
        """Return how many submissions of this name took effect; an array is one."""
        with Store(str(self.folder)) as store:
            count = "SELECT COUNT(DISTINCT COALESCE(array_id, -key)) FROM jobs WHERE name = ?"
            return int(store.query(count, name)[0][0])

    @property
    def calls(self) -> Counter[str]:
        """How often each executable was called."""
        with Store(str(self.folder)) as store:
            return Counter(dict(store.query("SELECT command, COUNT(*) FROM calls GROUP BY command")))

    def call_log(self) -> Sequence[Call]:
        """Return every call, in the order in which they began."""
        with Store(str(self.folder)) as store:
            rows = store.query("SELECT command, arguments, at, exit_code, fault FROM calls ORDER BY id")
        return [
            Call(command, tuple(arguments.split("\0")) if arguments else (), at, code, fault is not None)
            for command, arguments, at, code, fault in rows
        ]

    def _end(self, job_id: str | int, state: str, code: tuple[int, int]) -> None:
        def told(store: Store) -> int:
            job = _found(store, job_id)
            if job.active:
                end(store, job, store.now, state, code)
            return job.key

        key = self._change(told)
        deadline = time.monotonic() + _END_LIMIT_S
        while True:
            with Store(str(self.folder)) as store:
                job = store.job(key)
            if job.state != "COMPLETING" or job.mode != "execute":
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"job {job_id} does not end")
            time.sleep(_POLL_S)

    def _change(self, change: Callable[[Store], _T]) -> _T:
        with Store(str(self.folder)) as store:
            changed = change(store)
            settle(store)
            effects = execution.Effects(store)
        effects.do()
        return changed

    def _tick(self) -> None:
        while not self._stopped.wait(_TICK_S):
            self._change(lambda _store: None)


def _found(store: Store, job_id: str | int) -> Job:
    base, _, task = str(job_id).partition("_")
    condition = "array_id = ? AND task = ?" if task else "job_id = ? AND ? = ''"
    jobs = store.jobs(condition, int(base), int(task) if task else "")
    if not jobs:
        raise KeyError(job_id)
    return jobs[0]


def _fake_job(job: Job, now: float) -> FakeJob:
    return FakeJob(
        job_id=job.shown_id,
        name=job.name,
        state=job.state,
        reason=job.reason or "None",
        nodes=tuple(job.hosts),
        exit_code=job.exit_code,
        signal=job.exit_signal,
        restarts=job.restarts,
        submitted=job.submitted,
        started=job.started,
        ended=job.ended,
        known=not job.gone and job.appears <= now,
    )
