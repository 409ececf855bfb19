"""The sweep that finds the knee: where more load brings latency instead of throughput.

Steps rise by one factor from `least` to `most`. Both axes, throughput and latency (p90, as a short step seldom has enough
requests for a p99), are brought to 0..1, and the knee is the step furthest from the straight line between the first and the
last, on the side of much throughput for little latency: the discrete form of Kneedle (Satopaa, Albrecht, Irwin and Raghavan
2011, "Finding a 'Kneedle' in a Haystack: Detecting Knee Points in System Behavior").

A line that hardly bends has no knee: the latency must have grown by half, the knee must lie well off the line, and a step that
the generator itself was to be trusted in must come after it.
"""

import math
from typing import Any, Dict, List, Optional, Sequence, Tuple

from .search import AGAIN, CLIENT_BOUND, DONE, Asked, Outcome, Trial, Verdict, wilson

CONFIRMATIONS = 2
LEAST_DISTANCE = 0.1
"""Of the knee from the line, where both axes are 1 long; the most there can be is 0.71."""
LEAST_GROWTH = 1.5
"""Of the latency, from its lowest to the last step."""
_SATURATED = 2
"""So many steps in a row that did not achieve what they offered end the sweep: all later ones would show the same."""
_LEAST_POINTS = 3


def knee_of(points: Sequence[Tuple[float, float]]) -> Optional[int]:
    """Return which of (throughput, latency), in the order of load, is the knee; None where the line hardly bends."""
    if len(points) < _LEAST_POINTS:
        return None
    latencies = [latency for _, latency in points]
    if latencies[-1] < LEAST_GROWTH * min(latencies):
        return None
    xs, ys = _scaled([throughput for throughput, _ in points]), _scaled(latencies)
    dx, dy = xs[-1] - xs[0], ys[-1] - ys[0]
    length = math.hypot(dx, dy)
    if not length:
        return None
    distances = [((x - xs[0]) * dy - (y - ys[0]) * dx) / length for x, y in zip(xs, ys)]
    best = max(range(len(points)), key=lambda place: distances[place])
    return best if distances[best] >= LEAST_DISTANCE and best < len(points) - 1 else None


def _scaled(values: Sequence[float]) -> List[float]:
    low, high = min(values), max(values)
    return [(value - low) / (high - low) if high > low else 0.0 for value in values]


class Sweep:
    """The state of a sweep; used like `search.Search`."""

    def __init__(self, asked: Asked, least_achieved: float = 0.98) -> None:
        self.asked = asked
        self._least_achieved = least_achieved
        self._values = steps(asked)
        self._place = 0
        self._saturated = 0
        self._confirmations = 0
        self._points: List[Tuple[float, float, float]] = []
        """Value, throughput, latency of the steps that are to be trusted."""
        self._due: Optional[Trial] = Trial(1, self._values[0])
        self._border: Optional[Tuple[float, str]] = None
        self._knee: Optional[float] = None
        self.returned = 0
        """Number of the trial whose measurement the point gives."""
        self.status = ""
        """Once it is over: `found`, `client_bound` or `none`."""

    def next_trial(self) -> Optional[Trial]:
        """Return what to try next, or None when it is over."""
        return self._due

    def tell(self, outcome: Outcome) -> Verdict:
        """Take what the trial showed and return what it is taken for.

        Raises:
            ValueError: the sweep is over.
        """
        trial = self._due
        if trial is None:
            raise ValueError("the sweep is over")
        self.returned = trial.number
        verdict = self._verdict(outcome)
        if trial.confirms:
            self._after_confirmation(trial, verdict)
        elif verdict.name == CLIENT_BOUND:
            if trial.length > 1:
                self._border = trial.value, verdict.why
                self._choose(trial)
            else:
                self._due = Trial(trial.number + 1, trial.value, AGAIN)
        else:
            self._after_step(trial, outcome)
        return verdict

    def _verdict(self, outcome: Outcome) -> Verdict:
        low, high = wilson(outcome.met, outcome.of)
        share = outcome.met / outcome.of if outcome.of > 0 else None
        if outcome.untrusted:
            return Verdict(CLIENT_BOUND, outcome.untrusted, share, low, high)
        return Verdict(DONE, outcome.why, share, low, high)

    def _after_step(self, trial: Trial, outcome: Outcome) -> None:
        if outcome.latency_us is not None:
            self._points.append((trial.value, outcome.throughput_per_s, outcome.latency_us))
        kept_up = outcome.achieved_share is None or outcome.achieved_share >= self._least_achieved
        self._saturated = 0 if kept_up and outcome.latency_us is not None else self._saturated + 1
        self._place += 1
        if self._place == len(self._values) or self._saturated == _SATURATED:
            self._choose(trial)
        else:
            self._due = Trial(trial.number + 1, self._values[self._place])

    def _choose(self, trial: Trial) -> None:
        place = knee_of([(throughput, latency) for _, throughput, latency in self._points])
        if place is None:
            self._end("client_bound" if self._border else "none")
        else:
            self._knee = self._points[place][0]
            self._confirm(trial, self._knee)

    def _confirm(self, trial: Trial, value: float) -> None:
        self._confirmations += 1
        self._due = Trial(trial.number + 1, value, confirms=True)

    def _after_confirmation(self, trial: Trial, verdict: Verdict) -> None:
        if verdict.name == CLIENT_BOUND and self._confirmations < CONFIRMATIONS:
            self._confirm(trial, trial.value)
        else:
            # The knee was found in steps that are to be trusted; what this one lacks, its own checks say.
            self._end("found")

    def _end(self, status: str) -> None:
        self._due, self.status = None, status

    @property
    def value(self) -> Optional[float]:
        """The knee; None where there is none to report."""
        return self._knee

    @property
    def at_least(self) -> Optional[float]:
        """The highest load that a generator to be trusted made without a knee, where the generator ended the sweep."""
        return self._points[-1][0] if self.status == "client_bound" and self._points else None

    def summary(self) -> Dict[str, Any]:
        """Return how it ended, as JSON."""
        return {
            "status": self.status,
            "value": self.value,
            "at_least": self.at_least,
            "next_tried": None,
            "next_why": "",
            "returned": self.returned,
            "why": self._why(),
        }

    def _why(self) -> str:
        if self.status == "found":
            return ""
        if self._border is not None:
            value, why = self._border
            return f"at {self.asked.text(value)} the generator was the limit, not the server, and no knee came before: {why}"
        if not self._points:
            return "no request was answered"
        last = self.asked.text(self._points[-1][0])
        return f"latency over throughput hardly bends up to {last}: raise `most`, or lower `least` if it is beyond the knee"


def steps(asked: Asked) -> List[float]:
    """Return the values of a sweep, rising."""
    factor = (asked.most / asked.least) ** (1 / max(1, asked.steps - 1))
    values = [asked.least * factor**place for place in range(asked.steps - 1)] + [asked.most]
    if not asked.whole:
        return values
    return sorted({float(round(value)) for value in values})
