"""Executes a plan: submits its jobs, watches them, and sees to it that they end.

Every effect is journaled before and after. The engine holds no truth of its own: killed at any moment, another one
finds the same state in the run folder and in the submitter, and goes on.
"""

import asyncio
import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Optional, TypeVar

from attrs import define, field

from ..errors import AccessError, AifactoryBenchError, LockedError, RunError, SubmitError, TransportError
from ..events import Listener, RunEvent, now
from ..node.exit_record import VERSION as EXIT_RECORD_VERSION
from ..node.paths import RunPaths
from ..plan import Plan, PlannedJob
from ..submitters.base import JobState, JobStatus, Submitter
from ..submitters.disk import site_error
from .blind import stop_blindly
from .collect import Status
from .journal import Journal
from .lock import ControllerLock, is_held
from .watch import NodeWatcher

CANCEL_AFTER_S = 8.0
"""From the stop file to TERM."""
KILL_AFTER_S = 12.0
"""From the stop file to KILL."""
HEARTBEAT_S = 5.0
RETRY_S = 2.0
"""Between attempts at what has to wait; a connection that is lost has pauses of its own."""
BUSY_AGAIN_S = 10.0
"""The longest of them."""


T = TypeVar("T")


@define
class _Stop:
    reason: str
    since: float
    written: bool = False
    cancelled: bool = False
    killed: bool = False


