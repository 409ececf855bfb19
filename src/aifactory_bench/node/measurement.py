"""One rank's measurement of one point: the document `measurements/<point>.json`.

Times are nanoseconds of CLOCK_MONOTONIC unless the name says `wall`. Everything counted lies in the window: a request
belongs to the window when its *scheduled* time (open loop) or its sending (closed loop) does.
"""

from dataclasses import asdict, dataclass, field
from typing import Any, Dict, List, Optional

VERSION = 1

STATUSES = (
    "ok",  # the window was run to its end
    "cut",  # ended early by a stop, a dead service, the walltime; what was measured is here
    "failed",  # there is no measurement: `reason` says why
)


@dataclass
class Counts:
    """Requests of the window by how they ended."""

    ok: int = 0
    error: int = 0
    timeout: int = 0
    skipped: int = 0
    """Scheduled in the window and never sent."""


@dataclass
class Health:
    """What the generator knows about itself."""

    workers: int = 1
    cpu_share: List[Optional[float]] = field(default_factory=list)
    """Per worker process or thread of the generator: CPU seconds per second of the window; None where unknown."""
    lateness: Optional[Dict[str, Any]] = None
    """Histogram (ns): scheduled time to sending, less the wait for a free connection. The generator's own fault."""
    gate: Optional[Dict[str, Any]] = None
    """Histogram (ns): how long a scheduled request waited as every connection was taken. The server's doing, or the limit's."""
    loop_lag: Optional[Dict[str, Any]] = None
    """Histogram (ns): how long one turn of the event loop took to come round."""
    observation_age: Optional[Dict[str, Any]] = None
    """Histogram (ns): how long what was read had lain in the kernel, by the kernel's own stamps, of one connection in eight. A
    generator that has no core when an answer comes sees it late, and this is by how much. None where no kernel stamps."""
    stalled_s: Optional[float] = None
    """Of the window: how long the worst worker should have run and did not. None where unknown."""
    stalled_max_s: Optional[float] = None
    """The longest such time in one piece, of any worker."""


@dataclass
class Measurement:
    """One rank, one point.

    A `reduce` must give the first five; with status `ok` also `counts`, `window_asked_s` and `window_s`.
    """

    point: str
    client: str
    kind: str
    rank: int
    status: str
    """One of `STATUSES`."""
    reason: str = ""
    """Why it was cut or failed, one sentence."""
    process: str = ""
    """Arrival process, as `process` of a load; a tool's own name for it otherwise."""
    unit: str = "request"
    """What one count is: request, transaction, query, ..."""
    window_asked_s: float = 0.0
    window_s: float = 0.0
    start_wall_ns: int = 0
    """Start of the window."""
    end_wall_ns: int = 0
    offered_per_s: Optional[float] = None
    """Asked of this rank; None in closed loop."""
    achieved_per_s: Optional[float] = None
    """Ended well, per second of the window."""
    counts: Counts = field(default_factory=Counts)
    """`Counts(ok=..., error=...)`, no dictionary."""
    errors: Dict[str, int] = field(default_factory=dict)
    """Class -> number."""
    latency: Dict[str, Dict[str, Any]] = field(default_factory=dict)
    """Operation -> {"send": histogram, "schedule": histogram or null}, as `Histogram.to_json()`; `all` is the sum."""
    quantiles: Dict[str, Dict[str, Any]] = field(default_factory=dict)
    """For tools that give no histogram: operation -> {"p50_us": ..., "max_us": ..., "count": ...}; they cannot be merged."""
    histogram_quality: str = "exact"
    """`exact` (own recorder, raw log), `bucketed`, `text` (read off a printed distribution) or `none`."""
    slices: List[Dict[str, Any]] = field(default_factory=list)
    """One a second of the window: {"second": n, "ok": n, "error": n, "latency": {operation: {clock: histogram}}}."""
    phase_counts: Dict[str, Dict[str, int]] = field(default_factory=dict)
    """`warmup`: ok, error, timeout, skipped before the window, not in `counts`; `drain`: what of `counts` ended after it."""
    phases_s: Dict[str, float] = field(default_factory=dict)
    """Seconds spent in prepare, warmup, measure, drain, collect."""
    health: Health = field(default_factory=Health)
    server_before: Dict[str, float] = field(default_factory=dict)
    """Counters of the server before the warm-up and after the drain; what `operations` rose by, where given, is comparable to
    `counts` and `phase_counts["warmup"]` of all ranks together, less what was skipped."""
    server_after: Dict[str, float] = field(default_factory=dict)
    services: Dict[str, Dict[str, Any]] = field(default_factory=dict)
    """Role -> {"died": bool, "restarted": bool, "text": what was seen}: the targets, from before the window to after it."""
    metrics: Dict[str, Dict[str, Any]] = field(default_factory=dict)
    """Name -> {"value": number, "unit": text, "merge": how ranks become one}; what else the product reports, such as hits. See
    `load.own.merged_metric`."""
    distributions: Dict[str, Dict[str, Any]] = field(default_factory=dict)
    """Name -> {"unit", "histogram"}: what the product measures beside latencies. With the unit `us` the histogram holds
    nanoseconds, with any other whole numbers of that unit."""
    sums: Dict[str, Dict[str, Any]] = field(default_factory=dict)
    """Name -> {"unit", "per_second": a number a second of the window}: what adds up over ranks, such as tokens."""
    totals: Dict[str, float] = field(default_factory=dict)
    """Name -> all of warm-up, window and drain, to be compared with the server's counter of the same name."""
    absent: Dict[str, str] = field(default_factory=dict)
    """Field -> why it is not there."""
    unchecked: List[str] = field(default_factory=list)
    """Codes of checks that the tool's output does not allow."""
    tool: Dict[str, Any] = field(default_factory=dict)
    """Of a tool: name, version, argv (secrets left out), exit_code, signal, duration_s."""
    prepare: Dict[str, Any] = field(default_factory=dict)
    """What the preparation did, as the product tells: keys written, ..."""
    provenance: Dict[str, Any] = field(default_factory=dict)
    """seed, python, endpoints with nonce and server version, ..."""
    v: int = VERSION


def to_json(measurement: Measurement) -> Dict[str, Any]:
    """Return the document."""
    return asdict(measurement)


def from_json(data: Any) -> Measurement:
    """Build the value from a document; unknown fields are ignored.

    Raises:
        ValueError: not a measurement of this version.
    """
    if not isinstance(data, dict) or data.get("v") != VERSION:
        raise ValueError(f"not a measurement of version {VERSION}")
    known = {name: value for name, value in data.items() if name in Measurement.__dataclass_fields__}
    try:
        known["counts"] = Counts(**known.get("counts", {}))
        known["health"] = Health(**known.get("health", {}))
        return Measurement(**known)
    except TypeError as error:
        raise ValueError(f"not a measurement: {error}") from None
