"""What the node side has written so far: events as they come, and how ranks ended."""

from collections.abc import Container, Iterator
from typing import Any, Optional

from ..events import RunEvent
from ..node.events import read_events
from ..node.files import read_json
from ..node.paths import RunPaths
from ..plan import Plan, PlannedJob

_TOLD = {
    "phase": "phase",
    "ready": "ready",
    "point_started": "point_started",
    "point_finished": "point_finished",
    "warning": "warning",
    "monitor_failed": "warning",
    "port_taken": "warning",
}


class NodeWatcher:
    """Reads the events of every rank of a plan, each once."""

    def __init__(self, plan: Plan, paths: RunPaths) -> None:
        self.plan = plan
        self._paths = paths
        self._offsets: dict[tuple[str, int], int] = {}
        self._finished: set[str] = set()

    def advance(self, submitted: Container[str]) -> Iterator[RunEvent]:
        """Yield what is new since the last call, job by job; submitted: tokens of the jobs that can have written anything."""
        for job in self.plan.jobs:
            if job.token in submitted and job.token not in self._finished:
                ended = self.ended(job)  # before reading: an ended rank writes no event any more
                for rank in range(job.ranks):
                    yield from self._rank(job, rank)
                if ended:
                    self._finished.add(job.token)

    def _rank(self, job: PlannedJob, rank: int) -> Iterator[RunEvent]:
        key = (job.token, rank)
        path = self._paths.job(job.token).rank(rank).events
        for event, offset in read_events(path, self._offsets.get(key, 0)):
            self._offsets[key] = offset
            told = _TOLD.get(str(event.get("type")))
            wall_ns = event.get("wall_ns")
            if told is not None and isinstance(wall_ns, int):
                data = dict(event["data"])
                if event["type"] == "port_taken":
                    data["text"] = f"port {data.get('port')} was taken; another one is tried"
                yield RunEvent(wall_ns, told, job.name, {"rank": rank, **data})

    def published(self, token: str) -> bool:
        """Whether every replica of a service can be reached."""
        job = self.plan.job(token)
        return all(self._paths.endpoint(token, replica).exists() for replica in range(job.ranks))

    def ended(self, job: PlannedJob) -> bool:
        """Whether every rank has written its last word."""
        return all(self._paths.job(job.token).rank(rank).exit.exists() for rank in range(job.ranks))


def exit_record(paths: RunPaths, token: str, rank: int) -> "Optional[dict[str, Any]]":
    """Return how a rank ended, or None when it did not, or did not say."""
    try:
        record = read_json(paths.job(token).rank(rank).exit, limit_bytes=1 << 20)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
