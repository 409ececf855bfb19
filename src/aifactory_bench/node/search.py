"""Which load a search tries next, and when it is over: the decisions alone, without clocks, files or sockets.

Growth by factors of two from `least` until a trial fails, then bisection between the highest value that passed and the lowest
that did not, at their geometric mean, until they are within `precision` of each other: the number of trials grows with the
logarithm of `most / least` only (Bentley and Yao 1976, "An almost optimal algorithm for unbounded searching"). GuideLLM's
`goodput` profile searches in the same manner on concurrency.

A trial passes when the share of its requests that met the SLO is at least `attainment`. The share is an estimate, so its Wilson
score interval of 95 % decides (Wilson 1927, "Probable inference, the law of succession, and statistical inference"): all of it
below the wanted share is a fail, all of it above a pass. In between the trial is made again, twice as long, and if that too
leaves both possible, its estimate decides and is marked as undecided.

A trial in which the generator itself was not to be trusted says nothing about the server. It is made again once; then its value
is a border that the search stays below, and as long as no trial below it failed by the server's own doing, there is no capacity
to report, only a rate that was met.

The best value is confirmed by one trial of the load's whole duration, which is the measurement that the point gives. Where it
fails, the next value one step of `precision` below is taken, three times at most: the best of noisy trials tends to be too
high.
"""

import math
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Tuple

CONFIRMATIONS = 4
"""Tries to confirm: the best value, and three steps below."""
AGAIN = 2
"""How much longer a trial is that is made again."""
_GROWTH = 2.0
_Z = 1.959963984540054
"""Of a two-sided 95 % interval."""
_SLACK_S = 5.0
"""Of one trial, for meeting, connecting and writing down."""

PASS, FAIL, UNDECIDED, CLIENT_BOUND, DONE = "pass", "fail", "undecided", "client_bound", "done"
"""What a trial shows; `done`: a step of a sweep, which passes or fails nothing."""


@dataclass(frozen=True)
class Asked:
    """A search as the recipe has it."""

    find: str
    """`rate`, `concurrency` or `knee`."""
    least: float
    most: float
    whole: bool
    """The values are numbers of requests in flight, not rates."""
    slo: Mapping[str, float]
    """Quantity -> seconds."""
    attainment: float
    trial_s: float
    warmup_s: float
    precision: float
    steps: int

    @classmethod
    def from_load(cls, load: Mapping[str, Any], least_whole: int = 1) -> "Asked":
        """Read the `search` of a load; where it has no least value, 1/s or `least_whole` requests in flight are taken."""
        search = load["search"]
        whole = str(load.get("process", "closed")) == "closed"
        least = search.get("least")
        if least is None:
            least = least_whole if whole else min(1.0, search["most"] / 2)
        return cls(
            find=search["find"],
            least=min(least, search["most"]),
            most=search["most"],
            whole=whole,
            slo=dict(search.get("slo") or load.get("slo") or {}),
            attainment=search["attainment"],
            trial_s=search["trial_s"],
            warmup_s=search["warmup_s"],
            precision=search["precision"],
            steps=search["steps"],
        )

    @property
    def quantity(self) -> str:
        """What the values of trials are: `rate` or `concurrency`."""
        return "concurrency" if self.whole else "rate"

    def text(self, value: float) -> str:
        """Return a value as a reader likes it: `43.1/s`, `12 in flight`."""
        return f"{value:,.0f} in flight" if self.whole else f"{value:,.4g}/s" if value < 1000 else f"{value:,.0f}/s"


@dataclass(frozen=True)
class Trial:
    """One load to try."""

    number: int
    """From 1."""
    value: float
    length: float = 1.0
    """Times `trial_s`."""
    confirms: bool = False
    """It takes the load's own warm-up and duration, and is what the point gives if it passes."""


@dataclass(frozen=True)
class Outcome:
    """What a trial showed, all ranks together."""

    met: float
    """Requests that met the SLO."""
    of: float
    """All requests that were due, failures included."""
    achieved_share: Optional[float] = None
    """Achieved by offered rate; None: closed loop."""
    untrusted: str = ""
    """Why the generator's figures are not the server's."""
    why: str = ""
    """Which quantity missed the SLO by how much, for the reader."""
    throughput_per_s: float = 0.0
    """Achieved; what a sweep looks at, with the latency."""
    latency_us: Optional[float] = None
    """p90 of all operations, from schedule in open loop; None: nothing was answered."""


