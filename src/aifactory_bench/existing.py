"""Runs that were begun before, here or elsewhere: finding them, telling how they stand, stopping them from outside."""

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from .errors import LockedError, RunError, TransportError, UsageError
from .node.paths import RunPaths
from .plan import Plan
from .runs.lock import ControllerLock, is_held
from .runs.recovery import live_jobs, recorded_statuses
from .runs.status import RunStatus, read_status
from .runs.store import RunStore, read_plan, read_summary
from .sites.load import load_site
from .sites.model import Site
from .submitters.base import JobStatus, Submitter
from .submitters.open import Submitters

STOP_LIMIT_S = 30.0
"""In which jobs that are stopped from outside have to end."""
_LOOK_S = 0.2


@frozen
class ExistingRun:
    """One run."""

    plan: Plan
    paths: RunPaths
    submitter: Submitter


class ExistingRuns:
    """The runs of a folder and of a site."""

    def __init__(self, store: RunStore, site: Site, submitters: Submitters) -> None:
        self._store = store
        self._site = site
        self._submitters = submitters

    def site_of(self, plan: Plan) -> Site:
        """Return the site that a run is on: ours, or the one that it was begun on.

        Raises:
            UsageError: that is not known here.
        """
        if plan.site == self._site.name:
            return self._site
        file = plan.provenance.get("site_file")
        known = isinstance(file, str) and Path(file).is_file()  # on another machine it need not be there
        try:
            return load_site(str(file) if known else plan.site, runs=Path(self._store.folder))
        except UsageError as error:
            raise UsageError(
                f"run {plan.run_id} is on site {plan.site!r}, and {error.text}", "give the file of its profile with --site"
            ) from None

    async def open(self, run_id: str) -> ExistingRun:
        """Return a run; one that was begun elsewhere is fetched from the site.

        Raises:
            RunError: there is no such run, or it is damaged.
            TransportError: the site could not be asked.
        """
        try:
            paths = self._store.open(run_id)
        except RunError:
            if self._site.submitter == "local":
                raise
            paths = self._store.adopt(run_id, await self._submitters.fetch(self._site, run_id))
        plan = read_plan(paths)
        return ExistingRun(plan, paths, self._submitters.of(self.site_of(plan), paths, plan))

    async def lock(self, run: ExistingRun, *, take_over: bool = False) -> ControllerLock:
        """Return the lock of a run that no other controller drives, here or on another machine.

        Raises:
            LockedError: one does.
            TransportError: the site could not be asked.
        """
        lock = ControllerLock.acquire(run.paths.lock, take_over=take_over)
        try:
            await run.submitter.poll()
            if run.submitter.driven_elsewhere:
                raise LockedError("a controller on another machine drives this run")
        except BaseException:
            lock.release()
            raise
        return lock

    async def status(self, run_id: str) -> RunStatus:
        """Return how a run stands.

        Raises:
            RunError: no such run, or a damaged one.
            TransportError: the site could not be asked.
        """
        run = await self.open(run_id)
        try:
            summary = read_summary(run.paths)
            return read_status(run.plan, run.paths, await _statuses(run, summary), summary)
        finally:
            await run.submitter.close()

    async def list(self) -> "list[RunStatus]":
        """Return how every run in the folder stands, oldest first; those that cannot be read or asked for are left out."""
        found = []
        for run_id in self._store.run_ids():
            with contextlib.suppress(RunError, TransportError, OSError):
                found.append(await self.status(run_id))
        return found

    async def stop_from_outside(self, run: ExistingRun) -> None:
        """Tell the controller that drives a run, by way of the stop file; end the jobs ourselves if it does not.

        Raises:
            RunError: they do not end.
        """
        await run.submitter.write("stop/all", "cancelled from another controller\n")
        for waited in range(int(STOP_LIMIT_S / _LOOK_S)):
            live = live_jobs(run.plan, await run.submitter.poll())
            impatient = waited * _LOOK_S > STOP_LIMIT_S / 2
            driven = is_held(run.paths.lock) or run.submitter.driven_elsewhere
            if not live and (impatient or not driven):
                return
            if impatient:
                await run.submitter.kill(live)
            await asyncio.sleep(_LOOK_S)
        raise RunError(f"jobs of {run.plan.run_id} do not end: {', '.join(live)}", f"see {run.paths.folder}")


async def _statuses(run: ExistingRun, summary: Any) -> "Mapping[str, JobStatus]":
    """Return how the jobs of a run stand; for one that is over no queue has to be asked."""
    if summary is not None and run.submitter.queues:
        return recorded_statuses(run.paths)
    return await run.submitter.poll()
