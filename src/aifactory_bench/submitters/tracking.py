"""What a Slurm job has come to, from the queue, from its own records, and from the silence of both."""

from collections.abc import Sequence
from typing import Optional

from attrs import define

from ..node.paths import JobPaths
from ..plan import PlannedJob
from ..slurm.queue import QueueRow
from ..slurm.reasons import judge
from ..slurm.states import Meaning, interpret
from .base import JobState, JobStatus
from .endings import all_said, begun_ranks, how_it_ended, last_restart, owner_id, tail

UNBEGUN_S = 10.0
"""The longest wait for the last words of a job of which nothing was ever seen."""


@define
class TrackedJob:
    """What is known of one job; times are those of the controller's clock."""

    job: PlannedJob
    job_id: Optional[str] = None
    """None: not submitted, as far as is known."""
    owner: Optional[str] = None
    """Id of the job that has claimed the folder: others of its name do nothing."""
    twins: "tuple[str, ...]" = ()
    """Ids of all jobs of its name that the queue showed alive."""
    since: float = float("-inf")
    """When its submission was answered; a poll that was asked for before says nothing of it."""
    status: Optional[JobStatus] = None
    waiting: bool = False
    """It waits in the queue, and has never begun: it has no files."""
    absent: int = 0
    """Polls in a row that did not show it."""
    absent_since: float = 0.0
    asked_sacct: float = float("-inf")
    """When sacct was last asked for it."""
    unaccounted: int = 0
    """Answers of sacct that did not know it either."""
    over_since: Optional[float] = None
    """When Slurm first said that it is over, as long as its last words are waited for."""
    final: Optional[Meaning] = None
    """What Slurm said then: it holds when Slurm has forgotten the job before its last words came."""
    restart: int = 0
    """Last words of an earlier execution, before Slurm put it back into the queue, do not count."""
    said: int = -1
    """The execution of which there were last words at the poll before; -1: of none."""
    refused_try: str = ""
    """The submission that certainly failed, if it is the last one."""
    waits: str = ""
    """Why its submission has to wait."""
    unsure: bool = False
    """Its submission may have got through, and it has not been found so far."""
    stuck: int = 0
    """Polls in a row with a reason that waiting does not help."""
    pending_since: Optional[float] = None
    """Since when it waits for its turn in the queue, and not for other jobs."""
    given_up: str = ""
    """Why it was cancelled before it started."""
    told: str = ""
    """How it was asked to end: `term`, `kill`, or not at all."""
    told_at: float = float("-inf")
    nodes: str = ""

    @property
    def over(self) -> bool:
        """Whether it will not run any more."""
        return self.status is not None and self.status.state.final

    @property
    def targets(self) -> "list[str]":
        """What ends it: its id and those of its twins, or its name where none is known."""
        ids = {*self.twins, self.job_id or ""} - {""}
        return sorted(ids) or [self.job.token]

    def see(
        self,
        rows: Sequence[QueueRow],
        paths: JobPaths,
        asked_at: float,
        now: float,
        lag_s: float,
        max_pending_s: Optional[float] = None,
    ) -> None:
        """Take what one answer of the queue says.

        Args:
            rows: Those with the job's name; a second one is a submission that fences itself.
            paths: The controller's copy of its folder.
            asked_at: When the queue was asked.
            now: Time of the controller's clock.
            lag_s: How long files of a node may take to be seen.
            max_pending_s: How long it may wait in the queue; None: for ever.
        """
        if self.over:
            return
        row = self._choose(rows, paths)
        if self.job_id is None:
            return
        if row is not None:
            self.absent = self.unaccounted = 0
            if self.nodes and not row.nodes and not interpret(row.word).final:  # it was taken off them
                self.restart = max(self.restart, last_restart(paths, self.job.ranks) + 1)
            self.nodes = row.nodes or self.nodes
            self.judge(interpret(row.word), row.reason, paths, now, lag_s)
            self._limit_waiting(row.reason, now, max_pending_s)
        elif self.final is not None:
            self.judge(self.final, "", paths, now, lag_s)
        elif asked_at > self.since:
            self.absent += 1
            self.absent_since = asked_at if self.absent == 1 else self.absent_since
            self.waiting = False
            # One that was stopped may have been so to be put back into the queue, and the queue be empty by mistake.
            if (self.absent > 1 or (self.said < 0 and not self.nodes)) and self._completed(paths):
                self.end(paths)
        self.said = last_restart(paths, self.job.ranks)

    def _completed(self, paths: JobPaths) -> bool:
        said = all_said(paths, self.job.ranks, self.restart)
        return said and how_it_ended(paths, self.job.ranks)[0] is JobState.COMPLETED

    def vanish(self, paths: JobPaths) -> None:
        """Note that nobody knows it any more: its last words decide, and without them it is lost."""
        if all_said(paths, self.job.ranks, self.restart):
            self.end(paths)
        else:
            told = tail(paths.log)
            why = f"; its log ends with: {told}" if told else ", nor a log: do the nodes see the folder of runs?"
            self.end(paths, JobState.LOST, f"Slurm does not know it any more, and it left no last word{why}")

    def lives(self) -> None:
        """Note that it has just written something: the queue is wrong if it does not show it."""
        self.absent = 0

    def _choose(self, rows: Sequence[QueueRow], paths: JobPaths) -> Optional[QueueRow]:
        """Return the row that is the job, and note its id: another controller may have submitted it, or it is there twice."""
        if self.job_id is None and paths.job_id.is_file():
            text = paths.job_id.read_text(encoding="utf-8", errors="replace").strip()
            self.job_id = text if text.isdecimal() else None
        # A refusal can leave one that failed and never had a node.
        rows = [row for row in rows if row.job_id == self.job_id or row.nodes or interpret(row.word).state != "failed"]
        alive = [row.job_id for row in rows if not interpret(row.word).final]
        ids = [row.job_id for row in rows]
        self.twins = tuple(alive)
        self.owner = self.owner or owner_id(paths)
        if self.owner is not None:
            self.job_id = self.owner
        elif (self.job_id is None and ids) or (alive and self.job_id not in alive):
            self.job_id = min(alive or ids, key=lambda job_id: (len(job_id), job_id))
        return next((row for row in rows if row.job_id == self.job_id), None)

    def judge(self, meaning: Meaning, reason: str, paths: JobPaths, now: float, lag_s: float) -> None:
        """Take Slurm's word for its state; the end of a job is believed when its own last words are there, or overdue."""
        began = bool(self.nodes or begun_ranks(paths))
        self.waiting = meaning.state == "pending" and not began
        if not meaning.final:
            self.over_since = self.final = None
            if meaning.state == "pending":
                self.restart = max(self.restart, self.said + 1)
            self._go_on(meaning, reason)
            return
        self.over_since = now if self.over_since is None else self.over_since
        self.final, state = meaning, JobState(meaning.state)
        # One that has no folder of a rank failed before our part of it began: then there is no last word to wait for.
        if state is not JobState.COMPLETED and not begun_ranks(paths):
            lag_s = min(lag_s, UNBEGUN_S)
        if all_said(paths, self.job.ranks, self.restart):
            # A requeue, a walltime or a lost node is Slurm's to know; how it ended otherwise, the job knows better.
            own = state in (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)
            self.end(paths, None if own else state, "" if own else f"Slurm says {meaning.word}")
        elif (not began and state is JobState.CANCELLED) or now - self.over_since >= lag_s:
            said = how_it_ended(paths, self.job.ranks)[1] if state in (JobState.COMPLETED, JobState.FAILED) else ""
            if said and not begun_ranks(paths) and not tail(paths.log):
                said += ", and left no log: do the nodes see the folder of runs?"
            # Completed without a last word is not completed.
            state = JobState.FAILED if state is JobState.COMPLETED else state
            self.end(paths, state, said or f"Slurm says {meaning.word}")

    def _go_on(self, meaning: Meaning, reason: str) -> None:
        if meaning.known or self.status is None:
            text = reason if meaning.state == "pending" else "" if meaning.known else f"state {meaning.word}"
            state = JobState(meaning.state)
            # A known word that says nothing of whether it waits or runs: what was known before stands.
            if state is JobState.UNKNOWN and meaning.known and self.status is not None:
                state = self.status.state
            self.status = JobStatus(self.job.token, self.job_id, state, text, self.nodes)
        verdict = judge(reason) if meaning.state == "pending" and reason else None
        if verdict is None or verdict.waits:
            self.stuck = 0
            return
        self.stuck += 1
        if self.stuck > 1 and not self.given_up:
            self.given_up = f"it would never have started ({reason}): {verdict.advice}"

    def _limit_waiting(self, reason: str, now: float, max_pending_s: Optional[float]) -> None:
        waits = self.status is not None and self.status.state is JobState.PENDING and reason != "Dependency"
        self.pending_since = (now if self.pending_since is None else self.pending_since) if waits else None
        if max_pending_s is None or self.pending_since is None or now - self.pending_since <= max_pending_s:
            return
        if not self.given_up:
            why = f" ({reason})" if reason else ""
            self.given_up = f"it waited in the queue for more than {max_pending_s:g} s{why}, which is what max_pending allows"

    @property
    def hopeless(self) -> bool:
        """Whether it is to be cancelled because it will not start, or not in time."""
        return bool(self.given_up) and self.status is not None and self.status.state is JobState.PENDING

    def end(self, paths: JobPaths, state: Optional[JobState] = None, text: str = "") -> None:
        """Note its end; state: None where its own records tell."""
        if state is None:
            state, text = how_it_ended(paths, self.job.ranks)
        # One that began before it was cancelled has an end of its own.
        if self.given_up and (state is JobState.CANCELLED or not (self.nodes or begun_ranks(paths))):
            state, text = JobState.FAILED, self.given_up
        self.status = JobStatus(self.job.token, self.job_id, state, text, self.nodes)
