"""Runs the same scripts on this machine: one bash a job, in a session of its own that outlives the controller.

Exactly once without a scheduler: the job makes the folder `started` before anything else, so the second of two
executions of one token ends at once, and it writes its own process id, so an id that was never recorded means a job that
never began.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Optional

from attrs import define

from ..errors import SiteError, SubmitError
from ..node.files import make_private_folder, read_json, read_text, write_atomic
from ..node.paths import JobPaths, RunPaths
from ..plan import Plan, PlannedJob, plan_to_json
from ..script.bundle import NodeProgram, write_node_program
from .base import NO_FILES, JobState, JobStatus, Submitter
from .disk import clear_errors, gone
from .endings import how_it_ended, tail
from .process import ProcessId, kill_belonging

# `$1` is the job's folder; whoever finds `started` in it came second. Field 22 of /proc/<pid>/stat is the start time;
# `exec` keeps pid and start time.
_LAUNCH = """
set -eu
umask 077
export PATH="${PATH:+$PATH:}/usr/bin:/bin"
cd "$1"
why=$(mkdir "$1/started" 2>&1) || {
    [ ! -d "$1/started" ] || exit 0
    echo "$why" >&2
    exit 1
}
read -r stat < "/proc/$$/stat"
folder=$1
set -- ${stat##*) }
shift 19
read -r boot < /proc/sys/kernel/random/boot_id
printf '%s %s %s\\n' "$$" "$1" "$boot" > "$folder/.job_id"
mv "$folder/.job_id" "$folder/job_id"
exec /bin/bash "$folder/script.sh"
"""
_START_LIMIT_S = 20.0
BUSY_INTERVAL_S = 0.1
"""Between polls while jobs start or stop."""
CALM_INTERVAL_S = 0.5
"""Between polls while the same jobs keep running."""
CALM_AFTER_S = 3.0
_KEPT = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "CUDA_VISIBLE_DEVICES")


@define
class _Child:
    """A job that this controller started, to be reaped when it ends."""

    pid: int
    exit_code: Optional[int] = None

    def reap(self) -> Optional[int]:
        """Return the exit code, or None while it runs."""
        if self.exit_code is None:
            with contextlib.suppress(ChildProcessError):
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.exit_code = os.waitstatus_to_exitcode(status)
        return self.exit_code


class LocalSubmitter(Submitter):
    """Jobs of one run as processes of this machine.

    Jobs that it has once seen it knows by process id, whatever becomes of the run folder.
    """

    def __init__(self, paths: RunPaths) -> None:
        self._paths = paths
        self._folder: Optional[os.stat_result] = None
        """Of the run folder, when it was first used: another one in its place is not this run's."""
        self._children: dict[str, _Child] = {}
        self._processes: dict[str, ProcessId] = {}
        self._ranks: dict[str, int] = {}
        self._final: dict[str, JobStatus] = {}

    def interval_s(self, unchanged_s: float, *, ending: bool) -> float:
        return CALM_INTERVAL_S if unchanged_s > CALM_AFTER_S and not ending else BUSY_INTERVAL_S

    async def stage(self, plan: Plan, recipe: str, program: bytes, private: Mapping[str, str] = NO_FILES) -> None:
        if shutil.which("bash", path="/bin:/usr/bin") is None:
            raise SiteError("bash is not installed", "jobs are bash scripts: install the package 'bash'")
        self._ranks.update((job.token, job.ranks) for job in plan.jobs)
        with self._in_place():
            for folder in (self._paths.stop, self._paths.barriers):
                make_private_folder(folder)
            write_node_program(self._paths.folder, NodeProgram(plan.node_digest, program))
            if not self._paths.plan.exists():  # later stages leave it: its time is that of the run
                write_atomic(self._paths.recipe, recipe)
            for name, content in private.items():
                await self.write(name, content)
            write_atomic(self._paths.plan, plan_to_json(plan))

    async def submit(self, job: PlannedJob) -> str:
        paths = self._paths.job(job.token)
        self._ranks[job.token] = job.ranks
        with self._in_place():
            make_private_folder(paths.folder)
            if not paths.script.exists():
                write_atomic(paths.script, job.script)
            if not (paths.folder / "started").exists():
                self._launch(job.token, paths)
        return await self._recorded_id(job, paths)

    def _launch(self, token: str, paths: JobPaths) -> None:
        environment = {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith("LC_")}
        append = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        # Not subprocess.Popen: it warns when a controller leaves a child running, and that is what this is for.
        pid = os.posix_spawn(
            "/bin/sh",
            ["/bin/sh", "-c", _LAUNCH, "aifactory-bench", str(paths.folder)],
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(paths.log), append, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
        self._children[token] = _Child(pid)

    async def _recorded_id(self, job: PlannedJob, paths: JobPaths) -> str:
        deadline = time.monotonic() + _START_LIMIT_S
        while True:
            process = self._process(job.token)
            if process is not None:
                return str(process.pid)
            child = self._children.get(job.token)
            # A launcher that came second ends with 0; the first one's id appears in a moment.
            failed = child is not None and child.reap() not in (None, 0)
            # The id is renamed into place before a job can end, so one more look decides.
            if failed and self._process(job.token) is None:
                why = tail(paths.log)
                if not why:  # a full disk has no room for the reason either
                    await self.write("lease", f"{job.name} did not start\n")
                raise SubmitError(f"job {job.name} did not start: {why or 'no word of why'}", f"see {paths.log}")
            if time.monotonic() > deadline:
                raise SubmitError(f"job {job.name} did not start within {_START_LIMIT_S:.0f} s", f"see {paths.log}")
            await asyncio.sleep(0.005)

    async def poll(self) -> Mapping[str, JobStatus]:
        for child in self._children.values():
            child.reap()
        try:
            there = os.listdir(self._paths.folder / "jobs")
        except (FileNotFoundError, NotADirectoryError):
            there = []
        statuses = {}
        for token in sorted({*there, *self._processes}):
            status = self._final.get(token) or self._status(token)
            if status is not None:
                statuses[token] = status
                if status.state.final:
                    self._final[token] = status
        return statuses

    def _status(self, token: str) -> "JobStatus | None":
        paths = self._paths.job(token)
        process = self._process(token)
        if process is None:
            started, child = paths.folder / "started", self._children.get(token)
            if child is not None and child.exit_code:
                return JobStatus(token, None, JobState.FAILED, f"it did not start: {tail(paths.log)}")
            try:
                age_s = time.time() - started.stat().st_mtime
            except FileNotFoundError:
                return None
            if age_s < _START_LIMIT_S:
                return JobStatus(token, None, JobState.PENDING)
            return JobStatus(token, None, JobState.LOST, "the job began and ended before it could say who it is")
        job_id = str(process.pid)
        # Alive first, exit records second: a record is written before the process ends.
        if process.alive:
            return JobStatus(token, job_id, JobState.RUNNING)
        if not paths.folder.is_dir():
            return JobStatus(token, job_id, JobState.LOST, f"{paths.folder} is gone")
        state, text = how_it_ended(paths, self._ranks_of(token))
        return JobStatus(token, job_id, state, text)

    async def write(self, name: str, text: str) -> None:
        with self._in_place():
            path = self._paths.folder / name
            make_private_folder(path.parent)
            write_atomic(path, text)

    async def remove(self, name: str) -> None:
        with clear_errors(self._paths.folder):
            (self._paths.folder / name).unlink(missing_ok=True)

    async def cancel(self, tokens: Iterable[str]) -> None:
        for token in tokens:
            process = self._process(token)
            if process is not None:
                process.send(signal.SIGTERM)

    async def kill(self, tokens: Iterable[str]) -> None:
        for token in tokens:
            process, child = self._process(token), self._children.get(token)
            if process is not None:
                process.kill_group()  # also where the folder was moved, so that nobody is found by it
            elif child is not None and child.reap() is None:  # it runs and has not said who it is
                os.kill(child.pid, signal.SIGKILL)
            folder = self._paths.job(token).folder
            await kill_belonging(f"AFB_JOB_DIR={folder}", folder)

    def _process(self, token: str) -> Optional[ProcessId]:
        """Return who runs a job, or ran it; None as long as it has not said so."""
        if token not in self._processes:
            with contextlib.suppress(ValueError):  # never half written, so damage
                text = read_text(self._paths.job(token).job_id)
                if text is not None:
                    self._processes[token] = ProcessId.parse(text)
        return self._processes.get(token)

    def _ranks_of(self, token: str) -> int:
        """Return how many ranks a job has; 0 when neither we nor its specification knows."""
        if token not in self._ranks:
            try:
                spec = read_json(self._paths.job(token).spec)
            except ValueError:
                spec = None
            ranks = spec.get("ranks") if isinstance(spec, dict) else None
            self._ranks[token] = ranks if isinstance(ranks, int) else 0
        return self._ranks[token]

    @contextlib.contextmanager
    def _in_place(self) -> Iterator[None]:
        """Write into the run folder, which is made at the first use and never a second time.

        Raises:
            SiteError: it cannot be written.
            RunError: it, or the folder of a job, was moved or removed.
        """
        with clear_errors(self._paths.folder):
            if self._folder is None:
                self._folder = make_private_folder(self._paths.folder).stat()
            self._check_place()
            try:
                yield
            except FileNotFoundError:
                self._check_place()
                raise

    def _check_place(self) -> None:
        try:
            same = self._folder is not None and os.path.samestat(self._folder, self._paths.folder.stat())
        except FileNotFoundError:
            same = False
        if not same:
            raise gone(self._paths.folder)
        for token in self._processes:
            if not self._paths.job(token).folder.is_dir():
                raise gone(self._paths.job(token).folder)
