"""The one place where the stations are joined: recipe, plan, submission, execution, summary."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Optional, Union

from attrs import asdict, evolve

from .async_run import AsyncRun
from .calls import is_path, overrides_of, refuse, sorted_plugins
from .clients import ClientsModule
from .errors import LockedError, RunError, UsageError
from .events import Listener, guarded, nobody, now
from .existing import ExistingRuns
from .factory import JobFactory
from .factory.external import private_files
from .factory.preflight import refuse_above
from .images.needed import cached_of
from .images.resolved import ResolvedImages
from .node.paths import RunPaths
from .plan import Plan, PlannedJob, asked_s
from .plugins import Registry, load_registry
from .recipe.load import load_recipe, load_recipe_text
from .recipe.model import Recipe
from .report.document import summary_from_json
from .report.summary import summarise
from .report.text import Report, render_summary
from .runs.collect import collect
from .runs.engine import Engine
from .runs.lock import ControllerLock
from .runs.logs import LogText, read_logs
from .runs.recovery import live_jobs, next_attempt
from .runs.status import RunStatus
from .runs.store import RunStore, check_run_id, default_runs_folder, new_run_id, read_plan, read_summary
from .script.bundle import build_node_program
from .servers import ServersModule
from .sites.load import load_site
from .sites.model import CachedImage, without_nodes
from .submitters.base import Submitter
from .submitters.open import Submitters
from .transports.open import open_transport

AS_IN_RECIPE = "as in the recipe"


class AsyncBenchmarkOrchestrator:
    """Runs recipes on a site.

    Args:
        site: Name of a site; `local` is this machine.
        runs_dir: Folder of run folders; default `$AIFACTORY_BENCH_RUNS`, or `runs` in the working folder.
        plugins: Files and classes of jobs, beside those that are installed.
        answer: Called with each question of a login, its text and whether the answer may be shown, for the answer: a password,
            a second factor. None: a site that asks is not entered.

    Raises:
        UsageError: the site is not known, or an argument is not what it should be.
        PluginError: a plugin is broken or clashes.
        SiteError: the folder of runs is no folder.
    """

    def __init__(
        self,
        site: str = "local",
        *,
        runs_dir: "Union[str, Path, None]" = None,
        plugins: "Sequence[Union[str, Path, type]]" = (),
        answer: "Optional[Callable[[str, bool], str]]" = None,
    ) -> None:
        if runs_dir is not None and not is_path(runs_dir):
            raise refuse("runs_dir", "the path of a folder", runs_dir)
        self.store = RunStore(Path(runs_dir) if runs_dir is not None else default_runs_folder())
        self.site = load_site(site, runs=self.store.folder)
        files, self._plugin_classes = sorted_plugins(plugins)
        self._plugin_files = [str(file.absolute()) for file in files]
        self.registry = load_registry(files=files, classes=self._plugin_classes)
        self._closed = False
        self._runs: list[AsyncRun] = []
        self._submitters = Submitters(lambda login, name: open_transport(login, answer=answer, site=name))
        self._images = ResolvedImages(self.site, self.registry, self._submitters.transport_of)
        self._existing = ExistingRuns(self.store, self.site, self._submitters)
        self.servers = ServersModule(self)
        self.clients = ClientsModule(self)

    @property
    def runs_dir(self) -> Path:
        """The folder of run folders."""
        return self.store.folder

    def load_recipe(self, path: Union[str, Path], overrides: Sequence[str] = ()) -> Recipe:
        """Read and check a recipe.

        Raises:
            UsageError: it is no path, or an override no text.
            RecipeError: it has problems; all of them are listed with their places.
        """
        if not is_path(path):
            raise refuse("recipe", "a Recipe, or the path of its file", path)
        return load_recipe(path, self.registry, overrides_of(overrides))

    async def resolve_images(self, recipe: Recipe) -> "dict[str, CachedImage]":
        """Look up in the site's cache which images a recipe needs; plans made afterwards use them, see `ResolvedImages`."""
        return await self._images.look_up(recipe)

    def plan(self, recipe: Recipe, *, run_id: str = "preview", lease_s: Any = AS_IN_RECIPE) -> Plan:
        """Return what would be submitted, final, without submitting anything.

        Raises:
            UsageError: the lease is not a time, or the recipe none.
        """
        if not isinstance(recipe, Recipe):
            raise refuse("recipe", "a Recipe, see `load_recipe`", recipe)
        lease = recipe.lease_s if lease_s is AS_IN_RECIPE else lease_s
        return JobFactory(self.registry).build(recipe, self._images.site_for(recipe), run_id, lease_s=lease)

    async def run(
        self,
        recipe: Union[str, Path, Recipe],
        *,
        overrides: Sequence[str] = (),
        run_id: Optional[str] = None,
        lease_s: Any = AS_IN_RECIPE,
        listener: Optional[Listener] = None,
        max_node_hours: Optional[float] = None,
    ) -> AsyncRun:
        """Begin a run and return it; its jobs are submitted in the background.

        Args:
            recipe: A recipe or its file.
            overrides: `path=value`, as with `--set`.
            run_id: Default: recipe's name, time and four random digits.
            lease_s: How long jobs go on when nobody cares for them, seconds; None: for ever; default: the recipe's.
            listener: Called with every `RunEvent`.
            max_node_hours: Refuse a plan that may take more, counting every job's whole walltime; None: take any.

        Raises:
            UsageError: an argument is not what it should be, the run id is taken, or the plan may take too much.
            RecipeError: the recipe has problems.
            SiteError: the site cannot take the run.
        """
        self._refuse_closed()
        listener = _checked_listener(listener)
        overrides = overrides_of(overrides)
        if not isinstance(recipe, Recipe):
            recipe = self.load_recipe(recipe, overrides)
        await self.resolve_images(recipe)
        run_id = new_run_id(recipe.name) if run_id is None else check_run_id(run_id)
        plan = self.plan(recipe, run_id=run_id, lease_s=lease_s)
        if max_node_hours is not None:
            refuse_above(plan, self.site, max_node_hours)
        made_with = {"overrides": overrides, "plugin_files": self._plugin_files, "site_file": self.site.file}
        provenance = {**plan.provenance, **made_with}
        plan = evolve(plan, provenance=provenance)
        program = build_node_program(plan.node_modules)
        private = private_files(recipe)
        paths = self.store.create(run_id)
        submitter = self._submitters.of(self.site, paths)
        try:
            lock = ControllerLock.acquire(paths.lock)
        except LockedError as error:
            raise UsageError(f"{error.text}, which is just being begun", f"follow it with: attach {run_id}") from None
        try:
            self.store.refuse_begun(paths)  # by a controller that had the lock before us
            await submitter.stage(plan, recipe.source, program.data, private)
        except BaseException:
            await submitter.close()
            self.store.discard(paths)
            lock.release()
            raise
        return self._begin(plan, paths, submitter, listener, lock, again=False)

    async def attach(self, run_id: str, *, take_over: bool = False, listener: Optional[Listener] = None) -> AsyncRun:
        """Take a run up where it is: follow jobs that run, measure what is missing, or show that it is finished.

        A run that another controller drives is only followed, as long as that one lives.

        Args:
            run_id: Name of the run.
            take_over: Replace a controller that has shown no life for a minute.
            listener: Called with every `RunEvent`.

        Raises:
            RunError: no such run, or a damaged one.
            LockedError: `take_over` was asked for, and the other controller lives.
        """
        self._refuse_closed()
        listener = _checked_listener(listener)
        found = await self._existing.open(run_id)
        async with contextlib.AsyncExitStack() as unless_begun:
            unless_begun.push_async_callback(found.submitter.close)
            lock: Optional[ControllerLock] = None
            try:
                lock = await self._existing.lock(found, take_over=take_over)
            except LockedError as error:
                if take_over:
                    raise
                listener(now("warning", text=f"{error.text}: only following"))
            unless_begun.pop_all()
        return self._begin(found.plan, found.paths, found.submitter, listener, lock, again=True)

    def _begin(
        self,
        plan: Plan,
        paths: RunPaths,
        submitter: Submitter,
        listener: Listener,
        lock: Optional[ControllerLock],
        *,
        again: bool,
    ) -> AsyncRun:
        engine = Engine(plan, paths, submitter, listener, lock)
        run = AsyncRun(plan, paths, engine, submitter, self.replan)
        self._runs.append(run)
        told = now("planned", jobs=len(plan.jobs), points=len(plan.points), folder=str(paths.folder), asked_s=asked_s(plan))
        listener(told)
        run.start(again=again)
        return run

    async def plan_clients(self, recipe: Recipe, run: AsyncRun, service: PlannedJob) -> "tuple[Plan, bytes]":
        """Plan a recipe's clients for a service that runs already.

        Args:
            recipe: With one service, which stands for the one that runs.
            run: Its run, which the clients join.
            service: Its job.
        """
        await self.resolve_images(recipe)
        running = {recipe.services[0].name: service.token}
        recipe = evolve(recipe, services=(evolve(recipe.services[0], replicas=service.ranks),))
        plan = JobFactory(self.registry).build(
            recipe,
            self._images.site_for(recipe),
            run.run_id,
            lease_s=run.plan.lease_s,
            attempt=next_attempt(run.plan),
            running=running,
        )
        return plan, build_node_program(plan.node_modules).data

    def replan(
        self, plan: Plan, paths: RunPaths, left: "Sequence[tuple[str, str]]", exclude: Sequence[str] = ()
    ) -> "tuple[Plan, bytes]":
        """Plan another attempt at some measurements of a run, from the recipe it was made of.

        Args:
            plan: The plan so far.
            paths: The run folder.
            left: Client and point id of each measurement.
            exclude: Nodes to keep away from, as Slurm writes lists of them.

        Raises:
            RecipeError, PluginError: what the run was made of is not there any more.
        """
        overrides = [str(item) for item in plan.provenance.get("overrides", ())]
        text = paths.recipe.read_text(encoding="utf-8")
        registry = self._registry_of(plan)
        recipe = load_recipe_text(text, plan.recipe_name, registry, overrides)
        new = JobFactory(registry).build(
            recipe,
            without_nodes(evolve(self._existing.site_of(plan), cached=cached_of(plan)), exclude),
            plan.run_id,
            lease_s=plan.lease_s,
            attempt=next_attempt(plan),
            only=frozenset(left),
        )
        return evolve(new, provenance={**plan.provenance, **new.provenance}), build_node_program(new.node_modules).data

    def _registry_of(self, plan: Plan) -> Registry:
        """Return the kinds that a plan was made with: the plugin files that its run was given, and ours."""
        files = dict.fromkeys([*self._plugin_files, *map(str, plan.provenance.get("plugin_files", ()))])
        if list(files) == self._plugin_files:
            return self.registry
        return load_registry(files=[Path(file) for file in files], classes=self._plugin_classes)

    async def status(self, run_id: str) -> RunStatus:
        """Return how a run stands.

        Raises:
            RunError: no such run, or a damaged one.
        """
        return await self._existing.status(run_id)

    async def list_runs(self) -> "list[RunStatus]":
        """Return how every run in the folder stands, oldest first; damaged ones are left out."""
        return await self._existing.list()

    async def cancel(self, run_id: str) -> Report:
        """Stop a run's jobs, whoever drives it, keep what was measured, and return the summary.

        Raises:
            RunError: no such run, or jobs that do not end.
        """
        self._refuse_closed()
        found = await self._existing.open(run_id)
        async with contextlib.AsyncExitStack() as unless_begun:
            unless_begun.push_async_callback(found.submitter.close)
            try:
                lock = await self._existing.lock(found)
            except LockedError:  # asked first: a controller that has submitted nothing yet is about to
                await self._existing.stop_from_outside(found)
                return self.summary(run_id)
            if not live_jobs(found.plan, await found.submitter.poll()):
                lock.release()
                return self.summary(run_id)
            unless_begun.pop_all()
        run = self._begin(found.plan, found.paths, found.submitter, nobody, lock, again=False)
        return await run.cancel()

    def summary(self, run_id: str) -> Report:
        """Return the summary of a run: the final one, or of what has been measured so far.

        Raises:
            RunError: no such run, or a damaged one.
        """
        paths = self.store.open(run_id)
        document = read_summary(paths)
        if document is not None:
            try:
                return render_summary(summary_from_json(document))
            except ValueError as error:
                raise RunError(f"{paths.summary}: {error}", f"write it anew with: attach {run_id}") from None
        plan = read_plan(paths)
        return render_summary(summarise(plan, collect(plan, paths, "detached", {})))

    def logs(self, run_id: str, job: Optional[str] = None) -> "list[LogText]":
        """Return the logs of a run's jobs; job: only of the one with this name.

        Raises:
            RunError: no such run or job.
        """
        paths = self.store.open(run_id)
        return read_logs(read_plan(paths), paths, job)

    async def start_service(self, recipe: Union[str, Path, Recipe]) -> str:
        """Start the service of a recipe and return its id when it answers; see `servers`."""
        return (await self.servers.start_service(recipe)).service_id

    async def start_client(self, recipe: Union[str, Path, Recipe], target: str) -> str:
        """Start the client of a recipe against a service that runs, and return its id; see `clients`."""
        return (await self.clients.start_client(recipe, target)).client_id

    async def stop_service(self, service_id: str) -> bool:
        """Stop a service; False when there is none of that id."""
        return await self.servers.stop_service(service_id)

    async def show_status(self) -> "dict[str, Any]":
        """Return what runs: `services`, `clients` (started here) and `runs` (of the folder), as plain values."""
        return {
            "services": [asdict(info) for info in self.servers.list_services()],
            "clients": [asdict(info) for info in self.clients.list_clients()],
            "runs": [asdict(status) for status in await self.list_runs()],
        }

    async def close(self) -> None:
        """Stop every run that is not finished, as Ctrl-C does; runs that were detached are left alone.

        Nothing is begun or taken up after that; closing again does nothing.
        """
        self._closed = True
        for run in self._runs:
            if not run.done:
                run.request_stop()
        for run in self._runs:
            with contextlib.suppress(Exception):
                await run.wait()
        self._runs.clear()
        await self._submitters.close()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise UsageError("this orchestrator is closed", "make another one")

    async def __aenter__(self) -> "AsyncBenchmarkOrchestrator":
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()


def _checked_listener(listener: Any) -> Listener:
    if listener is None:
        return nobody
    if not callable(listener):
        raise refuse("listener", "a function that is given every event", listener)
    return guarded(listener)