@define
class Engine:
    """One execution of one plan by one controller."""

    plan: Plan
    paths: RunPaths
    submitter: Submitter
    listener: Listener
    lock: Optional[ControllerLock]
    """None: only follow, and write nothing."""
    clock: Callable[[], float] = time.monotonic
    statuses: Mapping[str, JobStatus] = field(factory=dict, init=False)
    """The latest of every job ever seen: a job that was submitted is never taken for one that was not."""
    error: "Optional[dict[str, str]]" = field(default=None, init=False)
    _journal: Optional[Journal] = field(default=None, init=False)
    _stop: Optional[_Stop] = field(default=None, init=False)
    _detached: bool = field(default=False, init=False)
    _wake: asyncio.Event = field(factory=asyncio.Event, init=False)
    _left: asyncio.Event = field(factory=asyncio.Event, init=False)
    _given_up: "set[str]" = field(factory=set, init=False)
    _intended: "set[str]" = field(factory=set, init=False)
    """Tokens whose submission the journal has announced."""
    _settled: "set[str]" = field(factory=set, init=False)
    """Tokens of jobs that have ended and whose ranks all have a last word."""
    _last_change: float = field(default=0.0, init=False)
    _last_heartbeat: float = field(default=float("-inf"), init=False)
    _lease: int = field(default=0, init=False)
    _trouble: str = field(default="", init=False)
    """What was last told of what has to wait."""
    _watcher: NodeWatcher = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._watcher = NodeWatcher(self.plan, self.paths)

    def request_stop(self, reason: str) -> None:
        """End all jobs, keeping what was measured."""
        if self._stop is None:
            self._stop = _Stop(reason, self.clock())
            self._wake.set()

    def request_detach(self) -> None:
        """Leave the jobs to themselves and end."""
        self._detached = True
        self._left.set()
        self._wake.set()

    @property
    def asked_to_end(self) -> bool:
        """Whether the run is to be stopped or left."""
        return self._stop is not None or self._detached

    def extend(self, plan: Plan) -> None:
        """Go on with a plan that has more jobs and points than the one so far; also for a further `execute`."""
        self.plan = plan
        self._watcher.plan = plan
        self._wake.set()

    def ended(self, token: str) -> bool:
        """Whether a job will not run any more."""
        return token in self._given_up or (token in self.statuses and self.statuses[token].state.final)

    async def execute(self) -> Status:
        """Run the plan to its end and return how it ended."""
        self.submitter.driving = self.lock is not None
        if self.lock is None:
            return await self._follow()
        try:
            self._journal = Journal(self.paths.journal)
            self._journal.append("attached", pid=os.getpid(), host=socket.gethostname())
            status = await self._drive()
            self._journal.append("detached" if status == "detached" else "finished", **_said(status))
        except (OSError, AifactoryBenchError) as error:
            # The controller's own disk failed it; jobs must not pay for that by running on unseen.
            self._close_journal()
            self.fail(error)
            await stop_blindly(self.submitter, self._look, self._live, self.clock, gone=isinstance(error, RunError))
            status = "failed"
        finally:
            self._close_journal()
        self._emit(now("finished", status=status))
        return status

    async def _drive(self) -> Status:
        """Submit, poll and stop until no job is left, as the one that may write."""
        while True:
            try:
                status = await self._unless_left(self._turn())
            except LockedError as error:
                self._emit(now("warning", text=str(error)))
                return "detached"
            except TransportError as error:
                if self._leaves_for(error):
                    return "detached"
            else:
                if status is not None or self._detached:
                    return status or "detached"
            await self._pause()

    async def _unless_left(self, step: "Coroutine[Any, Any, T]") -> "Optional[T]":
        """Return what a step returns; it is given up when the run is left, as a site that is out of reach may take long."""
        task, leave = asyncio.create_task(step), asyncio.create_task(self._left.wait())
        try:
            await asyncio.wait({task, leave}, return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            task.cancel()
            leave.cancel()
            await asyncio.gather(task, leave, return_exceptions=True)

    async def _look(self) -> None:
        self._observe(await self.submitter.poll())

    async def _turn(self) -> Optional[Status]:
        """Look once, and do what is to be done now; return how the run ended, or None while it goes on.

        Every step may be made again: one that a lost connection cut short is.
        """
        await self._show_life()
        await self._look()
        self._tell_trouble(self.submitter.trouble)
        await self._settle()
        if self._detached:
            return "detached"
        if self.paths.stop_file("all").exists():
            self.request_stop("stopped from elsewhere")
        if self._stop is None:
            await self._submit_what_may_run()
            self._tell_trouble(self.submitter.trouble)
        if self._stop is not None:
            await self._stop_jobs(self._stop)
        if self._over():
            return "failed" if self.error else "interrupted" if self._stop else "finished"
        return None

    def _leaves_for(self, error: TransportError) -> bool:
        """Return whether the run is left to itself because the site cannot be reached; jobs do not suffer for that."""
        self._tell_trouble(str(error))
        if isinstance(error, AccessError):  # asking again without a person would only lock the account
            self.error = self.error or {"code": error.code, "text": error.text, "hint": error.hint}
            return True
        return self._detached

    def _tell_trouble(self, text: str) -> None:
        if text and text != self._trouble:
            self._emit(now("warning", text=text))
        self._trouble = text

    async def _stop_jobs(self, stop: _Stop) -> None:
        if not stop.written:
            self._log("stop_intent", reason=stop.reason)
            self._emit(now("stopping", reason=stop.reason))
            await self.submitter.write("stop/all", stop.reason + "\n")
            stop.written = True
        waiting = [token for token, status in self.statuses.items() if status.state is JobState.PENDING]
        if waiting and self.submitter.queues:
            await self.submitter.cancel(waiting)
        await self._escalate(stop)

    async def _follow(self) -> Status:
        """Watch a run as long as another controller drives it; `finished`: none does any more."""
        while True:
            try:
                await self._unless_left(self._look())
            except TransportError as error:
                if self._leaves_for(error):
                    return "detached"
            else:
                # Whether jobs run says little: between two stages none does, and a controller that was killed leaves some.
                if not is_held(self.paths.lock) and not self.submitter.driven_elsewhere:
                    return "detached" if self.asked_to_end else "finished"
            if self.asked_to_end:
                return "detached"
            await self._pause()

    async def _show_life(self) -> None:
        self._lease += 1
        await self.submitter.write("lease", f"{socket.gethostname()} {os.getpid()} {self._lease}\n")
        if self.lock is not None and self.clock() - self._last_heartbeat >= HEARTBEAT_S:
            self.lock.heartbeat()
            self._last_heartbeat = self.clock()

    def _observe(self, statuses: Mapping[str, JobStatus]) -> None:
        for event in self._watcher.advance(statuses):
            self._changed()
            self._emit(event)
        for job in self.plan.jobs:
            status, before = statuses.get(job.token), self.statuses.get(job.token)
            if status is None or (before is not None and before.state is status.state and not _waits_anew(status, before)):
                continue
            self._changed()
            self._emit(now("job_state", job.name, state=status.state.value, text=status.text))
            if status.state.final:
                self._log("job_final", token=job.token, state=status.state.value, text=status.text)
                self._emit(now("job_ended", job.name, state=status.state.value, text=status.text))
        self.statuses = {**self.statuses, **statuses}

    async def _submit_what_may_run(self) -> None:
        may_run: list[PlannedJob] = []
        most = self.plan.max_jobs - len(self._live())
        for job in self.plan.jobs:
            if job.token in self.statuses or job.token in self._given_up:
                continue
            if self.asked_to_end or len(may_run) >= most:
                break
            lost = [token for token in job.services if self.ended(token)]
            if lost:
                text = f"{job.name} was not submitted: {self.plan.job(lost[0]).name}, which it needs, has ended"
                self._given_up.add(job.token)
                self._emit(now("warning", job.name, text=text))
                await self._speak_for(job, "no_endpoint", text)
            elif job.submit == "at_once" or all(self._watcher.published(token) for token in job.services):
                may_run.append(job)
        if may_run:
            await self._submit(may_run)

    async def _submit(self, jobs: "list[PlannedJob]") -> None:
        for job in jobs:
            if job.token not in self._intended:
                self._log("submit_intent", token=job.token)
                self._intended.add(job.token)
        try:
            answers = await self.submitter.submit_all(jobs)
        except TransportError:
            raise
        except AifactoryBenchError as error:
            self.fail(error)
            return
        new: dict[str, JobStatus] = {}
        for job, answer in zip(jobs, answers, strict=True):
            if isinstance(answer, SubmitError):
                self.fail(answer)
            elif answer is not None:
                self._log("submitted", token=job.token, job_id=answer)
                new[job.token] = JobStatus(job.token, answer, JobState.PENDING)
                self._changed()
                self._emit(now("submitted", job.name, job_id=answer, token=job.token))
        self.statuses = {**self.statuses, **new}

    async def _escalate(self, stop: _Stop) -> None:
        waited_s = self.clock() - stop.since
        left = self._live()
        if waited_s > CANCEL_AFTER_S and not stop.cancelled:
            stop.cancelled = True
            await self.submitter.cancel(left)
        if waited_s > KILL_AFTER_S and not stop.killed:
            stop.killed = True
            self._log("kill_intent", tokens=left)
            await self.submitter.kill(left)

    async def _settle(self) -> None:
        """See to jobs that were killed from outside: end what they left, and say for them that they have ended."""
        for job in self.plan.jobs:
            status = self.statuses.get(job.token)
            if status is None or not status.state.final or job.token in self._settled:
                continue
            self._settled.add(job.token)
            if not self._watcher.ended(job):
                await self.submitter.kill([job.token])
                await self._speak_for(job, "failed", status.text or "it ended without a word")

    async def _speak_for(self, job: PlannedJob, outcome: str, text: str) -> None:
        """Write the last word of ranks that have none and will have none: jobs that wait for their end look for it."""
        record = json.dumps({"v": EXIT_RECORD_VERSION, "outcome": outcome, "text": text}) + "\n"
        for rank in range(job.ranks):
            path = self.paths.job(job.token).rank(rank).exit
            if not path.exists():
                await self.submitter.write(str(path.relative_to(self.paths.folder)), record)

    def _live(self) -> "list[str]":
        return [token for token, status in self.statuses.items() if not status.state.final]

    def fail(self, error: "AifactoryBenchError | OSError") -> None:
        """Stop the run for an error; the first one is told."""
        if isinstance(error, OSError):
            error = site_error(error, self.paths.folder)
        if self.error is None:
            self.error = {"code": error.code, "text": error.text, "hint": error.hint}
        self.request_stop(error.text)

    def _over(self) -> bool:
        """Whether no job runs and none will be submitted."""
        submitted = [job for job in self.plan.jobs if job.token in self.statuses]
        none_to_come = (
            self._stop is not None
            or self.lock is None
            or all(job.token in self.statuses or job.token in self._given_up for job in self.plan.jobs)
        )
        return none_to_come and all(self.statuses[job.token].state.final for job in submitted)

    async def _pause(self) -> None:
        # Shown life at most when it is polled, a lease must be renewed well before it ends.
        interval_s = self.submitter.interval_s(self.clock() - self._last_change, ending=self._stop is not None)
        if self._trouble:
            interval_s = max(RETRY_S, min(interval_s, BUSY_AGAIN_S))
        if self.plan.lease_s is not None:
            interval_s = min(interval_s, self.plan.lease_s / 8)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._wake.wait(), interval_s)
        self._wake.clear()

    def _changed(self) -> None:
        self._last_change = self.clock()

    def _log(self, type: str, **data: object) -> None:
        if self._journal is not None:
            self._journal.append(type, **data)

    def _close_journal(self) -> None:
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def _emit(self, event: RunEvent) -> None:
        self.listener(event)


def _waits_anew(status: JobStatus, before: JobStatus) -> bool:
    """Whether a job that waits in a queue waits for something else than before."""
    return status.state is JobState.PENDING and status.text != before.text


def _said(status: Status) -> "dict[str, str]":
    return {"reason": "asked to"} if status == "detached" else {"status": status}
