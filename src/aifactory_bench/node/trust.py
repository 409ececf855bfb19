"""When a load generator's own figures say that it, and not the server, may be what was measured.

Defined once for both sides: a search on the node asks after every trial, the controller's checks ask of what was measured.
Times of the generator are held against the median latency: what is small beside it changes nothing that matters.
"""

from dataclasses import asdict, dataclass
from typing import Any, Dict, Iterable, List, Mapping, Optional

from .load.histogram import Histogram
from .measurement import Measurement

LIMITS: Mapping[str, float] = {
    "lateness": 0.05,
    "lateness_floor_s": 0.001,
    "lateness_invalid": 0.20,
    "lateness_invalid_floor_s": 0.004,
    "generator_stalled": 0.01,
    "generator_stalled_max_s": 0.1,
    "generator_stalled_invalid": 0.05,
    "client_bound": 0.90,
    "observation_age": 0.05,
    "observation_age_floor_s": 0.003,
    "observation_age_invalid": 0.20,
    "observation_age_invalid_floor_s": 0.012,
    "rate_not_achieved": 0.02,
}
"""Key under `limits:` in a recipe -> default, always the most that is allowed; shares as 0..1, times in seconds."""

FIRST = "ttft"
"""The distribution of times to a first answer, where a product has one."""
_ENOUGH_FOR_P90, _ENOUGH_FOR_P99 = 64, 662
OWN_ERRORS = "client:"
"""What the classes of errors begin with that are no server's doing."""


@dataclass(frozen=True)
class Over:
    """Something lies above its limit."""

    severe: bool
    """It spoils the measurement; otherwise it throws doubt on it."""
    limit: float
    """In the unit of what was found."""


@dataclass(frozen=True)
class Judged:
    """A time that the generator adds, by the quantile that speaks for it."""

    value_us: float
    percent: int
    """See `judged_percent`."""


def judged_percent(count: int) -> int:
    """Return the percentile by which so many times of the generator are judged: 99, or 90 where 99 would be one or two of them.

    The numbers are those that a result marks quantiles by, see `results.statistics`. Of very few the largest counts.
    """
    return 90 if _ENOUGH_FOR_P90 <= count < _ENOUGH_FOR_P99 else 99


@dataclass(frozen=True)
class Figures:
    """What a generator knows about itself, all ranks together; None where it is not known or does not apply."""

    median_us: Optional[float] = None
    """Of the latency from sending, over all operations."""
    shortest_us: Optional[float] = None
    """The same, or the median time to a first answer where that is shorter."""
    lateness: "Optional[Judged]" = None
    observation_age: "Optional[Judged]" = None
    stalled_share: Optional[float] = None
    stalled_max_s: Optional[float] = None
    cpu_share: Optional[float] = None
    own_errors: int = 0
    """Requests that failed for want of something on the generator's machine, such as ports."""
    is_open: bool = False


def limits_of(code: str) -> Dict[str, float]:
    """Return the limits of one check: its own name, and what begins with it."""
    return {key: value for key, value in LIMITS.items() if key == code or key.startswith(f"{code}_")}


def lateness(found_us: float, median_us: float, limits: Mapping[str, float]) -> Optional[Over]:
    """Return whether requests were sent too late, for want of time of the generator."""
    return beside_median("lateness", found_us, median_us, limits)


def observation_age(found_us: float, median_us: float, limits: Mapping[str, float]) -> Optional[Over]:
    """Return whether answers lay too long in the kernel before they were read."""
    return beside_median("observation_age", found_us, median_us, limits)


def beside_median(name: str, found_us: float, median_us: float, limits: Mapping[str, float]) -> Optional[Over]:
    """Return whether a time that the generator adds is too long beside a median; `name` is that of its limits."""
    invalid_us = max(limits[f"{name}_invalid_floor_s"] * 1e6, limits[f"{name}_invalid"] * median_us)
    if found_us > invalid_us:
        return Over(severe=True, limit=invalid_us)
    allowed_us = max(limits[f"{name}_floor_s"] * 1e6, limits[name] * median_us)
    return Over(severe=False, limit=allowed_us) if found_us > allowed_us else None


def stalled(share: float, limits: Mapping[str, float]) -> Optional[Over]:
    """Return whether a worker stood still for too much of the window."""
    if share > limits["generator_stalled_invalid"]:
        return Over(severe=True, limit=limits["generator_stalled_invalid"])
    return Over(severe=False, limit=limits["generator_stalled"]) if share > limits["generator_stalled"] else None


