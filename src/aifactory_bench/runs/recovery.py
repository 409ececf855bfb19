"""Taking a run up again: what is left to do, and a plan for it."""

import re
from collections.abc import Mapping

from attrs import evolve

from ..node.paths import RunPaths
from ..plan import Plan, PlannedPoint
from ..submitters.base import JobState, JobStatus
from .collect import finished
from .journal import read_journal

_ATTEMPT = re.compile(r"-(\d+)$")


def unfinished_points(plan: Plan, paths: RunPaths) -> "tuple[PlannedPoint, ...]":
    """Return the planned measurements that do not exist, failed, or were cut short."""
    return tuple(point for point in plan.points if not finished(paths, point))


def live_jobs(plan: Plan, statuses: Mapping[str, JobStatus]) -> "tuple[str, ...]":
    """Return the tokens of jobs that have not ended."""
    return tuple(job.token for job in plan.jobs if job.token in statuses and not statuses[job.token].state.final)


def recorded_statuses(paths: RunPaths) -> "dict[str, JobStatus]":
    """Return how the jobs of a run stood when a controller here last looked, by its journal."""
    statuses: dict[str, JobStatus] = {}
    for entry in read_journal(paths.journal):
        data = entry["data"]
        token, before = str(data.get("token")), statuses.get(str(data.get("token")))
        if entry["type"] == "submitted":
            statuses[token] = JobStatus(token, str(data.get("job_id")), JobState.UNKNOWN)
        elif entry["type"] == "job_final":
            job_id = before.job_id if before is not None else None
            statuses[token] = JobStatus(token, job_id, JobState(data["state"]), str(data.get("text", "")))
    return statuses


def next_attempt(plan: Plan) -> int:
    """Return the number that the next attempt's tokens end in."""
    attempts = [int(match[1]) for job in plan.jobs if (match := _ATTEMPT.search(job.token))]
    return max(attempts, default=-1) + 1


def join(old: Plan, new: Plan, statuses: Mapping[str, JobStatus]) -> Plan:
    """Return one plan of what was done and what is to be done now.

    Jobs of the old plan that were never submitted are superseded and left out; measurements that the new plan makes again
    are expected from its jobs, the others stay where they are.
    """
    again = {(point.client, point.id): point for point in new.points}
    done = tuple(job for job in old.jobs if job.token in statuses)
    points = tuple(again.get((point.client, point.id), point) for point in old.points)
    return evolve(new, jobs=done + new.jobs, points=points, limits=old.limits)
