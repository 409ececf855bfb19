"""From a run folder to a RunResult: measurements and the ends of jobs, as they lie there."""

from collections.abc import Mapping
from typing import Any, Literal, Optional

from ..node.events import OUTCOMES
from ..node.files import read_json
from ..node.paths import RunPaths
from ..plan import Plan, PlannedJob, PlannedPoint
from ..results.model import JobOutcome, RunResult
from ..submitters.base import JobState, JobStatus
from .watch import exit_record

Status = Literal["finished", "interrupted", "detached", "failed"]


def key(point: PlannedPoint) -> str:
    """Return the name of a planned measurement: `<client>/<point id>`."""
    return f"{point.client}/{point.id}"


def collect(
    plan: Plan,
    paths: RunPaths,
    status: Status,
    statuses: Mapping[str, JobStatus],
    error: "Optional[Mapping[str, str]]" = None,
) -> RunResult:
    """Read everything that a run left behind.

    Args:
        plan: What was planned.
        paths: The controller's run folder.
        status: How the run as a whole ended.
        statuses: Token -> what the submitter says of the job; a job that was never submitted is missing.
        error: `code`, `text`, `hint` of what stopped the run, if anything did.
    """
    measurements = {key(point): documents(paths, point) for point in plan.points}
    jobs = tuple(_outcome(job, paths, statuses.get(job.token)) for job in plan.jobs)
    found = {name: documents for name, documents in measurements.items() if documents}
    return RunResult(plan.run_id, status, jobs, found, error, str(paths.folder))


def documents(paths: RunPaths, point: PlannedPoint) -> "tuple[Mapping[str, Any], ...]":
    """Return the measurements of one point by the ranks that made one."""
    found = []
    for rank in range(point.ranks):
        try:
            document = read_json(paths.job(point.token).rank(rank).measurement(point.id))
        except ValueError:
            continue  # renamed into place whole, so this is damage, and a damaged measurement is none
        if isinstance(document, dict):
            found.append(document)
    return tuple(found)


def finished(paths: RunPaths, point: PlannedPoint) -> bool:
    """Whether a point need not be measured again: every rank has a measurement that ran to its end."""
    found = documents(paths, point)
    return len(found) == point.ranks and all(document.get("status") == "ok" for document in found)


def _outcome(job: PlannedJob, paths: RunPaths, status: Optional[JobStatus]) -> JobOutcome:
    records = [exit_record(paths, job.token, rank) for rank in range(job.ranks)]
    outcomes = [str(record["outcome"]) for record in records if record is not None and record.get("outcome") in OUTCOMES]
    worst = max(outcomes, key=_badness, default=None)
    text = next((str(record.get("text", "")) for record in records if record and record.get("outcome") == worst), "")
    tail = next((str(record.get("log_tail", "")) for record in records if record and record.get("outcome") == worst), "")
    if worst not in ("completed", "stopped") and tail.strip():
        text = f"{text}\nlast lines of its log:\n{tail.strip()}"
    phases: dict[str, float] = {}
    for record in records:
        for name, value in ((record or {}).get("phases_s") or {}).items():
            if isinstance(value, (int, float)):
                phases[str(name)] = max(phases.get(str(name), 0.0), float(value))
    state = status.state if status is not None else None
    return JobOutcome(
        name=job.name,
        role=job.role,
        kind=job.kind,
        token=job.token,
        job_id=status.job_id if status is not None else None,
        state=state.value if state is not None else "not submitted",
        outcome=worst,
        text=text or (status.text if status is not None and state is not JobState.COMPLETED else ""),
        phases_s=phases,
    )


def _badness(outcome: str) -> int:
    order = ("completed", "fenced", "stopped", "timeout", "lease_expired", "no_endpoint", "not_ready", "failed")
    return order.index(outcome)
