"""The load of a client as frozen values: the arrival process and what belongs to it, the window, the objectives."""

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any, Literal, Optional

from attrs import field, frozen
from attrs.validators import ge, gt, le, optional

from ..units import DurationS, RatePerS, format_duration
from .fields import values_text
from .problems import suggestion
from .search_model import Search, check_search

MOST_CONNECTIONS = 100_000
_MOST_WORKERS = 256
_MOST_REQUESTS = 10_000_000
_FASTEST = RatePerS(1e9)
_LONGEST = DurationS(7 * 86400.0)
_LEAST_SHAPE, _MOST_SHAPE = 0.01, 10_000.0
_LEAST_SCALE, _MOST_SCALE = 1e-6, 1e6

Process = Literal["closed", "constant", "poisson", "gamma", "burst", "trace"]
_BY_RATE = ("constant", "poisson", "gamma")


@frozen
class RateStep:
    """One piece of a profile of rates."""

    for_s: DurationS = field(validator=[gt(DurationS(0)), le(_LONGEST)])
    """How long it lasts."""
    rate_per_s: RatePerS = field(validator=[ge(RatePerS(0)), le(_FASTEST)])
    """Requests asked for, at its beginning."""
    to_per_s: Optional[RatePerS] = field(default=None, validator=optional([ge(RatePerS(0)), le(_FASTEST)]))
    """At its end: a ramp. None: the rate stays."""


def _only(load: Any, value: object, processes: "tuple[str, ...]") -> None:
    """Refuse a value that the process does nothing with."""
    if value is not None and load.process not in processes:
        raise ValueError(f"has no meaning with process: {load.process}; it is for process: {values_text(processes)}")