@dataclass(frozen=True)
class Verdict:
    """What a trial was taken for."""

    name: str
    why: str
    share: Optional[float] = None
    low: Optional[float] = None
    """Bounds of the share, 95 %."""
    high: Optional[float] = None
    estimated: bool = False
    """Decided by the estimate alone."""


def wilson(met: float, of: float) -> Tuple[float, float]:
    """Return the bounds of a share with a confidence of 95 %; 0 and 1 when there is nothing to go by."""
    if of <= 0:
        return 0.0, 1.0
    share, z2 = min(1.0, met / of), _Z * _Z
    middle = share + z2 / (2 * of)
    half = _Z * math.sqrt(share * (1 - share) / of + z2 / (4 * of * of))
    scale = 1 + z2 / of
    # At the ends the bounds are exact; arithmetic is not.
    low = 0.0 if met <= 0 else (middle - half) / scale
    high = 1.0 if met >= of else (middle + half) / scale
    return max(0.0, low), min(1.0, high)


def judge(asked: Asked, outcome: Outcome, least_achieved: float, *, final: bool) -> Verdict:
    """Return what a trial shows.

    Args:
        asked: the search.
        outcome: of the trial.
        least_achieved: share of the offered rate below which a backlog grows.
        final: the trial is not made again: where the interval leaves it open, the estimate decides.
    """
    low, high = wilson(outcome.met, outcome.of)
    share = outcome.met / outcome.of if outcome.of > 0 else None
    if outcome.untrusted:
        return Verdict(CLIENT_BOUND, outcome.untrusted, share, low, high)
    if share is None:
        return Verdict(FAIL, "no request was due: there is nothing to judge by", share, low, high)
    if outcome.achieved_share is not None and outcome.achieved_share < least_achieved:
        why = f"achieved {outcome.achieved_share:.1%} of what was offered, {least_achieved:.0%} are needed: the backlog grows"
        return Verdict(FAIL, why, share, low, high)
    said = f"{share:.2%} met the SLO ({low:.2%} to {high:.2%})"
    why = f"{said}; {outcome.why}" if outcome.why else said
    if high < asked.attainment:
        return Verdict(FAIL, why, share, low, high)
    if low >= asked.attainment:
        return Verdict(PASS, why, share, low, high)
    if not final:
        return Verdict(UNDECIDED, why, share, low, high)
    return Verdict(PASS if share >= asked.attainment else FAIL, f"undecided: {why}", share, low, high, estimated=True)


