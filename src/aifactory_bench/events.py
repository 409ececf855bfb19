"""Run-level events: what a listener of a run is told, as it happens."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from attrs import field, frozen

TYPES = frozenset(
    {
        "planned",  # data: jobs, points, folder, asked_s: `job/point` -> phase -> how long it is to last
        "submitted",  # data: job_id, token
        "job_state",  # data: state, text; the submitter sees the job differently from before
        "phase",  # data: name, one of node.events.PHASES
        "ready",  # data: waited_s, facts
        "point_started",  # data: point
        "point_finished",  # data: point, status
        "job_ended",  # data: state, text
        "stopping",  # data: reason
        "warning",  # data: text
        "finished",  # data: status
    }
)


@frozen
class RunEvent:
    """Something happened in a run."""

    wall_ns: int
    type: str
    """One of `TYPES`."""
    job: str = ""
    """Name of the job; empty for the run itself."""
    data: Mapping[str, Any] = field(factory=dict)


Listener = Callable[[RunEvent], None]
"""Called on the controller's loop: it must return quickly. One that raises is called no more."""


def now(type: str, job: str = "", **data: Any) -> RunEvent:
    """Return an event that happens now."""
    if type not in TYPES:
        raise ValueError(f"unknown event type {type!r}")
    return RunEvent(time.time_ns(), type, job, data)


def nobody(_event: RunEvent) -> None:
    """Listen to nothing."""


def guarded(listener: Listener) -> Listener:
    """Return a listener that never raises: once the given one has, that is logged, and it is called no more."""
    listening = [listener]

    def tell(event: RunEvent) -> None:
        try:
            listening[0](event)
        except Exception:
            listening[0] = nobody
            logging.getLogger(__package__).warning("a listener failed and is called no more", exc_info=True)

    return tell
