"""What a job is told about the run it belongs to: everything its script needs beside the job itself."""

import re
from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from ..errors import UsageError
from ..node.spec import PointSpec, TargetSpec

_PLAIN = re.compile(r"[A-Za-z0-9_.-]+")


@frozen
class JobContext:
    """One job's place in a run."""

    run_id: str
    node_digest: str
    """Of the zipapp that the run folder holds."""
    time_s: float
    """Walltime."""
    suffix: str = ""
    """Behind the name in the recipe, where the run has several jobs of it: `-s0`."""
    attempt: int = 0
    lease_s: float | None = None
    after: Mapping[str, int] = field(factory=dict)
    """Token -> ranks of jobs that must have ended before this one begins."""
    monitors: Mapping[str, Mapping[str, Any]] = field(factory=dict)
    clients: Mapping[str, int] = field(factory=dict)
    """Of a service: token -> ranks of the client jobs it lives for."""
    ready_timeout_s: float = 120.0
    """Of a service."""
    targets: Mapping[str, TargetSpec] = field(factory=dict)
    """Of a client: role -> service."""
    points: "tuple[PointSpec, ...]" = ()
    """Of a client, in order."""
    wait_timeout_s: float = 120.0
    """Of a client: how long it waits for the endpoints of its targets."""


def job_token(run_id: str, job: str, attempt: int = 0) -> str:
    """Return the token of a job: `afb-<run id>-<job>-<attempt>`; it names folders and stands in scripts as it is.

    Raises:
        UsageError: the run id or the name has characters that neither a folder nor a shell should see.
    """
    for what, name in (("run id", run_id), ("name of a job", job)):
        if not _PLAIN.fullmatch(name):
            raise UsageError(f"{name!r} cannot be the {what}", "letters, digits, hyphens, underscores and dots are allowed")
    return f"afb-{run_id}-{job}-{attempt}"
