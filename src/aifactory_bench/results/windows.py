"""What of each rank counts: the time in which all of them measured."""

import math
from collections.abc import Sequence
from typing import Literal

from attrs import frozen

from .documents import Rank, Slice

SKEW_NS = 50_000_000
"""Windows whose edges differ by less are taken as one and the same."""
SECOND_NS = 1_000_000_000


@frozen
class Window:
    """The common window of some ranks."""

    length_s: float
    skew_s: float | None
    """Between the first edge and the last one; None where a rank does not say when it measured."""
    overlap_share: float | None
    """Intersection by the longest window; None for one rank, or where times are unknown."""
    origin: Literal["totals", "slices"]
    """Whether the ranks' totals count, or only the seconds that lie in the intersection."""
    start_ns: int | None
    """Wall clock; None where unknown."""
    end_ns: int | None


def common_window(ranks: Sequence[Rank]) -> Window:
    """Return the time in which all ranks measured, and how what lies in it is to be taken."""
    shortest_s = min(rank.measurement.window_s for rank in ranks)
    starts = [rank.measurement.start_wall_ns for rank in ranks]
    ends = [rank.measurement.end_wall_ns for rank in ranks]
    if any(not 0 < start < end for start, end in zip(starts, ends, strict=True)):
        return Window(shortest_s, None, None, "totals", None, None)
    if len(ranks) == 1:
        return Window(shortest_s, 0.0, None, "totals", starts[0], ends[0])
    start, end = max(starts), min(ends)
    longest = max(end - start for start, end in zip(starts, ends, strict=True))
    overlap = max(0, end - start) / longest
    skew = max(max(starts) - min(starts), max(ends) - min(ends))
    if skew < SKEW_NS:
        return Window(shortest_s, skew / SECOND_NS, overlap, "totals", start, end)
    window = Window(max(0, end - start) / SECOND_NS, skew / SECOND_NS, overlap, "slices", start, end)
    if all(slices_within(rank, window) for rank in ranks):
        return window
    return Window(shortest_s, skew / SECOND_NS, overlap, "totals", start, end)


def slices_within(rank: Rank, window: Window) -> list[tuple[Slice, float]]:
    """Return the slices of a rank that lie whole within the window, each with its length in seconds."""
    if window.start_ns is None or window.end_ns is None:
        return []
    within = []
    for part in rank.slices:
        start = rank.measurement.start_wall_ns + part.second * SECOND_NS
        end = min(start + SECOND_NS, rank.measurement.end_wall_ns)
        if end > start >= window.start_ns - SKEW_NS and end <= window.end_ns + SKEW_NS:
            within.append((part, (end - start) / SECOND_NS))
    return within


def second_of(rank: Rank, second: int, window: Window) -> int | None:
    """Return the second of the common window in which most of a second of a rank's own window lies; None: outside."""
    if window.start_ns is not None:
        second = round((rank.measurement.start_wall_ns + second * SECOND_NS - window.start_ns) / SECOND_NS)
    return second if 0 <= second < max(1, math.ceil(window.length_s - 0.001)) else None