class Search:
    """The state of a search for the highest value; ask `next_trial`, make the trial, `tell` what came of it."""

    def __init__(self, asked: Asked, least_achieved: float = 0.98) -> None:
        self.asked = asked
        self._least_achieved = least_achieved
        self._due: Optional[Trial] = Trial(1, asked.least)
        self._confirmations = 0
        self.low: Optional[float] = None
        """The highest value that passed and was not contradicted since."""
        self.high: Optional[float] = None
        """The lowest value that did not pass."""
        self.border: Optional[Verdict] = None
        """Of the trial at `high`."""
        self.returned = 0
        """Number of the trial whose measurement the point gives."""
        self.confirmed = False
        self.status = ""
        """Once it is over: `found`, `client_bound`, `limit` (`most` passed), `none` (`least` failed) or `unconfirmed`."""

    def next_trial(self) -> Optional[Trial]:
        """Return what to try next, or None when it is over."""
        return self._due

    def tell(self, outcome: Outcome) -> Verdict:
        """Take what the trial showed and return what it is taken for.

        Raises:
            ValueError: the search is over.
        """
        trial = self._due
        if trial is None:
            raise ValueError("the search is over")
        repeated = trial.length > 1
        verdict = judge(self.asked, outcome, self._least_achieved, final=repeated or trial.confirms)
        self.returned = trial.number
        if trial.confirms:
            self._after_confirmation(trial, verdict)
        elif verdict.name in (UNDECIDED, CLIENT_BOUND) and not repeated:
            self._due = Trial(trial.number + 1, trial.value, AGAIN)
        else:
            self._after_trial(trial, verdict)
        return verdict

    def _after_trial(self, trial: Trial, verdict: Verdict) -> None:
        if verdict.name == PASS:
            self.low = trial.value
        else:
            self.high, self.border = trial.value, verdict
        if self.low is None:
            self._end("client_bound" if verdict.name == CLIENT_BOUND else "none")
            return
        value = self._between(self.low)
        if value is None:
            self._confirm(trial, self.low)
        else:
            self._due = Trial(trial.number + 1, value)

    def _between(self, low: float) -> Optional[float]:
        """Return the next value above `low`, or None when the search is narrow enough."""
        asked, high = self.asked, self.high
        if high is None:
            return min(low * _GROWTH, asked.most) if low < asked.most else None
        if high <= low * (1 + asked.precision) or (asked.whole and high - low <= 1):
            return None
        middle = math.sqrt(low * high)
        return float(min(max(round(middle), low + 1), high - 1)) if asked.whole else middle

    def _confirm(self, trial: Trial, value: float) -> None:
        self._confirmations += 1
        self._due = Trial(trial.number + 1, value, confirms=True)

    def _after_confirmation(self, trial: Trial, verdict: Verdict) -> None:
        if verdict.name == PASS:
            self.confirmed, self.low = True, trial.value
            self._end(self._status())
        elif verdict.name == CLIENT_BOUND:
            if self._confirmations < CONFIRMATIONS:
                self._confirm(trial, trial.value)
            else:
                self._end("client_bound")
        else:
            self.high, self.border, self.low = trial.value, verdict, None
            below = self._below(trial.value)
            if below is None or self._confirmations >= CONFIRMATIONS:
                self._end("unconfirmed")
            else:
                self._confirm(trial, below)

    def _below(self, value: float) -> Optional[float]:
        step = value / (1 + self.asked.precision)
        if self.asked.whole:
            step = float(min(value - 1, math.floor(step)))
        return step if step >= self.asked.least else None

    def _status(self) -> str:
        if self.border is None:
            return "limit"
        return "client_bound" if self.border.name == CLIENT_BOUND else "found"

    def _end(self, status: str) -> None:
        self._due, self.status = None, status

    @property
    def value(self) -> Optional[float]:
        """The capacity, in terms of the SLO; None where there is none to report."""
        return self.low if self.status == "found" and self.confirmed else None

    @property
    def at_least(self) -> Optional[float]:
        """A value that met the SLO with a generator that was to be trusted, where the capacity itself is not known."""
        return None if self.status == "found" else self.low

    def summary(self) -> Dict[str, Any]:
        """Return how it ended, as JSON."""
        return {
            "status": self.status,
            "value": self.value,
            "at_least": self.at_least,
            "next_tried": self.high,
            "next_why": self.border.why if self.border is not None else "",
            "returned": self.returned,
            "why": self._why(),
        }

    def _why(self) -> str:
        """Return why no capacity is reported; empty where one is."""
        asked, border = self.asked, self.border
        why = border.why if border is not None else ""
        if self.status == "none":
            return f"not even the least, {asked.text(asked.least)}, met the SLO: {why}"
        if self.status == "limit":
            return f"all that was tried met the SLO, up to `most`, {asked.text(asked.most)}: the limit lies above"
        if self.status == "client_bound" and self.high is not None:
            return f"at {asked.text(self.high)} the generator was the limit, not the server: {why}"
        if self.status == "client_bound":
            return "the generator was not to be trusted while the result was confirmed"
        if self.status == "unconfirmed":
            return f"what passed in short trials failed over the whole duration, last at {asked.text(self.high or 0)}: {why}"
        return ""


def most_trials(asked: Asked) -> Tuple[int, int]:
    """Return how many values a search tries at most, each of them twice at most, and how often it confirms."""
    if asked.find == "knee":
        return asked.steps, 2
    growth = math.ceil(math.log(asked.most / asked.least, _GROWTH) - 1e-9) + 1 if asked.most > asked.least else 1
    # Halving the logarithm of a factor of two until it is that of the precision; whole numbers may take one more.
    bisection = math.ceil(math.log2(math.log(_GROWTH) / math.log1p(asked.precision))) + (1 if asked.whole else 0)
    return growth + max(0, bisection), CONFIRMATIONS


def longest_s(search: Mapping[str, Any], *, warmup_s: float, duration_s: float, timeout_s: float) -> float:
    """Return the longest time that a search may take.

    Every trial is made again, and every backlog takes twice as long to drain as it took to grow, or as long as a request may.
    """
    asked = Asked.from_load({"process": "closed" if isinstance(search["most"], int) else "poisson", "search": search})
    values, confirmations = most_trials(asked)
    drain_s = min(timeout_s, 2 * AGAIN * asked.trial_s)
    one_s = asked.warmup_s + drain_s + asked.trial_s + _SLACK_S
    trials_s = values * (2 * one_s + (1 + AGAIN) * asked.trial_s)
    return trials_s + confirmations * (warmup_s + duration_s + drain_s + asked.trial_s + _SLACK_S) + timeout_s
