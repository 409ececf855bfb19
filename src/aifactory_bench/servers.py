"""Services that run until they are stopped: the part `servers` of an orchestrator."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Optional, Protocol, Union

from attrs import evolve, frozen

from .async_run import AsyncRun
from .errors import RunError, UsageError
from .events import Listener
from .node.endpoint import Endpoint
from .node.endpoint import read as read_endpoint
from .plan import PlannedJob
from .recipe.model import Recipe

POLL_S = 0.05


@frozen
class ServiceInfo:
    """A service that was started, and how it stands."""

    service_id: str
    """`<run id>/<name>`."""
    name: str
    kind: str
    state: str
    """Of its job: pending, running, completed, ..."""
    host: Optional[str]
    """None until it answers."""
    port: Optional[int]
    url: Optional[str]


class Bench(Protocol):
    """What is needed of an orchestrator."""

    def load_recipe(self, path: Union[str, Path], overrides: Sequence[str] = ()) -> Recipe:
        """Read and check a recipe."""

    async def run(self, recipe: Recipe, *, overrides: Sequence[str] = (), listener: Optional[Listener] = None) -> AsyncRun:
        """Begin a run."""


class ServersModule:
    """Starts, lists and stops services; they live until they are stopped, or the orchestrator is closed."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._runs: dict[str, AsyncRun] = {}

    async def start_service(
        self,
        recipe: Union[str, Path, Recipe],
        *,
        overrides: Sequence[str] = (),
        listener: Optional[Listener] = None,
    ) -> ServiceInfo:
        """Start the service of a recipe, without its clients, and return it when it answers.

        Args:
            recipe: A recipe with one service, or its file; its clients, matrix and repetitions are passed over.
            overrides: `path=value`, as with `--set`.
            listener: Called with every `RunEvent`.

        Raises:
            UsageError: the recipe has several services, or only an external one.
            RunError: the service did not come up; with what it said.
        """
        if not isinstance(recipe, Recipe):
            recipe = self._bench.load_recipe(recipe, overrides)
        if len(recipe.services) != 1 or recipe.services[0].kind is None:
            names = ", ".join(service.name for service in recipe.services)
            raise UsageError(f"start_service takes a recipe with one service to start; {recipe.name} has: {names}")
        alone = evolve(recipe, clients=(), matrix=(), repetitions=evolve(recipe.repetitions, count=1))
        run = await self._bench.run(alone, overrides=overrides, listener=listener)
        (job,) = run.plan.jobs
        self._runs[f"{run.run_id}/{job.name}"] = run
        while True:
            info = _info(run, job)
            if info.host is not None:
                return info
            if run.done:
                del self._runs[info.service_id]
                report = await run.wait()
                raise RunError(f"service {job.name} did not come up: {report.jobs[0].text}", f"see {run.paths.folder}")
            await asyncio.sleep(POLL_S)

    async def stop_service(self, service_id: str) -> bool:
        """Stop a service and return when it has ended; False when there is no such service, or it has ended before."""
        run = self._runs.pop(service_id, None)
        if run is None or run.done:
            return False
        await run.stop_job(service_id.partition("/")[2])
        await run.wait()
        return True

    def list_services(self) -> "list[ServiceInfo]":
        """Return the services that were started here and not stopped."""
        return [
            _info(run, job)
            for service_id, run in self._runs.items()
            for job in run.plan.jobs
            if service_id.endswith(f"/{job.name}")
        ]

    def get_service_host(self, service_id: str) -> str:
        """Return the host that a service answers on.

        Raises:
            RunError: there is no such service, or it has no address yet.
        """
        run, job = self.find(service_id)
        host = _info(run, job).host
        if host is None:
            raise RunError(f"service {service_id} does not answer yet")
        return host

    def find(self, service_id: str) -> "tuple[AsyncRun, PlannedJob]":
        """Return the run and the job of a service.

        Raises:
            RunError: there is no such service.
        """
        run = self._runs.get(service_id)
        if run is None:
            raise RunError(f"no service {service_id!r} was started here; there is: {', '.join(self._runs) or 'none'}")
        return run, next(job for job in run.plan.jobs if service_id == f"{run.run_id}/{job.name}")


def _info(run: AsyncRun, job: PlannedJob) -> ServiceInfo:
    endpoint: Optional[Endpoint] = read_endpoint(run.paths.endpoint(job.token, 0))
    return ServiceInfo(
        service_id=f"{run.run_id}/{job.name}",
        name=job.name,
        kind=job.kind,
        state=run.state(job.token),
        host=endpoint.host if endpoint else None,
        port=endpoint.port if endpoint else None,
        url=endpoint.url if endpoint else None,
    )
