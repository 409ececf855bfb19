"""What a plan takes of a site, before anything is submitted: node-hours, GPU-hours, units of its billing, and all at once.

All of it is an upper bound: every job is counted with its whole walltime, and a run that goes well ends sooner.
"""

from collections.abc import Iterable, Mapping
from typing import Literal, Optional

from attrs import field, frozen

from ..errors import UsageError
from ..plan import Plan, PlannedJob, PlannedPoint
from ..recipe.model import Resources
from ..script.ruled import cpus_of, has_whole_nodes, shapes_of
from ..sites.billing import Taken, Unit, units_per_hour
from ..sites.model import Site
from ..sites.rules import longest_s
from ..units import format_duration
from .demand import Demand, largest_demand

_HOUR_S = 3600.0


@frozen
class Cost:
    """What something takes, at most."""

    node_hours: float = 0.0
    gpu_hours: float = 0.0
    units: Mapping[Unit, float] = field(factory=dict)
    """By the site's billing; only what is known."""


@frozen
class JobCost:
    """What one job takes, at most."""

    name: str
    token: str
    nodes: int
    gpus: int
    """Of all nodes; on whole nodes all that they have."""
    time_s: float
    cost: Cost
    limit: Optional[str]
    """Name of the limit of walltime that holds, as in the profile's `max_time`. None: none is known."""
    limit_s: Optional[float]


@frozen
class PointCost:
    """What one measurement takes: its part of its jobs, by how long it is to last among those that share them."""

    id: str
    client: str
    cost: Cost


@frozen
class PathNeed:
    """A path that must be there before a run."""

    path: str
    where: Literal["login", "compute"]
    """Kind of node that must see it."""
    jobs: "tuple[str, ...]"
    """Names of the jobs that need it; empty: the run itself."""


@frozen
class Preflight:
    """What a plan takes of a site, at most."""

    site: str
    jobs: "tuple[JobCost, ...]"
    points: "tuple[PointCost, ...]"
    total: Cost
    demand: Demand
    """Most that runs at the same time."""
    paths: "tuple[PathNeed, ...]"
    notes: "tuple[str, ...]"
    """What is not known, and what to think of."""


def preflight(plan: Plan, site: Site) -> Preflight:
    """Return what a plan takes of the site that it was made for."""
    jobs: list[JobCost] = []
    unbilled: dict[str, None] = {}
    for job in plan.jobs:
        taken = taken_by(job, site)
        hours = job.time_s / _HOUR_S
        units = _units(job, taken, site, hours)
        if site.billing is not None and not units:
            unbilled[job.options.get("partition") or ""] = None
        limit = longest_s(site.rules, job.options.get("partition"), job.options.get("qos"))
        jobs.append(
            JobCost(
                name=job.name,
                token=job.token,
                nodes=taken.nodes,
                gpus=taken.gpus or 0,
                time_s=job.time_s,
                cost=Cost(taken.nodes * hours, (taken.gpus or 0) * hours, units),
                limit=None if limit is None else limit[0],
                limit_s=None if limit is None else limit[1],
            )
        )
    return Preflight(
        site=site.name,
        jobs=tuple(jobs),
        points=tuple(_points(plan, jobs)),
        total=_sum(job.cost for job in jobs),
        demand=largest_demand(plan.jobs, {job.token: (job.nodes, job.gpus) for job in jobs}),
        paths=paths(plan),
        notes=tuple(_notes(plan, site, jobs, list(unbilled))),
    )


def refuse_above(plan: Plan, site: Site, max_node_hours: float) -> None:
    """Refuse a plan that may take more than a number of node-hours.

    Raises:
        UsageError: it may.
    """
    total = preflight(plan, site).total.node_hours
    if total > max_node_hours:
        raise UsageError(
            f"the run may take {total:.2f} node-hours on {site.name}, and at most {max_node_hours:g} are allowed",
            "every job counts with its whole walltime, see `plan`; measure less, set resources.time, or allow more",
        )


