"""Clients that measure a service which already runs: the part `clients` of an orchestrator."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, Union

from attrs import evolve, frozen

from .async_run import AsyncRun
from .errors import RunError, UsageError
from .plan import Plan, PlannedJob
from .recipe.model import Recipe
from .report.text import Report
from .results.validity import worst
from .servers import ServersModule


@frozen
class ClientInfo:
    """A client that was started, and how it stands."""

    client_id: str
    """`<run id>/<name>-<number>`."""
    kind: str
    state: str
    """Of its job: pending, running, completed, ..."""
    target: str
    """Id of the service it measures."""


class Bench(Protocol):
    """What is needed of an orchestrator."""

    @property
    def servers(self) -> ServersModule:
        """The services that run."""

    def load_recipe(self, path: Union[str, Path], overrides: Sequence[str] = ()) -> Recipe:
        """Read and check a recipe."""

    async def plan_clients(self, recipe: Recipe, run: AsyncRun, service: PlannedJob) -> "tuple[Plan, bytes]":
        """Plan a recipe's clients for a service that runs already; return the plan and the node program."""


class ClientsModule:
    """Starts and lists clients of services that `servers` has started."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._clients: dict[str, tuple[AsyncRun, str, Plan]] = {}

    async def start_client(self, recipe: Union[str, Path, Recipe], target: str, *, overrides: Sequence[str] = ()) -> ClientInfo:
        """Start the client of a recipe against a service that runs, and return it at once.

        Args:
            recipe: A recipe with one client and one service of the target's kind, or its file; that service is not started.
                Its matrix is passed over where it varies the service.
            target: Id of the service.
            overrides: `path=value`, as with `--set`.

        Raises:
            UsageError: the recipe has another number of clients or services, or a service of another kind.
            RunError: there is no such service, or it has ended.
        """
        run, service = self._bench.servers.find(target)
        if run.done:
            raise RunError(f"service {target} has ended", "start it again")
        if not isinstance(recipe, Recipe):
            recipe = self._bench.load_recipe(recipe, overrides)
        if len(recipe.services) != 1 or len(recipe.clients) != 1:
            raise UsageError(
                f"start_client takes a recipe with one service and one client; {recipe.name} has "
                f"{len(recipe.services)} and {len(recipe.clients)}"
            )
        if recipe.services[0].kind != service.kind:
            found = recipe.services[0].kind or "an external service"
            raise UsageError(f"{target} is of kind {service.kind}; the recipe measures {found}")
        number = sum(client_id.startswith(f"{run.run_id}/{recipe.clients[0].name}-") for client_id in self._clients)
        name = f"{recipe.clients[0].name}-{number}"
        plan, program = await self._bench.plan_clients(_renamed(recipe, name), run, service)
        client_id = f"{run.run_id}/{name}"
        self._clients[client_id] = (run, target, plan)
        try:
            await run.extend(plan, program)
        except BaseException:
            del self._clients[client_id]
            raise
        return self._info(client_id)

    def list_clients(self) -> "list[ClientInfo]":
        """Return the clients that were started here, those that have ended included."""
        return [self._info(client_id) for client_id in self._clients]

    async def wait(self, client_id: str) -> Report:
        """Wait for a client's end and return the report of its measurements.

        Raises:
            RunError: there is no such client.
        """
        if client_id not in self._clients:
            raise RunError(f"no client {client_id!r} was started here; there is: {', '.join(self._clients) or 'none'}")
        run, _target, plan = self._clients[client_id]
        tokens = [job.token for job in plan.jobs]
        await run.wait_for(tokens)
        report = run.summary()
        name = client_id.partition("/")[2]
        points = tuple(
            evolve(point, measurements=own)
            for point in report.points
            if (own := tuple(measurement for measurement in point.measurements if measurement.client == name))
        )
        missing, pending = (
            tuple(key for key in keys if key.startswith(f"{name}/")) for keys in (report.missing, report.pending)
        )
        verdicts = [measurement.verdict for point in points for measurement in point.measurements]
        return evolve(
            report,
            points=points,
            jobs=tuple(job for job in report.jobs if job.token in tokens),
            verdict=worst(verdicts if verdicts and not missing else ["invalid"]),
            error=report.error if missing else None,
            missing=missing,
            pending=pending,
        )

    def _info(self, client_id: str) -> ClientInfo:
        run, target, plan = self._clients[client_id]
        return ClientInfo(client_id, plan.jobs[0].kind, run.state(plan.jobs[-1].token), target)


def _renamed(recipe: Recipe, name: str) -> Recipe:
    """Return the recipe with its client called otherwise, so that its measurements are told from an earlier one's."""
    old = recipe.clients[0].name
    matrix = tuple(
        evolve(factor, path=f"clients.{name}{factor.path.removeprefix(f'clients.{old}')}")
        for factor in recipe.matrix
        if factor.path.startswith("clients.")
    )
    data = {**recipe.data, "clients": {name: recipe.data["clients"][old]}} if recipe.data else recipe.data
    return evolve(recipe, clients=(evolve(recipe.clients[0], name=name),), matrix=matrix, data=data)
