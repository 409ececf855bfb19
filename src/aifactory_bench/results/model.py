"""Results as values: what `summary.json` holds."""

from collections.abc import Mapping
from typing import Any, Literal, Optional

from attrs import field, frozen

SCHEMA = "aifactory-bench/results/1"

Verdict = Literal["valid", "degraded", "invalid"]


@frozen
class Reason:
    """Why a measurement is not simply valid."""

    code: str
    """A code of the table in `results.validity`."""
    text: str
    """What was found and what the limit was."""
    verdict: Verdict
    """What this reason alone makes of the measurement."""


@frozen
class Latency:
    """Quantiles of one operation by one clock, microseconds."""

    p50_us: Optional[float]
    p90_us: Optional[float]
    p99_us: Optional[float]
    p999_us: Optional[float]
    max_us: Optional[float]
    count: int
    mean_us: Optional[float] = None


@frozen
class MergedMeasurement:
    """One client at one point in one repetition, all replicas together."""

    client: str
    kind: str
    verdict: Verdict
    reasons: "tuple[Reason, ...]"
    unchecked: "tuple[str, ...]"
    """Codes of checks that could not be made; the best verdict then is `degraded`."""
    unit: str
    process: str
    window_s: Optional[float]
    counts: Mapping[str, int]
    """ok, error, timeout, skipped: sums over the replicas' own windows."""
    errors: Mapping[str, int]
    offered_per_s: Optional[float]
    achieved_per_s: Optional[float]
    latency: "Mapping[str, Mapping[str, Optional[Latency]]]"
    """Operation -> {send, schedule}; schedule is None in closed loop."""
    metrics: Mapping[str, Mapping[str, Any]]
    distributions: Mapping[str, Mapping[str, Any]]
    low_n: "tuple[str, ...]"
    """Paths of quantiles that rest on too few samples."""
    absent: Mapping[str, str]
    replicas: int
    phases_s: Mapping[str, float]
    health: Mapping[str, Any]
    """lateness_p99_us, gate_p99_us, loop_lag_p99_us, observation_age_p99_us, cpu_share_max, stalled_share_max, stalled_max_s,
    workers."""
    provenance: Mapping[str, Any]
    series: "tuple[Mapping[str, Any], ...]" = ()
    """One a second of the window: second, ok, error, p50_us, p99_us (from sending), and from schedule where there is one."""
    histograms: Mapping[str, Any] = field(factory=dict)
    """Merged counts: operation -> clock -> histogram."""


@frozen
class Evidence:
    """What the checks look at beside the merged numbers."""

    ranks_planned: int
    ranks_absent: Mapping[int, str] = field(factory=dict)
    """Rank -> why it has no measurement."""
    ranks_cut: Mapping[int, str] = field(factory=dict)
    """Rank -> why its window ended early."""
    window_asked_s: Optional[float] = None
    """None: the load is not bound by time."""
    window_shortest_s: Optional[float] = None
    """Of the ranks' own windows."""
    overlap_share: Optional[float] = None
    """Intersection of the windows by the longest of them; None: one rank, or times unknown."""
    services: Mapping[str, Mapping[str, Any]] = field(factory=dict)
    """Role -> died, restarted, text."""
    tools_failed: "tuple[str, ...]" = ()
    """One sentence a rank whose tool did not end well."""
    differences: "tuple[str, ...]" = ()
    """In what the ranks differ although they must not."""
    client_operations: Optional[float] = None
    """Sent by every client that used the service at this point."""
    server_operations: Optional[float] = None
    """Counted by the server meanwhile; None: not to be compared, see `absent`."""
    due_per_s: Optional[float] = None
    """What the ranks had to do, each per second of what its achieved rate is of."""
    due_expected: Optional[float] = None
    """What the offered rate makes in the ranks' own windows; None: no rate is offered."""
    other_totals: "Mapping[str, tuple[float, float]]" = field(factory=dict)
    """Name -> what the clients and what the server counted of it, such as tokens."""


@frozen
class Merged:
    """One client at one point, merged and not yet judged: what the checks get."""

    measurement: MergedMeasurement
    """Its verdict means nothing yet."""
    evidence: Evidence


@frozen
class PointResult:
    """One point in one repetition."""

    id: str
    """`p0003-r1`."""
    parameters: Mapping[str, Any]
    repetition: int
    measurements: "tuple[MergedMeasurement, ...]"


@frozen
class JobOutcome:
    """How one job ended."""

    name: str
    role: str
    kind: str
    token: str
    job_id: Optional[str]
    state: str
    """Final state of the submitter: completed, failed, cancelled, timeout, lost, ..."""
    outcome: Optional[str]
    """Of the node side (`node.events.OUTCOMES`), worst of all ranks; None: it never said."""
    text: str = ""
    """What went wrong, with the tail of the log."""
    phases_s: Mapping[str, float] = field(factory=dict)


@frozen
class RunResult:
    """What a run left behind, as the engine hands it on: raw, unmerged, unjudged."""

    run_id: str
    status: Literal["finished", "interrupted", "detached", "failed"]
    jobs: "tuple[JobOutcome, ...]"
    measurements: "Mapping[str, tuple[Mapping[str, Any], ...]]"
    """`<client>/<point id>` -> documents of the ranks, as read from the site."""
    error: "Optional[Mapping[str, str]]" = None
    """code, text, hint."""
    run_folder: str = ""
    """The controller's."""


@frozen
class Summary:
    """A whole run, merged and judged."""

    run_id: str
    recipe: str
    site: str
    verdict: Verdict
    """Worst of all measurements; `invalid` when one is missing, or when none of the planned ones is there."""
    status: str
    error: "Optional[Mapping[str, str]]"
    points: "tuple[PointResult, ...]"
    jobs: "tuple[JobOutcome, ...]"
    missing: "tuple[str, ...]"
    """`<client>/<point id>` of planned measurements that do not exist."""
    run_folder: str
    """The controller's."""
    schema: str = SCHEMA
    pending: "tuple[str, ...]" = ()
    """`<client>/<point id>` of planned measurements that may still come; only of a detached run."""
    site_folder: Optional[str] = None
    """The run's folder on the site, where that is another one: what tools printed stays there."""
