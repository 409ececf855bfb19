"""Measurements that the site lost before they had begun: they may be made again, and no number is touched by that."""

from collections.abc import Mapping

from ..node.events import read_events
from ..node.paths import RunPaths
from ..plan import Plan, PlannedJob, PlannedPoint
from ..submitters.base import JobState, JobStatus

LOST_TO_SITE = frozenset({JobState.NODE_FAIL, JobState.PREEMPTED, JobState.BOOT_FAIL, JobState.LOST})
"""Ends that say nothing of the job itself."""
_OF_A_NODE = frozenset({JobState.NODE_FAIL, JobState.BOOT_FAIL})


def lost_points(
    plan: Plan, paths: RunPaths, statuses: Mapping[str, JobStatus], unfinished: "tuple[PlannedPoint, ...]"
) -> "tuple[PlannedPoint, ...]":
    """Return those of the unfinished measurements whose job, or a service of it, was lost to the site before their window."""
    lost = {token for token, status in statuses.items() if status.state in LOST_TO_SITE}
    return tuple(
        point
        for point in unfinished
        if not lost.isdisjoint({point.token, *point.services}) and not _window_began(plan.job(point.token), paths, point)
    )


def failed_nodes(statuses: Mapping[str, JobStatus]) -> "tuple[str, ...]":
    """Return the nodes, as Slurm writes lists of them, that failed under a job."""
    return tuple(sorted({status.nodes for status in statuses.values() if status.state in _OF_A_NODE and status.nodes}))


def _window_began(job: PlannedJob, paths: RunPaths, point: PlannedPoint) -> bool:
    """Return whether any rank had begun to measure the point."""
    for rank in range(job.ranks):
        current = ""
        for event, _offset in read_events(paths.job(job.token).rank(rank).events):
            if event.get("type") == "point_started":
                current = str(event["data"].get("point", ""))
            elif event.get("type") == "phase" and event["data"].get("name") == "measure" and current == point.id:
                return True
    return False
