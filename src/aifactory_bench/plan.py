"""A plan: everything that will be submitted, final; the value between the factory and the engine.

It is kept in the run folder as `plan.json` and is enough to take a run up from anywhere.
"""

import json
from collections.abc import Mapping
from typing import Any, Literal, Optional

import cattrs
from attrs import field, frozen

VERSION = 1


@frozen
class PlannedPoint:
    """One measurement of one client that the plan asks for."""

    id: str
    """`p0003-r1`: point, repetition."""
    index: int
    repetition: int
    parameters: Mapping[str, Any]
    """Matrix path -> value as written."""
    client: str
    kind: str
    token: str
    """Of the client job that makes it."""
    ranks: int
    offered_per_s: Optional[float]
    """Open loop: the total asked of the client."""
    process: str
    load: Mapping[str, Any]
    """As in the node's `PointSpec.load`."""
    client_parameters: Mapping[str, Any]
    service_parameters: Mapping[str, Mapping[str, Any]]
    """Service name -> parameters."""
    services: "tuple[str, ...]"
    """What it measures: tokens of service jobs, and urls of external services."""


@frozen
class PlannedJob:
    """One job to submit."""

    name: str
    """In the recipe, with a suffix where the run has several jobs of it: `cache-s0`."""
    role: Literal["service", "client"]
    kind: str
    token: str
    """`afb-<run id>-<job>-<attempt>`."""
    script: str
    """Text of the batch script, exactly as submitted."""
    ranks: int
    time_s: float
    after: "tuple[str, ...]" = ()
    """Tokens of jobs that end before this one begins; enforced on the node."""
    submit: Literal["at_once", "when_ready"] = "at_once"
    services: "tuple[str, ...]" = ()
    """Clients: tokens of the services they use."""
    cpus: Optional[int] = None
    memory_bytes: Optional[int] = None
    nodes: int = 1
    gpus: int = 0
    options: Mapping[str, Optional[str]] = field(factory=dict)
    """What the scheduler is asked for, as in the script's header: long name -> value; None: an option without one."""
    paths: "tuple[str, ...]" = ()
    """Absolute paths that its nodes must have: image, model."""


@frozen
class Plan:
    """A whole run."""

    run_id: str
    recipe_name: str
    site: str
    run_folder: str
    """On the site, absolute."""
    jobs: "tuple[PlannedJob, ...]"
    """In the order of submission: a job stands behind everything in its `after` and `services`."""
    points: "tuple[PlannedPoint, ...]"
    """In the order of execution."""
    limits: Mapping[str, float]
    lease_s: Optional[float]
    max_jobs: int
    node_modules: "tuple[str, ...]"
    """What joins the zipapp beside our own node side."""
    node_digest: str
    """Of the zipapp: first 16 hex digits of its SHA-256."""
    max_pending_s: Optional[float] = None
    """That a job may wait in a queue; None: for ever."""
    retries: int = 0
    """How often measurements are planned again that the site lost before their window."""
    provenance: Mapping[str, Any] = field(factory=dict)
    """Recipe hash, versions of the core and of plugins."""
    version: int = VERSION

    def job(self, token: str) -> PlannedJob:
        """Return the job with a token.

        Raises:
            KeyError: the plan has none.
        """
        for job in self.jobs:
            if job.token == token:
                return job
        raise KeyError(token)


def asked_s(plan: Plan) -> "dict[str, dict[str, float]]":
    """Return how long phases of points are to last, where the plan says: `job/point` -> phase -> seconds."""
    names = {job.token: job.name for job in plan.jobs}
    keys = {"warmup": "warmup_s", "measure": "duration_s"}
    return {
        f"{names[point.token]}/{point.id}": {phase: point.load[key] for phase, key in keys.items() if key in point.load}
        for point in plan.points
    }


_CONVERTER = cattrs.Converter(forbid_extra_keys=False)


def plan_to_json(plan: Plan) -> str:
    """Return the plan as a JSON document."""
    return json.dumps(_CONVERTER.unstructure(plan), indent=1, sort_keys=True) + "\n"


def plan_from_json(text: str) -> Plan:
    """Build a plan from its document.

    Raises:
        ValueError: not a plan of this version.
    """
    try:
        data = json.loads(text)
        if data.get("version") != VERSION:
            raise ValueError(f"not a plan of version {VERSION}")
        return _CONVERTER.structure(data, Plan)
    except (AttributeError, cattrs.BaseValidationError) as error:
        raise ValueError(f"not a plan: {error}") from None
