"""What the jobs of a run have printed."""

from typing import Optional

from attrs import frozen

from ..errors import RunError
from ..node.paths import RunPaths
from ..plan import Plan
from .store import read_log


@frozen
class LogText:
    """The log of one rank of one job."""

    job: str
    rank: int
    text: str


def read_logs(plan: Plan, paths: RunPaths, job: Optional[str]) -> "list[LogText]":
    """Return the logs of all jobs of a run, or of one.

    Raises:
        RunError: there is no such job.
    """
    if job is not None and job not in {planned.name for planned in plan.jobs}:
        known = ", ".join(dict.fromkeys(planned.name for planned in plan.jobs))
        raise RunError(f"run {plan.run_id} has no job {job!r}; it has: {known}")
    found = []
    for planned in plan.jobs:
        if job in (None, planned.name):
            folder = paths.job(planned.token)
            for rank in range(planned.ranks):
                text = read_log(folder.log) if rank == 0 else ""
                found.append(LogText(planned.name, rank, text + read_log(folder.rank(rank).log)))
    return found