@frozen
class Load:
    """The load of a client: totals over its replicas."""

    process: Process = "closed"
    """`closed`: an answer is followed by the next request. The others are open loop, requests come when they are due: evenly
    (`constant`), at random (`poisson`, `gamma`), many at once (`burst`), or as they were recorded (`trace`)."""
    rate_per_s: Optional[RatePerS] = field(default=None, validator=optional([gt(RatePerS(0)), le(_FASTEST)]))
    """Requests asked for. `constant`, `poisson` and `gamma` need this or `rates`."""
    rates: "tuple[RateStep, ...]" = field(default=())
    """In place of `rate`: steps and ramps, one after another from the window's start; the last one goes on."""
    burstiness: Optional[float] = field(default=None, validator=optional([ge(_LEAST_SHAPE), le(_MOST_SHAPE)]))
    """`gamma` only: shape of the gaps' distribution. Below 1 requests come in clusters, 1 is `poisson`, above they come more
    evenly. Default 1."""
    burst_size: Optional[int] = field(default=None, validator=optional([ge(1), le(_MOST_REQUESTS)]))
    """`burst` only, and then needed: requests that are due at the same instant."""
    burst_every_s: Optional[DurationS] = field(default=None, validator=optional([ge(DurationS(0.001)), le(_LONGEST)]))
    """`burst` only: from burst to burst, in warm-up and window. None: one, at the window's start."""
    trace: Optional[str] = field(default=None)
    """`trace` only, and then needed: path on the client's node of a file of JSON lines with `timestamp_s` or `timestamp`
    (milliseconds)."""
    trace_scale: Optional[float] = field(default=None, validator=optional([ge(_LEAST_SCALE), le(_MOST_SCALE)]))
    """`trace` only: 2.0 is twice as fast as recorded. Default 1."""
    concurrency: Optional[int] = field(default=None, validator=optional([ge(1), le(MOST_CONNECTIONS)]))
    """Closed loop only: requests in flight are this times the pipeline depth. Default 50."""
    connections: Optional[int] = field(default=None, validator=optional([ge(1), le(MOST_CONNECTIONS)]))
    """Open loop only: size of the connection pool. Default 50, with `burst` at least the size of a burst."""
    warmup_s: DurationS = field(default=DurationS(5.0), validator=[ge(DurationS(0)), le(_LONGEST)])
    """Load before the window, not counted."""
    duration_s: DurationS = field(default=DurationS(30.0), validator=[gt(DurationS(0)), le(_LONGEST)])
    """The window in which everything is counted."""
    timeout_s: Optional[DurationS] = field(default=None, validator=optional([gt(DurationS(0)), le(_LONGEST)]))
    """Of one request. None: the kind's own, 10 s where it says nothing."""
    slo: Mapping[str, DurationS] = field(factory=dict)
    """Name of a latency -> the most that it may be, for a request to count as good; the kind says which names it knows. A
    search has its own."""
    search: Optional[Search] = field(default=None, validator=check_search)
    """Find the highest rate or concurrency that meets objectives, in place of measuring a given one."""
    seed: int = field(default=1, validator=ge(0))
    """Of arrivals, keys and operations; each replica adds its rank."""
    workers: int = field(default=1, validator=[ge(1), le(_MOST_WORKERS)])
    """Generator processes a replica."""

    @rate_per_s.validator
    def _check_rate(self, _attribute: Any, value: Optional[float]) -> None:
        if self.process == "closed" and value is not None:
            raise ValueError(
                "has no meaning with process: closed, where the server sets the pace; leave it out, or write process: poisson"
            )
        _only(self, value, _BY_RATE)
        if self.process in _BY_RATE and value is None and not self.rates and self.search is None:
            raise ValueError(
                f"missing; process: {self.process} needs the requests per second, such as rate: 20000/s, "
                f"or rates for steps and ramps"
            )

    @rates.validator
    def _check_rates(self, _attribute: Any, value: "tuple[RateStep, ...]") -> None:
        _only(self, value or None, _BY_RATE)
        if not value:
            return
        if self.rate_per_s is not None:
            raise ValueError("stands in place of rate: leave one of the two out")
        begins_s = 0.0
        for number, step in enumerate(value, 1):
            if begins_s >= self.duration_s:
                raise ValueError(
                    f"step {number} would begin {format_duration(begins_s)} after the window's start, and the window is "
                    f"{format_duration(self.duration_s)} long: leave it out, or make duration longer"
                )
            begins_s = round(begins_s + step.for_s, 9)
        if not any(step.rate_per_s or step.to_per_s for step in value):
            raise ValueError("at least one step must have a rate above 0/s; found 0/s in all of them")

    @burstiness.validator
    def _check_burstiness(self, _attribute: Any, value: Optional[float]) -> None:
        _only(self, value, ("gamma",))

    @burst_size.validator
    def _check_burst_size(self, _attribute: Any, value: Optional[int]) -> None:
        _only(self, value, ("burst",))
        if self.process == "burst" and value is None:
            raise ValueError("missing; process: burst needs the requests that come at once, such as burst_size: 256")

    @burst_every_s.validator
    def _check_burst_every(self, _attribute: Any, value: Optional[float]) -> None:
        _only(self, value, ("burst",))

    @trace.validator
    def _check_trace(self, _attribute: Any, value: Optional[str]) -> None:
        _only(self, value, ("trace",))
        if self.process == "trace" and value is None:
            raise ValueError("missing; process: trace needs the path of a file, such as trace: /data/requests.jsonl")
        if value is not None and not PurePosixPath(value).is_absolute():
            raise ValueError(f"must be an absolute path on the client's node, such as /data/requests.jsonl; found {value!r}")

    @trace_scale.validator
    def _check_trace_scale(self, _attribute: Any, value: Optional[float]) -> None:
        _only(self, value, ("trace",))

    @concurrency.validator
    def _check_concurrency(self, _attribute: Any, value: Optional[int]) -> None:
        if self.process != "closed" and value is not None:
            pace = "rate" if self.process in _BY_RATE else f"{self.process}'s own times"
            raise ValueError(
                f"is for process: closed only; process: {self.process} has {pace}, and connections for the size of its pool"
            )

    @connections.validator
    def _check_connections(self, _attribute: Any, value: Optional[int]) -> None:
        if self.process == "closed" and value is not None:
            raise ValueError("is for open loop only; with process: closed write concurrency")

    @slo.validator
    def _check_slo(self, _attribute: Any, value: Mapping[str, float]) -> None:
        for name, most_s in value.items():
            if not 0 < most_s <= _LONGEST:
                raise ValueError(
                    f"{name}: must be more than 0s and at most {format_duration(_LONGEST)}; found {format_duration(most_s)}"
                )


def slo_problems(load: Load, allowed: Iterable[str], kind: str) -> Mapping["tuple[str, ...]", str]:
    """Return path in the load -> what is wrong, for the names of objectives that a kind of client does not measure."""
    known = tuple(allowed)
    listed = ", ".join(known) or "none"
    written: dict[tuple[str, ...], str] = {("slo", name): name for name in load.slo}
    if load.search is not None:
        written |= {("search", "slo", name): name for name in load.search.slo}
    return {
        path: f"{kind} measures no {name!r} to set an objective for{suggestion(name, known)}; allowed: {listed}"
        for path, name in written.items()
        if name not in known
    }