def taken_by(job: PlannedJob, site: Site) -> Taken:
    """Return what a job holds of a site while it runs."""
    nodes = int(job.options.get("nodes") or min(job.nodes, job.ranks))
    shapes = shapes_of(site.nodes, job.options.get("partition"))
    whole = has_whole_nodes(site.rules, shapes, job.options)
    resources = Resources(cpus=job.cpus, gpus=job.gpus)
    cores = cpus_of(site.rules, shapes, resources, whole=whole)
    gpus = job.gpus
    memory_bytes = job.memory_bytes
    if whole:
        gpus = max([gpus, *(shape.gpus or 0 for shape in shapes)])
        cores = max((shape.cpus for shape in shapes if shape.cpus is not None), default=None)
        memory_bytes = max((shape.memory_bytes for shape in shapes if shape.memory_bytes is not None), default=None)
    elif cores is None:
        cores = -(-job.ranks // nodes)  # Slurm gives each rank one
    return Taken(
        nodes=nodes,
        gpus=gpus * nodes,
        cores=None if cores is None else cores * nodes,
        memory_bytes=None if memory_bytes is None else memory_bytes * nodes,
    )


def paths(plan: Plan) -> "tuple[PathNeed, ...]":
    """Return the paths that must be there before a run: the folder of runs on all nodes, images and models on compute nodes."""
    runs = plan.run_folder.rpartition("/")[0]
    needed: dict[str, list[str]] = {}
    for job in plan.jobs:
        for path in job.paths:
            needed.setdefault(path, []).append(job.name)
    return (
        PathNeed(runs, "login", ()),
        PathNeed(runs, "compute", ()),
        *(PathNeed(path, "compute", tuple(names)) for path, names in needed.items()),
    )


def _units(job: PlannedJob, taken: Taken, site: Site, hours: float) -> "dict[Unit, float]":
    if site.billing is None:
        return {}
    charge = site.billing.charge(job.options.get("partition"))
    an_hour = None if charge is None else units_per_hour(charge, taken)
    return {} if charge is None or an_hour is None else {charge.unit or site.billing.unit: an_hour * hours}


def _sum(costs: Iterable[Cost], share: float = 1.0) -> Cost:
    node_hours = gpu_hours = 0.0
    units: dict[Unit, float] = {}
    for cost in costs:
        node_hours += cost.node_hours * share
        gpu_hours += cost.gpu_hours * share
        for unit, amount in cost.units.items():
            units[unit] = units.get(unit, 0.0) + amount * share
    return Cost(node_hours, gpu_hours, units)


def _points(plan: Plan, jobs: "list[JobCost]") -> "list[PointCost]":
    """Return what each measurement takes; a job that none uses, such as one that copies, is in the total only."""
    weights = [_weight(point) for point in plan.points]
    users: dict[str, float] = {}
    for point, weight in zip(plan.points, weights, strict=True):
        for token in {point.token, *point.services}:
            users[token] = users.get(token, 0.0) + weight
    by_token = {job.token: job.cost for job in jobs}
    found = []
    for point, weight in zip(plan.points, weights, strict=True):
        parts = [_sum([by_token[token]], weight / users[token]) for token in {point.token, *point.services} & set(by_token)]
        found.append(PointCost(point.id, point.client, _sum(parts)))
    return found


def _weight(point: PlannedPoint) -> float:
    """Return how long a measurement is to last as far as the plan says, seconds, never nothing."""
    return max(1.0, float(point.load.get("warmup_s") or 0.0) + float(point.load.get("duration_s") or 0.0))


def _notes(plan: Plan, site: Site, jobs: "list[JobCost]", unbilled: "list[str]") -> "list[str]":
    notes = []
    if site.billing is None:
        notes.append(f"how {site.name} bills is not known")
    notes += [f"what {_called(partition)} of {site.name} costs is not known, so units leave it out" for partition in unbilled]
    partitions = dict.fromkeys(job.options.get("partition") or "" for job in plan.jobs)
    for partition in partitions:
        unlimited = [
            job for job, planned in zip(jobs, plan.jobs, strict=True) if (planned.options.get("partition") or "") == partition
        ]
        if any(job.limit is None for job in unlimited):
            notes.append(f"the longest walltime in {_called(partition)} of {site.name} is not known")
        if site.nodes and not shapes_of(site.nodes, partition or None):
            notes.append(f"what nodes of {_called(partition)} of {site.name} have is not known")
    if plan.retries:
        notes.append(f"{plan.retries} retries: measurements that the site loses are planned again, beyond these hours")
    lasting_s = max((job.time_s for job in jobs), default=0.0)
    lifetime_s = site.rules.certificate_lifetime_s
    if lifetime_s is not None and lasting_s > lifetime_s:
        notes.append(
            f"a login certificate of {site.name} holds {format_duration(lifetime_s)}, and jobs may take longer: when it has "
            "ended the run goes on by itself, and `attach` takes it up after a new login"
        )
    elif site.rules.otp:
        notes.append(f"a login to {site.name} wants a person: after a lost connection `attach` takes the run up")
    return notes


def _called(partition: str) -> str:
    return f"the partition {partition}" if partition else "the default partition"
