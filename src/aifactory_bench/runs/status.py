"""How a run stands, as one value."""

from collections.abc import Mapping
from typing import Any, Literal, Optional

from attrs import frozen

from ..node.events import read_events
from ..node.paths import RunPaths
from ..plan import Plan, PlannedJob
from ..submitters.base import JobState, JobStatus


@frozen
class JobStatusRow:
    """How one job of a run stands."""

    name: str
    role: str
    kind: str
    token: str
    job_id: Optional[str]
    state: str
    """Of the submitter, or `not submitted`."""
    phase: str
    """The last phase that any rank began; empty before the first."""
    points_done: int
    points_total: int
    """Of a client; 0 for services."""


@frozen
class RunStatus:
    """How a run stands."""

    run_id: str
    recipe: str
    state: Literal["running", "finished", "interrupted", "failed", "unfinished"]
    """`unfinished`: no job runs, and nobody wrote a summary: `attach` takes it up."""
    jobs: "tuple[JobStatusRow, ...]"
    run_folder: str
    verdict: Optional[str]
    """Of a run that has its summary."""


def read_status(
    plan: Plan, paths: RunPaths, statuses: Mapping[str, JobStatus], summary: "Optional[Mapping[str, Any]]"
) -> RunStatus:
    """Put a run's status together from its folder and its jobs' states."""
    points: dict[str, list[str]] = {}
    for point in plan.points:
        points.setdefault(point.token, []).append(point.id)
    rows = tuple(_row(job, points.get(job.token, []), paths, statuses.get(job.token)) for job in plan.jobs)
    running = any(not status.state.final for status in statuses.values())
    status = str((summary or {}).get("status"))
    if running:
        state: Literal["running", "finished", "interrupted", "failed", "unfinished"] = "running"
    elif status == "finished":
        state = "finished"
    elif status == "interrupted":
        state = "interrupted"
    elif status == "failed":
        state = "failed"
    else:
        state = "unfinished"
    verdict = None if running or summary is None else str(summary.get("verdict"))
    return RunStatus(plan.run_id, plan.recipe_name, state, rows, str(paths.folder), verdict)


def _row(job: PlannedJob, points: "list[str]", paths: RunPaths, status: Optional[JobStatus]) -> JobStatusRow:
    ranks = [paths.job(job.token).rank(rank) for rank in range(job.ranks)]
    done = sum(all(rank.measurement(point).exists() for rank in ranks) for point in points)
    return JobStatusRow(
        name=job.name,
        role=job.role,
        kind=job.kind,
        token=job.token,
        job_id=status.job_id if status is not None else None,
        state=status.state.value if status is not None else "not submitted",
        phase=_phase(job, paths) if status is not None and status.state is JobState.RUNNING else "",
        points_done=done,
        points_total=len(points),
    )


def _phase(job: PlannedJob, paths: RunPaths) -> str:
    latest, name = 0, ""
    for rank in range(job.ranks):
        for event, _offset in read_events(paths.job(job.token).rank(rank).events):
            wall_ns = event.get("wall_ns")
            if event.get("type") == "phase" and isinstance(wall_ns, int) and wall_ns >= latest:
                latest, name = wall_ns, str(event["data"].get("name", ""))
    return name
