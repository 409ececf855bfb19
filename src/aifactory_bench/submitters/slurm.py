"""Runs jobs through Slurm: scripts go to the site and are submitted there, each once; one poll tells how all of them stand.

Whatever is lost on the way, a call may be made again: what was done is looked up before it is done.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Optional, Union

from ..errors import (
    AifactoryBenchError,
    LockedError,
    OutcomeUnknownError,
    RunError,
    SiteError,
    SubmitError,
    TransportError,
)
from ..node.files import make_private_folder, write_atomic
from ..node.paths import RunPaths
from ..plan import Plan, PlannedJob, plan_to_json
from ..slurm.accounting import AccountingRow, accounting_is_off, parse_sacct, sacct_argv
from ..slurm.queue import Queue, QueueRow
from ..slurm.states import interpret
from ..transports.base import Completed
from .answer import NOTHING, RunPart, request_lines
from .base import NO_FILES, JobState, JobStatus, Submitter
from .disk import clear_errors
from .mirror import Mirror
from .slurm_site import FRESH_S, SlurmSite, is_dead
from .staging import bring
from .submission import BEGIN_S, CALL_S, MOST_AT_ONCE, SBATCH_S, Line, archive_of, judge_line, options_of, read_lines, word_of
from .tracking import TrackedJob

BUSY_INTERVAL_S = 5.0
"""Between polls while something changes."""
ENDING_INTERVAL_S = 2.0
"""Between polls while jobs are being stopped."""
CALM_INTERVAL_S = 60.0
"""The longest time between polls."""
CALM_SHARE = 0.25
"""Of the time in which nothing changed, to the next poll."""
EXPIRY_S = 3 * CALM_INTERVAL_S
"""A controller that has shown no life for so long drives a run no more."""
LOOKS = 3
"""Look-ups that find nothing before a submission of unknown outcome is made again; in a queue, before a job is missing."""
ABSENT_S = 30.0
"""Time in which they lie."""
SACCT_EVERY_S = 60.0
SACCT_NAMES = 1000
"""Jobs that sacct is asked for at once."""
LOST_ANYWAY_S = 900.0
"""For which a job is in no queue before it is lost even if sacct does not answer, or says that it runs."""
TELL_AGAIN_S = 10.0
"""After which a job that was told to end, and has not, is told again."""
MOST_A_TURN = 200
"""Jobs that are submitted before anybody is listened to again."""
WORTH_A_CALL = 10
LEASE_SHARE = 0.1
"""Of a lease, after which it is renewed."""
MOST_ANSWERS = 16
"""In a row for the files of one poll; what is not in them comes with the next."""


class SlurmSubmitter(Submitter):
    """Jobs of one run on one Slurm site."""

    queues = True

    def __init__(self, paths: RunPaths, site: SlurmSite, run_id: str, plan: Optional[Plan] = None) -> None:
        """Plan: of a run that is taken up; a new one comes with `stage`."""
        self._paths = paths
        self._site = site
        self._run_folder = f"{site.site.runs}/{run_id}"
        self._prefix = f"afb-{run_id}-"
        self._mirror = Mirror(paths.folder)
        self._base = ("", "")
        """What the mirror stood at when the last answer was asked for."""
        self._lease = ""
        self._interval_s = 0.0
        """To the present poll from the one before; of several runs those that are calm wait for each other's."""
        self._dead_holder = ""
        self._jobs: dict[str, TrackedJob] = {}
        self._part: Optional[RunPart] = None
        self._queue: "Optional[tuple[Queue, float]]" = None
        """An answer of squeue, and when it was asked, that waits for the files that belong to it."""
        self._failed: Optional[AifactoryBenchError] = None
        """Why the last answer could not be taken."""
        self._gone = 0
        """Answers in a row that found no run folder."""
        self._gone_since = 0.0
        self._stopping = False
        self._sacct_at = float("-inf")
        self._accounting = True
        self._max_pending_s: Optional[float] = None
        self._lease_s: Optional[float] = None
        self._shown_at = float("-inf")
        """When the site was last asked to renew the lease."""
        self._know(plan)
        site.join(self)

    def _know(self, plan: Optional[Plan]) -> None:
        if plan is not None:
            self._max_pending_s, self._lease_s = plan.max_pending_s, plan.lease_s
        for job in plan.jobs if plan is not None else ():
            self._jobs.setdefault(job.token, TrackedJob(job))

    def interval_s(self, unchanged_s: float, *, ending: bool) -> float:
        calm_s = min(self._site.longest_interval_s(CALM_INTERVAL_S), max(BUSY_INTERVAL_S, unchanged_s * CALM_SHARE))
        self._interval_s = ENDING_INTERVAL_S if ending else calm_s
        return self._interval_s

    # what goes to the site

    async def stage(self, plan: Plan, recipe: str, program: bytes, private: Mapping[str, str] = NO_FILES) -> None:
        again = self._paths.plan.exists()
        with clear_errors(self._paths.folder):
            for folder in (self._paths.folder, self._paths.stop):
                make_private_folder(folder)
            if not again:  # later stages leave it: its time is that of the run
                write_atomic(self._paths.recipe, recipe)
        done = await bring(self._site, self._run_folder, plan, recipe, program, private, again=again)
        self._check(done, "the run's files could not be put there")
        with clear_errors(self._paths.folder):
            write_atomic(self._paths.plan, plan_to_json(plan))
        self._know(plan)

    async def write(self, name: str, text: str) -> None:
        if name == "lease":  # it goes with the next poll
            self._lease = " ".join(text.split())
            return
        if name == "stop/all":  # nothing is submitted any more
            self._stopping = True
        done = await self._site.run("write", self._run_folder, name, stdin=text.encode())
        self._check(done, f"{name} could not be written")
        with clear_errors(self._paths.folder):
            make_private_folder((self._paths.folder / name).parent)
            write_atomic(self._paths.folder / name, text)

    async def remove(self, name: str) -> None:
        if name == "stop/all":
            self._stopping = False
        self._check(await self._site.run("remove", self._run_folder, name), f"{name} could not be removed")
        with clear_errors(self._paths.folder):
            (self._paths.folder / name).unlink(missing_ok=True)

    def _check(self, done: Completed, what: str) -> None:
        """Raise what a program complained about, if it failed.

        Raises:
            SiteError: it did.
        """
        if done.exit_code:
            raise SiteError(
                f"{self._site.site.name}: {self._run_folder}: {what}: {self._said(done)}",
                "check `runs` in the site's profile: the folder must be writable, have space left, and be seen by all nodes",
            )

    def _said(self, done: Completed) -> str:
        return " ".join(done.stderr.decode("utf-8", "replace").split())[:500] or f"exit code {done.exit_code}"

    # submission

    async def submit(self, job: PlannedJob) -> str:
        (answer,) = await self.submit_all([job])
        if isinstance(answer, SubmitError):
            raise answer
        if answer is None:
            raise OutcomeUnknownError(f"{job.name} is not submitted yet: {self.trouble}")
        return answer

    async def submit_all(self, jobs: Sequence[PlannedJob]) -> "list[Union[str, SubmitError, None]]":
        for job in jobs:
            self._jobs.setdefault(job.token, TrackedJob(job))
        self.trouble = ""
        answers: "list[Union[str, SubmitError, None]]" = []
        while not self.trouble and len(answers) < min(len(jobs), MOST_A_TURN):
            left = len(jobs) - len(answers)
            # A few that may go a moment later are not worth a channel of their own.
            allowed = self._site.may_submit(min(left, MOST_AT_ONCE), min(left, WORTH_A_CALL) if answers else 1)
            if not allowed:
                break
            answers += await self._submit_some([self._jobs[job.token] for job in jobs[len(answers) :][:allowed]])
        return answers + [None] * (len(jobs) - len(answers))

    async def _submit_some(self, now: "Sequence[TrackedJob]") -> "list[Union[str, SubmitError, None]]":
        answers: "list[Union[str, SubmitError, None]]" = [None] * len(now)
        asked = [(known.job, options_of(known.job, self._before(known.job))) for known in now]
        limits = (f"{self._site.site.unsure_s:.0f}", str(LOOKS), f"{SBATCH_S:.0f}", f"{BEGIN_S:.0f}")
        words = [word_of(known) for known in now]
        for known in now:  # until there is an answer
            known.unsure = True
        done = await self._site.run("submit", self._run_folder, *limits, *words, stdin=archive_of(asked), timeout_s=CALL_S)
        self._site.outdate()
        lines = read_lines(done.stdout)
        nothing = Line(text=self._said(done)) if done.exit_code else Line()
        for position, known in enumerate(now):
            answers[position] = answer = judge_line(known, lines.get(known.job.token, nothing), self._site.site.name)
            if isinstance(answer, str):
                known.job_id, known.since = answer, self._site.clock()
                known.status = known.status or JobStatus(known.job.token, answer, JobState.PENDING)
        self.trouble = self._waits()
        return answers

    def _waits(self) -> str:
        waits = [known.waits for known in self._jobs.values() if known.waits and not known.job_id]
        return waits[0] if waits and not self._stopping else ""

    def _before(self, job: PlannedJob) -> "list[TrackedJob]":
        return [self._jobs[token] for token in job.after if token in self._jobs]

    # what comes back

    def request(self) -> Iterator[str]:
        try:
            self._base = self._mirror.seen()
        except OSError:  # `keep` will say so, to this run alone
            self._base = ("none", NOTHING)
        self._shown_at = self._site.clock()
        return request_lines(
            run_folder=self._run_folder,
            holder=self._site.holder if self.driving else "",
            dead=self._dead_holder,
            expiry_s=EXPIRY_S,
            seen=self._base,
            lease=self._lease if self.driving else "",
            open_tokens=self._open(),
        )

    def _open(self) -> "list[str]":
        """Return the jobs whose files are wanted: all that may have begun."""
        started = {row.name for row in self._queue[0].rows if row.word != "PENDING"} if self._queue else set()
        # What this controller has not submitted, and did not find at first, nobody has.
        mine = self.driving and self._part is not None
        return [
            token
            for token, known in self._jobs.items()
            if token in started or not (known.over or known.waiting or (mine and known.job_id is None and not known.unsure))
        ]

    def take(self, queue: Optional[Queue], part: RunPart, asked_at: float) -> None:
        self._part, self._failed = part, None
        self.driven_elsewhere = part.state == "held" and not is_dead(part.text)
        self._dead_holder = part.text if part.state == "held" and not self.driven_elsewhere else ""
        if queue is not None:
            self._queue = (queue, asked_at)
        if part.state in {"gone", "away"}:
            self._gone += part.state == "gone"
            self._gone_since = asked_at if self._gone <= 1 else self._gone_since
        else:
            self._gone = 0
            try:
                with clear_errors(self._paths.folder):
                    self._mirror.keep(part, self._base)
            except SiteError as error:  # it is this run's alone
                self._failed = error
                return
            for token in {file.path.split("/")[1] for file in part.files if file.path.endswith((".jsonl", ".csv"))}:
                if token in self._jobs:
                    self._jobs[token].lives()

    def _see(self) -> None:
        """Judge the jobs by the last answer of the queue, once."""
        if self._queue is None:
            return
        (queue, asked_at), self._queue = self._queue, None
        rows: dict[str, list[QueueRow]] = {}
        for row in queue.rows:
            if row.name.startswith(self._prefix):
                rows.setdefault(row.name, []).append(row)
        now, lag_s = self._site.clock(), self._site.site.file_lag_s
        for token, known in self._jobs.items():
            known.see(rows.get(token, []), self._paths.job(token), asked_at, now, lag_s, self._max_pending_s)

    async def poll(self) -> Mapping[str, JobStatus]:
        await self._site.poll(self, max(FRESH_S, self._interval_s / 2))
        # A short lease is renewed more often than the queue is asked.
        if self.driving and self._lease_s is not None and self._site.clock() - self._shown_at >= self._lease_s * LEASE_SHARE:
            await self._site.fetch_more(self)
        for _ in range(MOST_ANSWERS):
            if self._part is None or not self._part.more or self._failed is not None:
                break
            await self._site.fetch_more(self)
        if self._failed is not None:
            raise self._failed
        self._see()
        self._check_run()
        await self._tell_again()
        await self._look_for_missing()
        return {token: known.status for token, known in self._jobs.items() if known.status is not None}

    def _check_run(self) -> None:
        """Say what the last answer means for the run as a whole.

        Raises:
            LockedError: another controller drives it.
            RunError: its folder is gone.
        """
        part = self._part
        self.trouble = self._waits()
        if part is None:
            return
        gone = self._gone >= LOOKS and self._site.clock() - self._gone_since >= ABSENT_S
        if gone and not (self._jobs and all(known.over for known in self._jobs.values())):
            raise RunError(
                f"{self._site.site.name}: the run folder is gone: {self._run_folder}", "it was moved or removed on the site"
            )
        if self.driven_elsewhere and self.driving:
            host = part.text.partition(":")[0]
            raise LockedError(f"another controller, on {host}, drives this run now", "this one only stops watching")
        if part.state in {"gone", "away"}:
            self.trouble = f"{self._run_folder} is not there: is its file system away?"
        elif part.state == "full" and self.driving:
            self.trouble = f"{self._run_folder} cannot be written: is there space left?"
        elif self._site.said:
            self.trouble = f"{self._site.site.name}: squeue: {self._site.said}"

    async def _look_for_missing(self) -> None:
        """Find out about jobs that the queue no longer shows, and that did not say themselves that they were completed."""
        now, lag_s = self._site.clock(), self._site.site.file_lag_s
        missing = [
            known
            for known in self._jobs.values()
            if known.absent >= LOOKS and now - known.absent_since >= ABSENT_S and not known.over
        ]
        if not missing or now - self._sacct_at < SACCT_EVERY_S:
            return
        self._sacct_at = now
        missing = sorted(missing, key=lambda known: known.asked_sacct)[:SACCT_NAMES]
        rows = await self._account(missing) if self._accounting else ()
        found: dict[str, AccountingRow] = {}
        for row in rows or ():  # of several with one name the one that we know, else the last
            if row.name not in found or row.job_id == self._jobs[row.name].job_id:
                found[row.name] = row
        for known in missing:
            known.asked_sacct = now
            given = found.get(known.job.token)
            meaning = interpret(given.word) if given is not None else None
            paths = self._paths.job(known.job.token)
            known.unaccounted += rows is not None and meaning is None
            sure = not self._accounting or known.unaccounted > 1
            limit_s = max(ABSENT_S, lag_s) if sure else LOST_ANYWAY_S
            if meaning is not None and meaning.final:
                known.judge(meaning, "", paths, now, lag_s)
            elif now - known.absent_since >= limit_s:
                known.vanish(paths)

    async def _account(self, missing: "Sequence[TrackedJob]") -> "Optional[tuple[AccountingRow, ...]]":
        """Return what sacct knows, None when it gives no answer; never asked again where no accounts are kept."""
        names = {known.job.token for known in missing}
        done = await self._site.run("command", *sacct_argv(sorted(names), "now-7days"))
        if done.exit_code:
            self._accounting = not accounting_is_off(done.exit_code, done.stderr.decode("utf-8", "replace"))
            return None if self._accounting else ()
        return tuple(row for row in parse_sacct(done.stdout.decode("utf-8", "replace")) if row.name in names)

    # ends

    async def cancel(self, tokens: Iterable[str]) -> None:
        await self._tell("term", tokens)

    async def kill(self, tokens: Iterable[str]) -> None:
        await self._tell("kill", tokens)

    async def _tell(self, how: str, tokens: Iterable[str]) -> None:
        """Ask Slurm to end jobs; one whose submission is not answered yet is asked for by its name."""
        targets: list[str] = []
        for token in tokens:
            known = self._jobs.get(token)
            targets += known.targets if known is not None else [token]
            if known is not None:
                known.told, known.told_at = how, self._site.clock()
        if not targets:
            return
        await self._site.run("cancel", how, *targets, timeout_s=120.0)
        self._site.outdate()

    async def _tell_again(self) -> None:
        """End jobs that will not start, and once more those that were told to and are still there: it may have been lost."""
        now = self._site.clock()
        live = [(token, known) for token, known in self._jobs.items() if not known.over and known.over_since is None]
        hopeless = [token for token, known in live if known.hopeless and not known.told and self.driving]
        if hopeless:
            await self.cancel(hopeless)
        for how in ("term", "kill"):
            late = [token for token, known in live if known.told == how and now - known.told_at >= TELL_AGAIN_S]
            if late:
                await self._tell(how, late)

    async def close(self) -> None:
        self._site.leave(self)
        if not self.driving or self.driven_elsewhere:
            return
        with contextlib.suppress(TransportError):
            unsure = [token for token, known in self._jobs.items() if known.unsure and not known.job_id]
            if self._stopping and unsure:  # one that comes later finds the stop file
                await self._site.run("cancel", "term", *unsure, timeout_s=120.0)
        with contextlib.suppress(TransportError):  # then it expires
            await self._site.run("release", self._run_folder, self._site.holder)
