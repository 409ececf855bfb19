"""What is in the queue and on the nodes, looked at all the time, and what became of planned jobs."""

import json
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bed import BedError, layout, processes
from slurm_bed_place import Place

INTERVAL_S = 0.25
_ENDED = {
    *("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE", "OUT_OF_MEMORY"),
}
_RUN = re.compile(r"/runs/([^/\s]+)")
_STAYS = 4
"""Looks: what is seen less often is slurmd asking for a user's environment before a job, or a program just starting."""
_TAKEN = re.compile(r"_slurm_rpc_submit_batch_job: JobId=(\d+)")


class Watch:
    """Looks at the queue and at processes every 250 ms; asked afterwards. Times are of the monotonic clock."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._cluster = place.cluster
        self._over = threading.Event()
        self._seen: dict[str, list[tuple[float, str]]] = {}
        """By run: when something of it was there, and what."""
        self.ids: dict[str, set[str]] = {}
        """By a job's name: its ids in Slurm."""
        self._unnamed: Counter[str] = Counter()
        self.looks = self.failed = 0

    @property
    def log(self) -> str:
        """What slurmctld has written."""
        return self._cluster.slurmctld.log.read_text(errors="replace")

    def taken(self) -> set[str]:
        """Return the ids of all jobs that slurmctld has taken, by its log."""
        return set(_TAKEN.findall(self.log))

    def look(self) -> None:
        """Look once."""
        self.looks += 1
        now = time.monotonic()
        for process, run in self._on_nodes():
            if run:
                self._seen.setdefault(run, []).append((now, f"{process.name} {process.pid}: {process.command[:80]}"))
            else:
                self._unnamed[f"{process.name} {process.pid}: {process.command[:80]}"] += 1
        now = time.monotonic()
        try:
            jobs = self._cluster.jobs(ended=True)
        except BedError:  # slurmctld is frozen
            self.failed += 1
            return
        for job in jobs:
            self.ids.setdefault(job.name, set()).add(job.id)
            if job.name.startswith("afb-") and job.state not in _ENDED:
                run = job.name.removeprefix("afb-").rsplit("-", 2)[0]
                self._seen.setdefault(run, []).append((now, f"job {job.id} {job.name} {job.state}"))

    def _on_nodes(self) -> Iterator[tuple[processes.Process, str]]:
        spaces = {processes.space_of(self._cluster.hosts[node].pid) for node in layout.NODES}
        for process in processes.processes():
            if process.uid == layout.ALICE[1] and processes.space_of(process.pid) in spaces:
                environment = process.environ()
                named = environment.get("SLURM_JOB_NAME", "").removeprefix("afb-").rpartition("-")[0].rpartition("-")[0]
                # Redis overwrites its environment; where it works tells.
                places = (environment.get("AFB_RUN_DIR", ""), _working_folder(process.pid), process.command)
                found = next((match[1] for text in places if (match := _RUN.search(text))), "")
                yield process, found or named

    @property
    def unknown(self) -> list[str]:
        """Processes of users on nodes that bear no run's name and stayed for a second."""
        return sorted(what for what, looks in self._unnamed.items() if looks >= _STAYS)

    def left(self, run: str, after: float) -> list[str]:
        """Return what of a run was seen at or after a time."""
        return sorted({what for at, what in self._seen.get(run, ()) if at >= after})

    def gone_s(self, run: str, after: float) -> float:
        """Return how long after a time something of a run was last seen; 0 for not at all."""
        return max((at - after for at, _ in self._seen.get(run, ()) if at > after), default=0.0)

    def _loop(self) -> None:
        while not self._over.wait(INTERVAL_S):
            self.look()

    @contextmanager
    def going_on(self) -> "Iterator[Watch]":
        """Look all the time."""
        thread = threading.Thread(target=self._loop)
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            thread.join()


def _working_folder(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""


class Account:
    """What became of the jobs that runs had planned."""

    def __init__(self, place: Place, watch: Watch, runs: Sequence[str]) -> None:
        self.planned: list[str] = []
        self.twice: list[str] = []
        """Names that are two jobs in Slurm."""
        self.ran_twice: list[str] = []
        """Names of which two jobs have claimed the folder."""
        self.never: list[str] = []
        """Names that never ran."""
        self.unstaged = 0
        for run in runs:
            folder = place.on_site(run)
            if not (folder / "plan.json").exists():
                self.unstaged += 1
                continue
            tokens = [job["token"] for job in json.loads((folder / "plan.json").read_text())["jobs"]]
            self.planned += tokens
            self.twice += [token for token in tokens if len(watch.ids.get(token, ())) > 1]
            for token in tokens:
                owners = {json.loads(path.read_text())["job_id"] for path in folder.glob(f"jobs/{token}/claim/*/owner.json")}
                (self.never if not owners else self.ran_twice if len(owners) > 1 else []).append(token)
        self.taken = sum(len(watch.ids.get(token, ())) for token in self.planned)
        shown = {number for numbers in watch.ids.values() for number in numbers}
        self.unshown = sorted(watch.taken() - shown)

    @property
    def good(self) -> bool:
        """Whether each planned job ran once."""
        return not (self.twice or self.ran_twice or self.never or self.unshown)

    def lines(self) -> Iterator[str]:
        """Yield lines to print."""
        yield f"  jobs planned: {len(self.planned)}; jobs that Slurm took: {self.taken}"
        yield f"  names with two jobs in Slurm: {len(self.twice)} {self.twice or ''}".rstrip()
        yield f"  jobs that ran twice: {len(self.ran_twice)} {self.ran_twice or ''}".rstrip()
        yield f"  planned jobs that never ran: {len(self.never)} {self.never or ''}".rstrip()
        if self.unstaged:
            yield f"  runs that never came to the site: {self.unstaged}"
        if self.unshown:
            yield f"  jobs of slurmctld's log that squeue never showed: {self.unshown}"
