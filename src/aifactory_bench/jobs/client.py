"""`Client`: a job that makes measurements, one after another."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, final

import attrs

from ..errors import RecipeError
from ..node.spec import ClientSpec, PointSpec, TargetSpec
from ..recipe.model import Load, Resources
from ..script.commands import Command, Endpoint
from ..sites.model import Site
from .base import BaseJob, parameters_to_json
from .context import JobContext, job_token

DEFAULT_CONCURRENCY = 50
"""Closed loop: requests in flight, where a recipe says nothing."""
DEFAULT_CONNECTIONS = 50
"""Open loop: size of the connection pool, where a recipe says nothing."""
PREPARE_MARGIN_S = 60.0
"""Of a point's budget: for what is done beside warm-up and window."""


class Client(BaseJob):
    """A load generator: a driver for the load core (`mode = "load"`) or a program of its own (`mode = "tool"`)."""

    role = "client"
    mode: ClassVar[Literal["load", "tool"]] = "load"
    targets: ClassVar[Mapping[str, tuple[str, ...]]] = {"main": ()}
    """Role -> service kinds it can measure; an empty tuple takes any kind. Every role is needed."""

    def __init__(
        self,
        name: str,
        parameters: Any = None,
        *,
        image: str | None = None,
        resources: Resources | None = None,
        replicas: int = 1,
        environment: Mapping[str, str] | None = None,
        services: Mapping[str, str] | None = None,
        load: Load | None = None,
    ) -> None:
        super().__init__(name, parameters, image=image, resources=resources, replicas=replicas, environment=environment)
        self.services = dict(services or {})
        """Role -> name of the service it measures."""
        self.load = load or Load()

    @property
    def target_endpoint(self) -> Endpoint:
        """The target of role `main`, or of the only role: `.host`, `.port`, `.url`, `.secret` are placeholders."""
        return Endpoint("main" if "main" in self.targets else next(iter(self.targets)))

    def get_benchmark_commands(self, load: Load, parameters: Any) -> Sequence[Command]:  # noqa: ARG002
        """Return what a tool runs at one point, in order; a client of the load core has nothing to run.

        Args:
            load: of the point, defaults filled in; totals over the replicas. A replica's own share is known on the node:
                `Placeholder("share.rate")`, `share.concurrency`.
            parameters: of the point, an instance of `Parameters`.
        """
        return ()

    @final
    def compose_point(
        self,
        site: Site,
        run_id: str,
        *,
        id: str,
        load: Load,
        parameters: Any,
        participants: Mapping[str, int],
        repetition: int = 1,
        reset: str = "none",
    ) -> PointSpec:
        """Return one measurement to make, as the node gets it.

        Raises:
            PluginError: the class is a tool and names no command, or a step returned something else than it should.
            RecipeError: the load core would have workers without a connection.
            SiteError: the site has no image for a tool.
        """
        load = with_defaults(load)
        if self.mode == "load":
            self._check_workers(load)
        with self._blamed():
            argvs = self._benchmark_argvs(site, run_id, load, parameters)
        return PointSpec(
            id=id,
            repetition=repetition,
            reset=reset,
            parameters=parameters_to_json(parameters),
            load=load_to_json(load),
            participants=dict(participants),
            commands=argvs,
            budget_s=load.warmup_s + load.duration_s + load.timeout_s + PREPARE_MARGIN_S,
        )

    def _check_workers(self, load: Load) -> None:
        name = "concurrency" if load.process == "closed" else "connections"
        total, least = getattr(load, name), self.replicas * load.workers
        if total < least:
            raise RecipeError(
                f"clients.{self.name}.load.{name}: {total} leaves workers without a connection; "
                f"replicas ({self.replicas}) times workers ({load.workers}) is {least}, and at least that many are needed",
                f"raise `{name}`, or lower `replicas` or `workers`",
            )

    def _benchmark_argvs(self, site: Site, run_id: str, load: Load, parameters: Any) -> list[list[str]]:
        commands = self._checked("get_benchmark_commands", self.get_benchmark_commands(load, parameters), Command)
        if (self.mode == "tool") != bool(commands):
            found = "commands" if commands else "nothing"
            raise TypeError(f"get_benchmark_commands() returned {found}, but the mode is {self.mode!r}")
        return [self._in_container(site, self._without_environment(command), run_id) for command in commands]

    def _client_spec(self, context: JobContext) -> ClientSpec:
        return ClientSpec(
            targets=dict(context.targets),
            points=list(context.points),
            wait_timeout_s=context.wait_timeout_s,
            mode=self.mode,
        )

    def _alone(self, site: Site, node_digest: str) -> JobContext:
        run_id = "manual"
        participants = {job_token(run_id, self.name): self.replicas}
        point = self.compose_point(
            site, run_id, id="p0000-r1", load=self.load, parameters=self.parameters, participants=participants
        )
        wait_timeout_s = 120.0
        return JobContext(
            run_id=run_id,
            node_digest=node_digest,
            time_s=self.resources.time_s or wait_timeout_s + point.budget_s,
            targets={role: TargetSpec(name, job_token(run_id, name), 1) for role, name in self.services.items()},
            points=(point,),
            wait_timeout_s=wait_timeout_s,
        )


def with_defaults(load: Load) -> Load:
    """Return the load with concurrency, or size of the pool, filled in."""
    if load.process == "closed":
        return load if load.concurrency else attrs.evolve(load, concurrency=DEFAULT_CONCURRENCY)
    return load if load.connections else attrs.evolve(load, connections=DEFAULT_CONNECTIONS)


def load_to_json(load: Load) -> dict[str, Any]:
    """Return a load as the node gets it, see `node.spec.PointSpec.load`."""
    return {name: getattr(load, name) for name in _LOAD_FIELDS}


_LOAD_FIELDS = tuple(field.name for field in attrs.fields(Load))
