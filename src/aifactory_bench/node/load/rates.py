"""Rates that change with time: steps and ramps, and when the n-th request of such a profile is due.

A process of rate one is run through the inverse of the cumulative rate. That is exact for every process: nothing is drawn
and thrown away, and the requests in a piece are as many as the area under its rate.
"""

from math import inf, sqrt
from typing import Any, Iterable, Iterator, List, Mapping, NamedTuple, Sequence


class _Piece(NamedTuple):
    start_s: float
    begin_count: float
    """Requests before it."""
    end_count: float
    rate_per_s: float
    """At its beginning."""
    slope: float
    """Rise of the rate, in requests per second each second."""

    def at_s(self, count: float) -> float:
        """Return when that many requests are reached; the count must lie in the piece."""
        area = count - self.begin_count
        if area <= 0:
            return self.start_s
        # The root in the form that does not cancel; below 0 under the root is rounding at the end of a ramp down to 0.
        return self.start_s + 2 * area / (self.rate_per_s + sqrt(max(0.0, self.rate_per_s**2 + 2 * self.slope * area)))


class Profile:
    """A warm-up at the first rate, then steps; the last one goes on for ever, a ramp at the rate that it reached.

    Args:
        steps: `for_s`, `rate_per_s` and, for a ramp, `to_per_s` of each; the first begins at the window's start.
        warmup_s: from the start of the warm-up, where time and count are 0, to the window's.

    Raises:
        ValueError: no step, a length that is not above 0, or rates of which one is negative or all are 0.
    """

    def __init__(self, steps: "Sequence[Mapping[str, Any]]", warmup_s: float = 0.0) -> None:
        if not steps:
            raise ValueError("rates: at least one step is needed, such as {for: 10s, rate: 5/s}")
        self._pieces: List[_Piece] = []
        self._start_s = self._count = 0.0
        self.warmup_s = warmup_s
        first_per_s = float(steps[0]["rate_per_s"])
        if warmup_s > 0:
            self._add(warmup_s, first_per_s, first_per_s)
        to_per_s = first_per_s
        for number, step in enumerate(steps):
            for_s, rate_per_s = float(step["for_s"]), float(step["rate_per_s"])
            to = step.get("to_per_s")
            to_per_s = rate_per_s if to is None else float(to)
            if not (0 < for_s < inf and 0 <= rate_per_s < inf and 0 <= to_per_s < inf):
                raise ValueError(
                    f"rates[{number}]: `for` must be above 0 s and the rates at least 0/s; "
                    f"found for {for_s:g} s, rate {rate_per_s:g}/s, to {to_per_s:g}/s"
                )
            self._add(for_s, rate_per_s, to_per_s)
        if not self._count:
            raise ValueError("rates: all are 0/s; at least one must be above 0")
        self._pieces.append(_Piece(self._start_s, self._count, inf if to_per_s else self._count, to_per_s, 0.0))

    def _add(self, for_s: float, rate_per_s: float, to_per_s: float) -> None:
        end_count = self._count + for_s * (rate_per_s + to_per_s) / 2
        self._pieces.append(_Piece(self._start_s, self._count, end_count, rate_per_s, (to_per_s - rate_per_s) / for_s))
        self._start_s += for_s
        self._count = end_count

    def count(self, at_s: float) -> float:
        """Return the cumulative rate: how many requests are due on average before a time from the start of the warm-up."""
        piece = next((piece for piece in reversed(self._pieces) if piece.start_s <= at_s), self._pieces[0])
        after_s = at_s - piece.start_s
        return piece.begin_count + after_s * (piece.rate_per_s + piece.slope * after_s / 2)

    def mean_per_s(self, duration_s: float) -> float:
        """Return the mean rate over the window."""
        return (self.count(self.warmup_s + duration_s) - self.count(self.warmup_s)) / duration_s

    def due_ns(self, counts: "Iterable[float]") -> "Iterator[int]":
        """Yield when these counts, which must rise, are reached: ns from the start of the warm-up.

        It ends where the profile has no more, because its last rate is 0.
        """
        pieces = iter(self._pieces)
        piece = next(pieces)
        for count in counts:
            while count >= piece.end_count:
                following = next(pieces, None)
                if following is None:
                    return
                piece = following
            yield round(piece.at_s(count) * 1e9)
