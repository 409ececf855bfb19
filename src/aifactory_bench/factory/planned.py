"""Jobs and services of a stage while a plan is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import define, field

from ..jobs.base import BaseJob
from ..jobs.client import Client
from ..jobs.service import Service
from ..jobs.staging import Staging
from ..jobs.target import Target
from ..node.spec import PointSpec, TargetSpec
from ..recipe.model import ServiceEntry
from ..sites.model import Site
from .stages import Segment
from .targets import module_of_external


@define
class PlannedClient:
    """A client job in the making."""

    client: Client
    segment: Segment
    token: str
    time_s: float
    points: list[PointSpec] = field(factory=list)


@define
class PlannedService:
    """A service of a stage; an external one, and one that runs already, has no job here."""

    entry: ServiceEntry
    service: Service | None
    token: str
    parameters: Mapping[str, Any]
    ready_s: float
    """How long it may take to answer."""


def number_of(segment: Segment) -> str:
    """Return what tells the jobs of a client's segments apart; nothing for the first."""
    return f"-{segment.number}" if segment.number else ""


def budgets_of(clients: list[PlannedClient]) -> dict[tuple[str, str], float]:
    """Return how long a point may take each client, by token and point; those that meet wait for the slowest of them."""
    return {(made.token, point.id): point.budget_s for made in clients for point in made.points}


def identity_of(planned: PlannedService) -> str:
    """Return the token of a service's job, or the url of an external one."""
    return planned.token if planned.entry.external is None else planned.entry.external.url


def target_spec(planned: PlannedService, allowed: tuple[str, ...], known: Mapping[str, type[Any]]) -> TargetSpec:
    """Return a service as its clients' jobs see it.

    Args:
        planned: the service.
        allowed: kinds that the client measures.
        known: all kinds of services.
    """
    external = planned.entry.external
    return TargetSpec(
        service=planned.entry.name,
        token=planned.token,
        replicas=1 if external is not None else planned.entry.replicas,
        parameters=dict(planned.parameters),
        url=None if external is None else external.url,
        node_module=module_of_external(planned.entry, allowed, known)
        if planned.service is None
        else planned.service.node_module,
        has_secret=external is not None and external.secret is not None,
    )


def target_of(planned: PlannedService) -> Target:
    """Return a service as the class of a client sees it."""
    replicas = 1 if planned.entry.external is not None else planned.entry.replicas
    return Target(planned.entry.name, planned.entry.kind, replicas, planned.parameters)


def paths_of(job: BaseJob, site: Site, *, contained: bool) -> tuple[str, ...]:
    """Return the absolute paths that a job needs on its nodes: its image, and what its container sees, such as a model.

    Args:
        job: as it is planned.
        site: where it runs.
        contained: whether it starts a container where the site has a runtime.
    """
    if isinstance(job, Staging):
        return tuple(job.paths.values())
    staged = job.get_staged_paths() if isinstance(job, Service) else {}
    image = job.image if job.image is None or job.image.startswith("/") else site.images.get(job.image)
    first = [image] if site.runtime != "host" and image is not None and contained else []
    return tuple(dict.fromkeys([*first, *(path for path in job.get_binds() if path not in staged)]))
