"""One recipe on one site becomes one plan."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from importlib import metadata
from typing import TYPE_CHECKING, Any

from attrs import asdict

from ..errors import RecipeError
from ..jobs.base import parameters_to_json
from ..jobs.client import Client, load_to_json
from ..jobs.context import JobContext, job_token
from ..jobs.service import Service
from ..jobs.staging import STAGING_TIME_S, staging_of
from ..node.load.schedule import offered_per_s
from ..plan import Plan, PlannedJob, PlannedPoint
from ..recipe.matrix import expand
from ..recipe.model import ClientEntry, Recipe, ServiceEntry, Variant
from ..script.bundle import build_node_program
from ..sites.model import Site
from .planned import PlannedClient, PlannedService, budgets_of, identity_of, number_of, paths_of, target_of, target_spec
from .searches import check_alone, give_limits
from .site_rules import RuleBook
from .stages import Segment, Stage, stages_of
from .targets import check_target, module_of_external
from .together import Aimed, check_shared_data

if TYPE_CHECKING:
    from .job_factory import JobFactory

SERVICE_TIME_S = 1800.0
"""Walltime of a service where neither recipe nor site says one, unless its clients take longer."""
WAIT_MARGIN_S = 60.0
"""What a client waits for its services beyond their own time to get ready."""
STOP_MARGIN_S = 60.0
"""Walltime for starting, stopping and collecting."""


class Planner:
    """Builds one plan; see `JobFactory.build`."""

    def __init__(
        self,
        factory: JobFactory,
        recipe: Recipe,
        site: Site,
        run_id: str,
        *,
        lease_s: float | None,
        attempt: int = 0,
        only: AbstractSet[tuple[str, str]] | None = None,
        running: Mapping[str, str] | None = None,
    ) -> None:
        self._factory = factory
        self._recipe = recipe
        self._site = site
        self._run_id = run_id
        self._lease_s = lease_s
        self._attempt = attempt
        self._only = only
        self._running = dict(running or {})
        self._jobs: list[PlannedJob] = []
        self._points: list[PlannedPoint] = []
        self._time_s: dict[str, float] = {}
        self._most_together = 0
        self._staged: set[str] = set()
        self._parameters: dict[tuple[str, int], tuple[Any, dict[str, Any]]] = {}
        self._digest = ""
        self._rules = RuleBook(site)
        watched = {"node": recipe.monitors.node, "service": recipe.monitors.service}
        self._monitors = {name: {"interval_s": one.interval_s} for name, one in watched.items() if one is not None}

    def plan(self) -> Plan:
        """Return the plan."""
        registry = self._factory.registry
        variants = expand(self._recipe, registry)
        kinds = {entry.kind for variant in variants for entry in variant.services if entry.kind is not None}
        kinds.update(entry.kind for variant in variants for entry in variant.clients)
        classes = [{**registry.services, **registry.clients}[kind] for kind in sorted(kinds) if kind in registry.sources]
        modules = tuple(
            sorted({*(cls.node_module for cls in classes if cls.node_module), *self._modules_of_external(variants)})
        )
        self._digest = build_node_program(modules).digest
        stages = stages_of(variants)
        before: dict[str, int] = {}
        for stage in stages:
            suffix = f"-s{stage.number}" if len(stages) > 1 else ""
            left = tuple(variant for variant in stage.variants if self._is_wanted(variant))
            if left:
                kept = stage if len(left) == len(stage.variants) else stages_of(left)[0]
                before = self._add_stage(kept, suffix, before)
        self._refuse_same_tokens()
        self._rules.raise_all()
        return Plan(
            run_id=self._run_id,
            recipe_name=self._recipe.name,
            site=self._site.name,
            run_folder=f"{self._site.runs}/{self._run_id}",
            jobs=tuple(self._jobs),
            points=tuple(self._points),
            limits=dict(self._recipe.limits),
            lease_s=self._lease_s,
            max_pending_s=self._recipe.max_pending_s,
            retries=self._recipe.retries,
            # Services and clients of a stage wait for each other, so fewer would wait for ever.
            max_jobs=max(self._site.max_jobs, self._most_together),
            node_modules=modules,
            node_digest=self._digest,
            provenance={
                "recipe_sha256": hashlib.sha256(self._recipe.source.encode("utf-8", "surrogatepass")).hexdigest(),
                "core": metadata.version("aifactory-bench"),
                "plugins": {kind: registry.sources[kind] for kind in sorted(kinds) if kind in registry.sources},
                **({"images": {name: asdict(image) for name, image in self._site.cached.items()}} if self._site.cached else {}),
            },
        )

    def _modules_of_external(self, variants: Sequence[Variant]) -> set[str]:
        """Return the node modules that can ask the services which run already."""
        registry, found = self._factory.registry, set()
        for variant in variants:
            external = {entry.name: entry for entry in variant.services if entry.external is not None}
            for client in variant.clients:
                cls = registry.clients.get(client.kind)
                for role, name in client.targets.items() if cls is not None else ():
                    if name in external and cls is not None:
                        found.add(module_of_external(external[name], cls.targets.get(role, ()), registry.services))
        return {module for module in found if module is not None}

    def _is_wanted(self, variant: Variant) -> bool:
        """Return whether a point is to be made; with clients that meet, all make it again when one must."""
        if self._only is None:
            return True
        return any((client.name, point_id(variant)) in self._only for client in variant.clients)

    def _add_stage(self, stage: Stage, suffix: str, before: Mapping[str, int]) -> dict[str, int]:
        """Plan one stage's jobs and points; return token -> ranks of its jobs, which the next stage waits for."""
        services = {entry.name: self._service(entry, suffix) for entry in stage.variants[0].services}
        staged = self._add_staging(services, suffix, before)
        before = {**before, **staged}
        clients = [self._client(segment, suffix, services) for segment in stage.segments]
        self._add_points(stage, clients, services)
        budgets_s = budgets_of(clients)
        for made in clients:
            if made.client.resources.time_s is None:
                points_s = sum(max(budgets_s[token, point.id] for token in point.participants) for point in made.points)
                made.time_s = self._wait_s(made, services) + points_s + STOP_MARGIN_S
        for planned in services.values():
            if planned.service is not None:
                self._add_service_job(planned, planned.service, suffix, clients, before)
        for made in clients:
            self._add_client_job(made, suffix, clients, services, before)
        ranks = {made.token: made.client.replicas for made in clients}
        ranks.update((planned.token, planned.service.replicas) for planned in services.values() if planned.service)
        self._most_together = max(self._most_together, len(ranks))
        return {**ranks, **staged}

    def _add_staging(self, services: Mapping[str, PlannedService], suffix: str, before: Mapping[str, int]) -> dict[str, int]:
        """Plan the copying that services need, each target once in a plan; return token -> ranks."""
        staged: dict[str, int] = {}
        for planned in services.values():
            job = staging_of(planned.entry, planned.service) if planned.service is not None else None
            if job is None or self._staged.issuperset(job.paths):
                continue
            self._staged.update(job.paths)
            self._add_job(job, f"{job.name}{suffix}", self._context(suffix, job.resources.time_s or STAGING_TIME_S, before))
            staged[self._jobs[-1].token] = job.replicas
        return staged

    def _service(self, entry: ServiceEntry, suffix: str) -> PlannedService:
        if entry.external is not None:
            ready_s = Service.default_ready_timeout_s if entry.ready.timeout_s is None else entry.ready.timeout_s
            return PlannedService(entry, None, "", dict(entry.parameters), ready_s)
        service = self._factory.create_service(entry)
        parameters, ready_s = parameters_to_json(service.parameters), service.ready_timeout_s
        if entry.name in self._running:
            return PlannedService(entry, None, self._running[entry.name], parameters, ready_s)
        token = job_token(self._run_id, f"{entry.name}{suffix}", self._attempt)
        return PlannedService(entry, service, token, parameters, ready_s)

    def _client(self, segment: Segment, suffix: str, services: Mapping[str, PlannedService]) -> PlannedClient:
        entry = segment.entries[0]
        client = self._factory.create_client(entry)
        for role, name in entry.targets.items():
            target = services.get(name)
            if target is None:
                raise RecipeError(
                    f"clients.{entry.name}.targets.{role}: there is no service {name!r}; there is: {', '.join(services)}"
                )
            kind = target.service.kind if target.service is not None else None
            check_target(entry, role, client.targets[role], target.entry, kind, self._factory.registry.services)
        if client.image is None:
            target = services[next(iter(entry.targets.values()))]
            client.image = target.entry.image or (target.service.image if target.service else None)
        token = job_token(self._run_id, f"{entry.name}{suffix}{number_of(segment)}", self._attempt)
        return PlannedClient(client, segment, token, entry.resources.time_s or 0.0)

    def _add_points(self, stage: Stage, clients: list[PlannedClient], services: Mapping[str, PlannedService]) -> None:
        service_parameters = {name: planned.parameters for name, planned in services.items()}
        at: list[dict[str, PlannedClient]] = [{} for _ in stage.variants]
        for made in clients:
            for position in range(made.segment.first, made.segment.first + len(made.segment.entries)):
                at[position][made.segment.client] = made
        for variant, by_client in zip(stage.variants, at, strict=True):
            for entry in variant.clients:
                made = by_client[entry.name]
                depth = stage.depths[entry.name]
                with_it = {name: other for name, other in by_client.items() if stage.depths[name] == depth}
                check_alone(entry, with_it)
                participants = {other.token: other.client.replicas for other in with_it.values()}
                self._add_point(variant, entry, made, participants, service_parameters, services)
            for depth in set(stage.depths.values()):
                together = [entry for entry in variant.clients if stage.depths[entry.name] == depth]
                check_shared_data([self._aimed(entry, by_client) for entry in together])

    def _aimed(self, entry: ClientEntry, by_client: Mapping[str, PlannedClient]) -> Aimed:
        client = by_client[entry.name].client
        return Aimed(client, self._client_parameters(entry, type(client))[0], frozenset(entry.targets.values()))

    def _add_point(
        self,
        variant: Variant,
        entry: ClientEntry,
        made: PlannedClient,
        together: Mapping[str, int],
        service_parameters: Mapping[str, Mapping[str, Any]],
        services: Mapping[str, PlannedService],
    ) -> None:
        parameters, parameters_json = self._client_parameters(entry, type(made.client))
        load = made.client.fill_load(entry.load)
        load_json = load_to_json(load)
        targets = {role: target_of(services[name]) for role, name in entry.targets.items()}
        made.client.check_point(load, parameters, targets)
        point = made.client.compose_point(
            self._site,
            self._run_id,
            id=point_id(variant),
            load=load,
            parameters=parameters,
            participants=together,
            repetition=variant.repetition,
            reset=self._recipe.repetitions.reset,
        )
        give_limits(point, self._recipe.limits)
        made.points.append(point)
        self._points.append(
            PlannedPoint(
                id=point.id,
                index=variant.index,
                repetition=variant.repetition,
                parameters=variant.parameters,
                client=entry.name,
                kind=entry.kind,
                token=made.token,
                ranks=made.client.replicas,
                # A trace lies on the node, and a search has many rates.
                offered_per_s=None if load.trace or load.search else offered_per_s(load_json),
                process=load.process,
                load=load_json,
                client_parameters=parameters_json,
                service_parameters=service_parameters,
                services=tuple(identity_of(services[name]) for name in entry.targets.values()),
            )
        )

    def _client_parameters(self, entry: ClientEntry, cls: type[Client]) -> tuple[Any, dict[str, Any]]:
        """Return a point's parameters as object and for the node; points that share them do the work once."""
        # Identity is enough of a key: the variants hold the mappings for as long as this planner lives.
        key = (entry.name, id(entry.parameters))
        if key not in self._parameters:
            parameters = self._factory.parameters_of("clients", entry, cls)
            self._parameters[key] = (parameters, parameters_to_json(parameters))
        return self._parameters[key]

    def _wait_s(self, made: PlannedClient, services: Mapping[str, PlannedService]) -> float:
        """Return how long a client waits: for services that start it may be early, one that runs already must answer."""
        targets = [services[name] for name in made.client.services.values()]
        margin_s = 0.0 if all(target.entry.external is not None for target in targets) else WAIT_MARGIN_S
        return max(target.ready_s for target in targets) + margin_s

    def _add_service_job(
        self, planned: PlannedService, service: Service, suffix: str, clients: list[PlannedClient], before: Mapping[str, int]
    ) -> None:
        users = [made for made in clients if planned.entry.name in made.client.services.values()]
        # One that no client measures is there for the others, and ends with them.
        lives_for = users or clients
        ready_s = planned.ready_s
        time_s = service.resources.time_s or max(
            self._site.time_default_s or SERVICE_TIME_S, ready_s + sum(made.time_s for made in clients) + STOP_MARGIN_S
        )
        context = self._context(
            suffix,
            time_s,
            before,
            clients={made.token: made.client.replicas for made in lives_for},
            ready_timeout_s=ready_s,
        )
        self._add_job(service, f"{service.name}{suffix}", context)

    def _add_client_job(
        self,
        made: PlannedClient,
        suffix: str,
        clients: list[PlannedClient],
        services: Mapping[str, PlannedService],
        before: Mapping[str, int],
    ) -> None:
        client, segment = made.client, made.segment
        after = dict(before) if segment.number == 0 else {}
        for other in clients:
            follows = other.segment.client == segment.entries[0].after and segment.number == 0
            continues = other.segment.client == segment.client and other.segment.number == segment.number - 1
            if follows or continues:
                after[other.token] = other.client.replicas
        known = self._factory.registry.services
        targets = {role: target_spec(services[name], client.targets[role], known) for role, name in client.services.items()}
        context = self._context(
            f"{suffix}{number_of(segment)}",
            made.time_s,
            after,
            targets=targets,
            points=tuple(made.points),
            wait_timeout_s=self._wait_s(made, services),
        )
        self._add_job(
            client,
            f"{client.name}{suffix}{number_of(segment)}",
            context,
            submit=segment.entries[0].submit,
            services=tuple(dict.fromkeys(target.token for target in targets.values() if target.token)),
        )

    def _context(self, suffix: str, time_s: float, after: Mapping[str, int], **more: Any) -> JobContext:
        """Return a job's context; time_s: its own, without what it waits for others.

        On `local` a job runs while it waits for those in `after`, so its walltime holds theirs. A scheduler holds it back.
        """
        if self._site.submitter == "local":
            time_s += max((self._time_s[token] for token in after), default=0.0)
        return JobContext(
            run_id=self._run_id,
            node_digest=self._digest,
            time_s=time_s,
            suffix=suffix,
            attempt=self._attempt,
            lease_s=self._lease_s,
            after=after,
            monitors=self._monitors,
            **more,
        )

    def _add_job(self, job: Service | Client, name: str, context: JobContext, **more: Any) -> None:
        if self._site.submitter != "local" and job.resources.nodes > job.replicas:
            raise RecipeError(
                f"{job.role}s.{job.name}.resources.nodes: {job.resources.nodes} nodes for {job.replicas} replicas; "
                "a replica runs on one node, so there can be at most as many nodes as replicas"
            )
        script = job.compose(self._site, context)
        self._time_s[script.token] = context.time_s
        options = script.options() if self._site.submitter == "slurm" else {}
        self._rules.check(job, options, context.time_s)
        self._jobs.append(
            PlannedJob(
                name=name,
                role=job.role,
                kind=job.kind,
                token=script.token,
                script=script.text(),
                ranks=job.replicas,
                time_s=context.time_s,
                after=tuple(context.after),
                cpus=job.resources.cpus,
                memory_bytes=job.resources.memory_bytes,
                nodes=job.resources.nodes,
                gpus=job.resources.gpus,
                options=options,
                paths=paths_of(job, self._site, contained=bool(script.argv) or any(point.commands for point in context.points)),
                **more,
            )
        )

    def _refuse_same_tokens(self) -> None:
        seen: dict[str, str] = {}
        for job in self._jobs:
            if job.token in seen:
                raise RecipeError(
                    f"two jobs would be called {job.name!r}: a {seen[job.token]} and a {job.role}",
                    "give services and clients different names, none that ends like `-s0`",
                )
            seen[job.token] = job.role


def point_id(variant: Variant) -> str:
    """Return what a point is called in one repetition: `p0003-r1`."""
    return f"p{variant.index:04d}-r{variant.repetition}"
