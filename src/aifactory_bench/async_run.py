"""One run as its controller holds it: to be awaited, stopped, left alone, extended."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Optional

from attrs import evolve

from .errors import LockedError
from .events import now
from .node.files import write_json
from .node.paths import RunPaths
from .plan import Plan
from .report.calibrated import with_calibrations
from .report.document import summary_from_json, summary_to_json
from .report.summary import summarise
from .report.text import Report, render_summary
from .runs.collect import Status, collect
from .runs.engine import Engine
from .runs.lock import ControllerLock
from .runs.recovery import join, live_jobs, next_attempt, unfinished_points
from .runs.retry import failed_nodes, lost_points
from .runs.store import read_plan, read_summary
from .submitters.base import Submitter
from .submitters.disk import gone

Replan = Callable[[Plan, RunPaths, "Sequence[tuple[str, str]]", "Sequence[str]"], "tuple[Plan, bytes]"]
"""Plans another attempt at measurements (client, point id) of a run, away from some nodes; returns the plan and the program."""


class AsyncRun:
    """One run: its jobs go on whether or not anybody awaits it."""

    def __init__(self, plan: Plan, paths: RunPaths, engine: Engine, submitter: Submitter, replan: Replan) -> None:
        self._replan_left = replan
        self._plan = plan
        self._paths = paths
        self._engine = engine
        self._submitter = submitter
        self._task: Optional[asyncio.Task[Report]] = None

    @property
    def run_id(self) -> str:
        """Name of the run."""
        return self._plan.run_id

    @property
    def folder(self) -> Path:
        """The controller's run folder."""
        return self._paths.folder

    @property
    def paths(self) -> RunPaths:
        """Where things lie in the run folder."""
        return self._paths

    @property
    def plan(self) -> Plan:
        """What has been planned of it so far."""
        return self._plan

    @property
    def done(self) -> bool:
        """Whether the controller has nothing left to do for the run."""
        return self._task is not None and self._task.done()

    async def wait(self) -> Report:
        """Wait for the run's end and return its summary; giving up waiting does not stop the run."""
        assert self._task is not None
        return await asyncio.shield(self._task)

    async def cancel(self) -> Report:
        """Stop all jobs, keep what was measured, and return the summary."""
        self._engine.request_stop("interrupted")
        return await self.wait()

    def request_stop(self) -> None:
        """Begin to stop all jobs; `wait` returns when they have ended."""
        self._engine.request_stop("interrupted")

    def detach(self) -> None:
        """Leave the jobs to themselves: they finish without a controller, or end by their lease."""
        self._engine.request_detach()

    def summary(self) -> Report:
        """Return the summary of what has been measured so far."""
        if self._task is not None and self._task.done() and not self._task.cancelled():
            return self._task.result()
        return render_summary(summarise(self._plan, collect(self._plan, self._paths, "detached", self._engine.statuses)))

    def state(self, token: str) -> str:
        """Return how a job stands: its state, or `not submitted`."""
        status = self._engine.statuses.get(token)
        return status.state.value if status is not None else "not submitted"

    async def stop_job(self, name: str) -> None:
        """Ask one job to end, by its name in the recipe."""
        await self._submitter.write(f"stop/{name}", "stopped by request\n")

    async def extend(self, new: Plan, program: bytes) -> None:
        """Add jobs and points to the run while it goes on."""
        plan = evolve(
            self._plan,
            jobs=self._plan.jobs + new.jobs,
            points=self._plan.points + new.points,
            limits=new.limits,
            node_modules=new.node_modules,
            node_digest=new.node_digest,
        )
        await self._submitter.stage(plan, self._paths.recipe.read_text(encoding="utf-8"), program)
        self._plan = plan
        self._engine.extend(plan)

    async def wait_for(self, tokens: Sequence[str]) -> None:
        """Wait until jobs have ended, or the run has."""
        while not self.done and not all(self._engine.ended(token) for token in tokens):
            await asyncio.sleep(0.05)

    def start(self, *, again: bool) -> None:
        """Begin to drive the run; again: measure points anew that earlier attempts left unfinished."""
        self._task = asyncio.create_task(self._execute(again=again), name=f"aifactory-bench {self.run_id}")

    async def _execute(self, *, again: bool) -> Report:
        try:
            status: Status = "finished"
            if self._engine.lock is None:
                status = await self._follow()
            if self._engine.lock is not None:
                status = await self._drive(again=again)
            return await self._finish(status)
        finally:
            await self._submitter.close()
            if self._engine.lock is not None:
                self._engine.lock.release()

    async def _drive(self, *, again: bool) -> Status:
        planned = again and await self._replan()
        status: Status = "finished"
        if not again or planned or await self._goes_on():
            status = await self._engine.execute()
        # What jobs that ran when we came have left undone is done now; what a new attempt leaves would only fail again.
        if again and not planned and status == "finished" and await self._replan():
            status = await self._engine.execute()
        while status == "finished" and next_attempt(self._plan) <= self._plan.retries and await self._replan(only_lost=True):
            status = await self._engine.execute()
        return status

    async def _follow(self) -> Status:
        """Follow the controller that drives the run; one that ends without a summary leaves the run, and its lock, to us."""
        while True:
            status = await self._engine.execute()
            if status != "finished" or self._paths.summary.exists():
                return status
            if self._paths.stop_file("all").exists():  # it was stopped on purpose: who only followed does not begin it anew
                return "interrupted"
            if not self._paths.folder.is_dir():
                raise gone(self._paths.folder)
            try:
                self._engine.lock = ControllerLock.acquire(self._paths.lock)
            except LockedError:  # somebody else was faster, and is followed now
                continue
            self._plan = read_plan(self._paths)
            self._engine.extend(self._plan)
            self._engine.listener(now("warning", text="the controller of this run is gone: this one drives it now"))
            return status

    async def _replan(self, *, only_lost: bool = False) -> bool:
        """Plan a further attempt at what is missing, unless jobs of the run are still at it; return whether there is one.

        Args:
            only_lost: Only at what the site lost before it was measured.
        """
        statuses = await self._submitter.poll()
        if self._engine.asked_to_end or live_jobs(self._plan, statuses):
            return False
        left = unfinished_points(self._plan, self._paths)
        if only_lost:
            left = lost_points(self._plan, self._paths, statuses, left)
        if not left:
            return False
        wanted = [(point.client, point.id) for point in left]
        new, program = self._replan_left(self._plan, self._paths, wanted, failed_nodes(statuses))
        self._plan = join(self._plan, new, statuses)
        await self._submitter.remove("stop/all")
        recipe = self._paths.recipe.read_text(encoding="utf-8")
        await self._submitter.stage(self._plan, recipe, program)
        self._paths.summary.unlink(missing_ok=True)  # of an earlier end; this run has none now
        self._engine.listener(now("warning", text=f"{len(left)} measurements are missing: they are made now"))
        self._engine.extend(self._plan)
        return True

    async def _goes_on(self) -> bool:
        """Whether jobs run, or the run was stopped before what is missing could be planned."""
        if live_jobs(self._plan, await self._submitter.poll()):
            return True
        return self._engine.asked_to_end and bool(unfinished_points(self._plan, self._paths))

    async def _finish(self, status: Status) -> Report:
        lock = self._engine.lock
        if lock is None:
            document = read_summary(self._paths) if status == "finished" else None
            if document is not None:  # as whoever drove the run saw it
                return render_summary(summary_from_json(document))
            self._plan = read_plan(self._paths)  # whoever drives the run may have planned more since
        statuses = self._engine.statuses or await self._submitter.poll()
        result = collect(self._plan, self._paths, status, statuses, self._engine.error)
        summary = with_calibrations(summarise(self._plan, result), self._paths.folder.parent)
        if lock is not None and status != "detached" and lock.held:  # else the folder is gone, or somebody else's
            try:
                write_json(self._paths.summary, summary_to_json(summary))
            except OSError as error:  # what was measured is shown all the same
                self._engine.fail(error)
                failed: Status = "failed" if status == "finished" else status
                summary = evolve(summary, status=failed, error=summary.error or self._engine.error)
        return render_summary(summary)
