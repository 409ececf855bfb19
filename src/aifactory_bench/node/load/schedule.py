"""When requests are due: streams of times, independent of what the server does.

Times are nanoseconds from the start of the warm-up and absolute, so that no delay ever shifts what comes after it.
"""

from bisect import bisect_left
from itertools import accumulate, count, islice, repeat
from math import ceil
from random import Random
from typing import Any, Iterator, Mapping, Optional

from .rates import Profile
from .trace import trace_rows

PROCESSES = ("constant", "poisson", "gamma", "burst", "trace")
OPEN = frozenset(PROCESSES)
"""Processes that follow a clock of their own and do not wait for answers; the other one is `closed`."""
_SECOND_NS = 1_000_000_000


def arrivals(load: "Mapping[str, Any]", seed: int, part: int = 0, parts: int = 1) -> "Iterator[int]":
    """Yield the due times (ns from the start of the warm-up, never falling) of one of `parts` generators.

    Together the parts make the asked process. `constant`: evenly spaced. `poisson`: independent streams of a share of the
    rate, seeded by `seed` and `part`; the sum of independent Poisson streams is one. `gamma`, `burst` and `trace`: one
    stream that all parts know, dealt out in turn, each burst anew. A burst without an interval and a trace end, and so
    does a profile of rates that ends at 0: then nothing more is due.

    Args:
        load: as the node gets it, see `spec.PointSpec.load`.
        seed: of the load, the same for all parts.
        part: 0 to `parts` - 1.
        parts: over all replicas and workers.

    Raises:
        ValueError: at once, not at the first arrival: an unknown process, a rate that is not above 0, a part that does not
            exist, a trace that cannot be read.
    """
    process = str(load.get("process"))
    if process not in OPEN:
        raise ValueError(f"unknown arrival process {process!r}, known: {', '.join(PROCESSES)}")
    if not 0 <= part < parts:
        raise ValueError(f"part {part} of {parts} does not exist")
    if process == "trace":
        return _trace(load, part, parts)
    if process == "burst":
        return _burst(load, part, parts)
    if load.get("rates"):
        return _profile(load).due_ns(_counts(process, load, seed, part, parts))
    rate_per_s = _above_0(load, "rate_per_s")
    if process == "constant":
        return _constant(rate_per_s, part, parts)
    if process == "poisson":
        return _poisson(rate_per_s / parts, Random(f"arrivals/{seed}/{part}/{parts}"))
    return map(int, _gamma(load, rate_per_s / _SECOND_NS, seed, part, parts))


def offered_per_s(load: "Mapping[str, Any]") -> "Optional[float]":
    """Return the mean rate that a load offers in its window, over all parts; None for a closed loop.

    For a burst and a trace it is what falls into the window over its length.

    Raises:
        ValueError: as `arrivals`.
    """
    process = load.get("process")
    if process not in OPEN:
        return None
    duration_s = _above_0(load, "duration_s")
    if process == "trace":
        scale = _above_0(load, "trace_scale", 1.0)
        rows = trace_rows(str(load.get("trace")))
        return bisect_left([row.at_ns for row in rows], round(duration_s * scale * _SECOND_NS)) / duration_s
    if process == "burst":
        every_s = load.get("burst_every_s")
        bursts = 1 if every_s is None else ceil(round(duration_s * _SECOND_NS) / _every_ns(load))
        return bursts * _size(load) / duration_s
    return _profile(load).mean_per_s(duration_s) if load.get("rates") else _above_0(load, "rate_per_s")


def _above_0(load: "Mapping[str, Any]", name: str, default: float = 0.0) -> float:
    value = load.get(name)
    value = default if value is None else float(value)
    if not 0 < value < float("inf"):
        raise ValueError(f"{name} must be above 0, got {value:g}")
    return value


def _start_ns(load: "Mapping[str, Any]") -> int:
    return round(float(load.get("warmup_s") or 0) * _SECOND_NS)


def _constant(rate_per_s: float, part: int, parts: int) -> "Iterator[int]":
    gap_ns = _SECOND_NS / rate_per_s
    for number in count(part, parts):
        yield int(number * gap_ns)


def _poisson(rate_per_s: float, random: Random) -> "Iterator[int]":
    gap = random.expovariate
    rate_per_ns = rate_per_s / _SECOND_NS
    due_ns = 0.0
    while True:
        due_ns += gap(rate_per_ns)
        yield int(due_ns)


def _gamma(load: "Mapping[str, Any]", rate: float, seed: int, part: int, parts: int) -> "Iterator[float]":
    """Return every `parts`-th arrival of one stream: a sum of streams is more like Poisson the more there are of them."""
    shape = _above_0(load, "burstiness", 1.0)
    draw = Random(f"arrivals/{seed}").gammavariate
    every = accumulate(draw(shape, scale) for scale in repeat(1 / (shape * rate)))
    return islice(every, part, None, parts)


def _profile(load: "Mapping[str, Any]") -> Profile:
    return Profile(load["rates"], float(load.get("warmup_s") or 0))


def _counts(process: str, load: "Mapping[str, Any]", seed: int, part: int, parts: int) -> "Iterator[float]":
    """Return the process at a rate of one a unit."""
    if process == "constant":
        return map(float, count(part, parts))
    if process == "gamma":
        return _gamma(load, 1.0, seed, part, parts)
    draw = Random(f"arrivals/{seed}/{part}/{parts}").expovariate
    return accumulate(draw(share) for share in repeat(1 / parts))


def _size(load: "Mapping[str, Any]") -> int:
    size = int(load.get("burst_size") or 0)
    if size < 1:
        raise ValueError(f"burst_size must be at least 1, got {size}")
    return size


def _every_ns(load: "Mapping[str, Any]") -> int:
    return max(1, round(_above_0(load, "burst_every_s") * _SECOND_NS))


def _burst(load: "Mapping[str, Any]", part: int, parts: int) -> "Iterator[int]":
    own = len(range(part, _size(load), parts))
    start_ns = _start_ns(load)
    if load.get("burst_every_s") is None:
        return repeat(start_ns, own)
    every_ns = _every_ns(load)
    if not own:
        return iter(())
    # One falls on the window's start; those before it are in the warm-up.
    return (due_ns for due_ns in count(start_ns % every_ns, every_ns) for _ in range(own))


def _trace(load: "Mapping[str, Any]", part: int, parts: int) -> "Iterator[int]":
    scale = _above_0(load, "trace_scale", 1.0)
    rows = trace_rows(str(load.get("trace")))
    start_ns = _start_ns(load)
    return (start_ns + round(row.at_ns / scale) for row in islice(rows, part, None, parts))
