"""`Client`: a job that makes measurements, one after another."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, final

import attrs

from ..errors import RecipeError
from ..node.spec import ClientSpec, ImageSpec, PointSpec, TargetSpec
from ..recipe.load_model import MOST_CONNECTIONS, Load, slo_problems
from ..recipe.model import Resources
from ..recipe.search_model import search_budget_s, search_to_json
from ..script.commands import Command, Endpoint
from ..sites.model import Site
from .base import BaseJob, parameters_to_json
from .context import JobContext, job_token
from .target import Target

DEFAULT_CONCURRENCY = 50
"""Closed loop: requests in flight, where a recipe says nothing."""
DEFAULT_CONNECTIONS = 50
"""Open loop: size of the connection pool, where neither a recipe nor the client's class says anything."""
PREPARE_MARGIN_S = 60.0
"""Of a point's budget: for what is done beside warm-up and window."""


class Client(BaseJob):
    """A load generator: a driver for the load core (`mode = "load"`) or a program of its own (`mode = "tool"`)."""

    role = "client"
    mode: ClassVar[Literal["load", "tool"]] = "load"
    targets: ClassVar[Mapping[str, tuple[str, ...]]] = {"main": ()}
    """Role -> service kinds it can measure; an empty tuple takes any kind. Every role is needed."""
    default_timeout_s: ClassVar[float] = 10.0
    """Of one request, where a recipe says nothing."""
    takes_timeout: ClassVar[bool] = True
    """A recipe may set `timeout`; of a tool that has no such option it would do nothing."""
    default_connections: ClassVar[int] = DEFAULT_CONNECTIONS
    """Open loop: size of the connection pool, where a recipe says nothing."""
    slos: ClassVar[tuple[str, ...]] = ("latency",)
    """Names of the latencies that `slo` of a load can set an objective for."""

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
    def fill_load(self, load: Load) -> Load:
        """Return a load as a recipe has it with what it leaves open filled in.

        Raises:
            RecipeError: it sets a timeout, and the kind takes none.
        """
        if load.timeout_s is not None and not self.takes_timeout:
            raise RecipeError(
                f"clients.{self.name}.load.timeout: {self.kind} has no time limit of one request, found {load.timeout_s:g}s",
                "leave it out",
            )
        return with_defaults(load, type(self))

    def check_point(self, load: Load, parameters: Any, targets: Mapping[str, Target]) -> None:
        """Refuse what this kind cannot measure there, before anything is started; by default nothing.

        Args:
            load: of the point, defaults filled in.
            parameters: of the point, an instance of `Parameters`.
            targets: role -> service.

        Raises:
            RecipeError: it cannot; the text begins with the place, such as `clients.load.parameters.scale:`.
        """

    def get_shared_data(self, parameters: Any) -> tuple[str, Any] | None:  # noqa: ARG002
        """Return which data of the service it makes while it prepares, where other clients make and use the same.

        The first item says what (`the keys key:N`), the second one which, to be compared and shown. Clients that measure one
        service at the same time are refused if they make the same differently. None: what it makes is its own.
        """
        return None

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
            RecipeError: the load core would have workers without a connection, an objective is for what the class does
                not measure, or a tool is to search.
            SiteError: the site has no image for a tool.
        """
        load = with_defaults(load, type(self))
        if problems := slo_problems(load, self.slos, self.kind):
            where = f"clients.{self.name}.load"
            raise RecipeError("\n".join(f"{where}.{'.'.join(path)}: {text}" for path, text in problems.items()))
        if self.mode == "load":
            self._check_workers(load)
        elif load.search is not None:
            raise RecipeError(
                f"clients.{self.name}.load.search: {self.kind} is a program of its own; only clients that drive the load "
                "themselves can search"
            )
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
            budget_s=_longest_s(load) + PREPARE_MARGIN_S,
        )

    def _check_workers(self, load: Load) -> None:
        name = "concurrency" if load.process == "closed" else "connections"
        total = getattr(load, name)
        if total is None and load.search is not None:
            # Where a search in closed loop is not told how to begin, it begins with one request in flight for each worker.
            name = "search.most" if load.search.least is None else "search.least"
            total = load.search.most if load.search.least is None else load.search.least
        least = self.replicas * load.workers
        if total < least:
            raise RecipeError(
                f"clients.{self.name}.load.{name}: {total} leaves workers without a connection; "
                f"replicas ({self.replicas}) times workers ({load.workers}) is {least}, and at least that many are needed",
                f"raise `{name.rpartition('.')[2]}`, or lower `replicas` or `workers`",
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

    def _image_spec(self, site: Site) -> ImageSpec | None:
        # The load core runs outside of any image.
        return super()._image_spec(site) if self.mode == "tool" else None

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


def with_defaults(load: Load, cls: type[Client] = Client) -> Load:
    """Return the load with what it leaves open filled in.

    These are concurrency or size of the pool, the timeout, which is the class's own, and what the arrival process takes.
    """
    defaults: dict[str, Any] = {"timeout_s": cls.default_timeout_s}
    if load.process != "closed":
        # A burst over fewer connections than it has requests would be none.
        defaults["connections"] = min(max(cls.default_connections, load.burst_size or 0), MOST_CONNECTIONS)
    elif load.search is None:
        defaults["concurrency"] = DEFAULT_CONCURRENCY
    if load.process == "gamma":
        defaults["burstiness"] = 1.0
    if load.process == "trace":
        defaults["trace_scale"] = 1.0
    missing = {name: value for name, value in defaults.items() if getattr(load, name) is None}
    return attrs.evolve(load, **missing) if missing else load


def load_to_json(load: Load) -> dict[str, Any]:
    """Return a load as the node gets it, see `node.spec.PointSpec.load`; the objectives of a search are also its `slo`."""
    data = attrs.asdict(load)
    data["rates"] = list(data["rates"])
    if load.search is not None:
        data["slo"] = dict(load.search.slo or load.slo)
        data["search"] = {**(search_to_json(load.search) or {}), "slo": data["slo"]}
    return data


def _longest_s(load: Load) -> float:
    """Return how long warm-up, window and the last answers can take; of a search all its trials."""
    if load.search is not None:
        return search_budget_s(load.search, load)
    return load.warmup_s + load.duration_s + (load.timeout_s or 0)