def stalled_once(longest_s: float, median_us: Optional[float], limits: Mapping[str, float]) -> Optional[Over]:
    """Return whether a worker stood still for too long in one piece; a request that takes as long anyway does not show it."""
    allowed_s = max(limits["generator_stalled_max_s"], (median_us or 0.0) / 1e6)
    return Over(severe=False, limit=allowed_s) if longest_s > allowed_s else None


def busy(cpu_share: float, limits: Mapping[str, float], *, is_open: bool) -> Optional[Over]:
    """Return whether a worker had no time left: what it offers is then what it can, in open loop something else than asked."""
    return Over(severe=is_open, limit=limits["client_bound"]) if cpu_share > limits["client_bound"] else None


def doubts(figures: Figures, limits: Mapping[str, float]) -> List[str]:
    """Return all that speaks against trusting the generator, a sentence each."""
    found = []
    for time, check, what in (
        (figures.lateness, lateness, "the generator sent late"),
        (figures.observation_age, observation_age, "answers waited to be read"),
    ):
        # Where nothing was answered there is no median; the floors alone count.
        over = None if time is None else check(time.value_us, figures.shortest_us or 0.0, limits)
        if time is not None and over is not None:
            found.append(f"{what}: p{time.percent} {_ms(time.value_us)}, allowed {_ms(over.limit)}")
    if figures.stalled_share is not None:
        over = stalled(figures.stalled_share, limits)
        if over is not None:
            found.append(f"the generator stood still for {figures.stalled_share:.1%} of the window, allowed {over.limit:.1%}")
    if figures.stalled_max_s is not None:
        over = stalled_once(figures.stalled_max_s, figures.median_us, limits)
        if over is not None:
            found.append(
                f"the generator stood still for {figures.stalled_max_s:.3f} s in one piece, allowed {over.limit:.3f} s"
            )
    if figures.cpu_share is not None:
        over = busy(figures.cpu_share, limits, is_open=figures.is_open)
        if over is not None:
            found.append(f"a worker of the generator used {figures.cpu_share:.0%} of a core, allowed {over.limit:.0%}")
    if figures.own_errors:
        found.append(f"{figures.own_errors:,} requests failed for want of ports, files or memory on the generator's machine")
    return found


def figures_of(measurements: Iterable[Measurement]) -> Figures:
    """Return the figures of all ranks of one measurement: histograms added, of everything else the worst."""
    ranks = list(measurements)
    health = [rank.health for rank in ranks]
    median_us = added(rank.latency.get("all", {}).get("send") for rank in ranks).percentile_us(50)
    first_us = added(rank.distributions.get(FIRST, {}).get("histogram") for rank in ranks).percentile_us(50)
    return Figures(
        median_us=median_us,
        shortest_us=min((one for one in (median_us, first_us) if one is not None), default=None),
        lateness=_judged(added(one.lateness for one in health)),
        observation_age=_judged(added(one.observation_age for one in health)),
        stalled_share=_worst(
            one.stalled_s / rank.window_s for one, rank in zip(health, ranks) if one.stalled_s is not None and rank.window_s > 0
        ),
        stalled_max_s=_worst(one.stalled_max_s for one in health if one.stalled_max_s is not None),
        cpu_share=_worst(share for one in health for share in one.cpu_share if share is not None),
        own_errors=sum(number for rank in ranks for name, number in rank.errors.items() if name.startswith(OWN_ERRORS)),
        is_open=any(rank.offered_per_s is not None for rank in ranks),
    )


def _judged(times: Histogram) -> Optional[Judged]:
    percent = judged_percent(times.count)
    value_us = times.percentile_us(percent)
    return None if value_us is None else Judged(value_us, percent)


def added(documents: "Iterable[Optional[Dict[str, Any]]]") -> Histogram:
    """Return the sum of histograms given as JSON; those that are None are left out."""
    total = Histogram()
    for document in documents:
        if document is not None:
            total.add(Histogram.from_json(document))
    return total


def figures_to_json(figures: Figures) -> Dict[str, Any]:
    """Return the figures that are known."""
    return {name: value for name, value in asdict(figures).items() if value is not None}


def _worst(values: "Iterable[float]") -> Optional[float]:
    return max(values, default=None)


def _ms(value_us: float) -> str:
    return f"{value_us / 1000:.3g} ms"
