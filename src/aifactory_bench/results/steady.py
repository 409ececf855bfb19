"""The part of a window in which the load was steady: not the ramp at its begin, not the tail at its end.

A second belongs to the plateau when at least nine tenths of the usual number of requests were in flight in it; the usual
number is the median over the busier half of the seconds. The steady window is the longest run of such seconds.
"""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from attrs import frozen

from .documents import Rank
from .windows import Window, second_of

IN_FLIGHT = "in_flight"
"""The sum that tells how busy a second was."""
PLATEAU_SHARE = 0.9
LEAST_S = 3
"""A shorter run of seconds is no steady window."""


@frozen
class Steady:
    """Seconds of the common window, the last one included."""

    first: int
    last: int

    @property
    def length_s(self) -> int:
        """How long it is."""
        return self.last - self.first + 1


def steady_window(in_flight: Sequence[float]) -> Steady | None:
    """Return the longest run of seconds on the plateau, the first of equally long ones; None when none is long enough."""
    busy = sorted(in_flight)[len(in_flight) // 2 :]
    if not busy or busy[-1] <= 0:
        return None
    least = PLATEAU_SHARE * median(busy)
    best: Steady | None = None
    first: int | None = None
    for second, number in enumerate([*in_flight, -1.0]):
        if number >= least:
            first = second if first is None else first
        elif first is not None:
            run = Steady(first, second - 1)
            best = run if best is None or run.length_s > best.length_s else best
            first = None
    return best if best is not None and best.length_s >= LEAST_S else None


def sums_by_second(ranks: Sequence[Rank], window: Window) -> dict[str, tuple[str, list[float]]]:
    """Return name -> unit and one number for each whole second of the common window, over all ranks."""
    seconds = max(1, int(window.length_s + 1e-6))
    found: dict[str, tuple[str, list[float]]] = {}
    for rank in ranks:
        for name, entry in rank.measurement.sums.items():
            _, total = found.setdefault(name, (str(entry.get("unit", ""))[:50], [0.0] * seconds))
            for own, number in enumerate(entry["per_second"]):
                second = second_of(rank, own, window)
                if second is not None and second < seconds:
                    total[second] += number
    return found


def steady_metrics(sums: Mapping[str, tuple[str, Sequence[float]]]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Return what was done a second, over the whole window and over its steady part, and why the latter is absent.

    Args:
        sums: As `sums_by_second` returns them; without `in_flight` no steady part can be told.
    """
    metrics: dict[str, dict[str, Any]] = {}
    absent: dict[str, str] = {}
    steady = steady_window(sums[IN_FLIGHT][1]) if IN_FLIGHT in sums else None
    for name, (unit, numbers) in sums.items():
        if name == IN_FLIGHT:
            metrics["in_flight_mean"] = {"value": sum(numbers) / len(numbers), "unit": unit}
            continue
        metrics[f"{name}_per_s"] = {"value": sum(numbers) / len(numbers), "unit": f"{unit}/s"}
        if steady is None:
            absent[f"metrics.{name}_per_s_steady"] = (
                f"no {LEAST_S} s in one piece had nine tenths of the usual number of requests in flight"
            )
        else:
            total = sum(numbers[steady.first : steady.last + 1])
            metrics[f"{name}_per_s_steady"] = {"value": total / steady.length_s, "unit": f"{unit}/s"}
    if steady is not None and metrics:
        metrics["steady_begin"] = {"value": steady.first, "unit": "s"}
        metrics["steady_length"] = {"value": steady.length_s, "unit": "s"}
    return metrics, absent
