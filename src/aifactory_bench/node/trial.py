"""What the ranks measured in one trial of a search, read as one: what met the SLO, the rate, the generator's state."""

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from .load.histogram import Histogram
from .load.objectives import ATTAINMENT, LATENCY
from .measurement import Measurement
from .search import Asked, Outcome, Trial, Verdict
from .trust import added, doubts, figures_of, figures_to_json

_WAITED_US = 1000.0
_COUNTS = ("ok", "error", "timeout", "skipped")


class TrialError(Exception):
    """The trial cannot be judged; the text says why."""


def outcome_of(asked: Asked, ranks: Sequence[Measurement], limits: Mapping[str, float]) -> Outcome:
    """Return what a trial showed.

    Args:
        asked: the search.
        ranks: the measurements of all ranks, whole ones.
        limits: of `trust.LIMITS`.

    Raises:
        TrialError: the client does not tell what the SLO asks for.
    """
    due = sum(getattr(rank.counts, name) for rank in ranks for name in _COUNTS)
    met, of = _attainment(asked.slo, ranks, due)
    figures = figures_of(ranks)
    untrusted = "; ".join(doubts(figures, limits)) or _too_few_connections(asked, ranks, limits)
    achieved, window_s = _achieved_per_s(ranks), max(rank.window_s for rank in ranks)
    throughput_per_s, latency_us = achieved, _latency(ranks).percentile_us(90)
    share = None if not figures.is_open or not due or window_s <= 0 else achieved * window_s / due
    return Outcome(met, of, share, untrusted, _worst(asked.slo, ranks), throughput_per_s, latency_us)


def record_of(asked: Asked, trial: Trial, ranks: Sequence[Measurement], outcome: Outcome, verdict: Verdict) -> Dict[str, Any]:
    """Return the trial as the result shows it; times in microseconds."""
    counts = {name: sum(getattr(rank.counts, name) for rank in ranks) for name in _COUNTS}
    window_s = max(rank.window_s for rank in ranks)
    entry: Dict[str, Any] = {
        "n": trial.number,
        asked.quantity: trial.value,
        "confirms": trial.confirms,
        "window_s": window_s,
        "counts": counts,
        # Arrivals at random vary by chance: what was due is not quite what was asked.
        "due_per_s": sum(counts.values()) / window_s if window_s > 0 else None,
        "achieved_per_s": outcome.throughput_per_s,
        "latency_p90_us": outcome.latency_us,
        "verdict": verdict.name,
        "why": verdict.why,
        "generator": figures_to_json(figures_of(ranks)),
    }
    if asked.slo:
        entry.update(attainment=verdict.share, low=verdict.low, high=verdict.high, estimated=verdict.estimated)
        entry["quantities"] = {
            name: {"p50_us": found.percentile_us(50), "p99_us": found.percentile_us(99), "limit_us": limit_s * 1e6}
            for name, limit_s in asked.slo.items()
            for found in [_quantity(name, ranks)]
            if found.count
        }
    return entry


def _attainment(slo: Mapping[str, float], ranks: Sequence[Measurement], due: int) -> Tuple[float, float]:
    """Return how many requests met the SLO, and of how many; what failed or was never sent did not."""
    if not slo:
        return 0.0, 0.0
    counted = [rank.metrics[ATTAINMENT] for rank in ranks if ATTAINMENT in rank.metrics]
    if len(counted) < len(ranks):
        raise TrialError(f"slo {', '.join(slo)}: this kind of client does not tell which requests met it; it knows {LATENCY}")
    met = float(sum(metric["numerator"] for metric in counted))
    # The core, not the product, sees what timed out or was never sent.
    return met, max(float(due), float(sum(metric["denominator"] for metric in counted)))


def _achieved_per_s(ranks: Sequence[Measurement]) -> float:
    return sum(rank.achieved_per_s or 0.0 for rank in ranks)


def _latency(ranks: Sequence[Measurement]) -> Histogram:
    """Return the latencies from schedule, and in closed loop from sending."""
    clocks = [rank.latency.get("all", {}) for rank in ranks]
    schedule = added(clock.get("schedule") for clock in clocks)
    return schedule if schedule.count else added(clock.get("send") for clock in clocks)


def _quantity(name: str, ranks: Sequence[Measurement], *, sent: bool = False) -> Histogram:
    """Return the distribution of what a limit is set for, from schedule where there is one; `sent`: always from sending."""
    if name == LATENCY:
        return added(rank.latency.get("all", {}).get("send") for rank in ranks) if sent else _latency(ranks)
    for found in (name,) if sent else (f"{name}_schedule", name):
        entries = [rank.distributions[found] for rank in ranks if found in rank.distributions]
        total = added(entry["histogram"] for entry in entries if entry.get("unit") == "us")
        if total.count:
            return total
    return Histogram()


def _worst(slo: Mapping[str, float], ranks: Sequence[Measurement]) -> str:
    """Return the quantity whose p99 is furthest above its limit, or nearest below."""
    found: "List[Tuple[float, str]]" = []
    for name, limit_s in slo.items():
        p99_us = _quantity(name, ranks).percentile_us(99)
        if p99_us is not None:
            found.append((p99_us / (limit_s * 1e6), f"{name} p99 {_ms(p99_us)}, limit {_ms(limit_s * 1e6)}"))
    return max(found)[1] if found else ""


def _too_few_connections(asked: Asked, ranks: Sequence[Measurement], limits: Mapping[str, float]) -> str:
    """Return whether requests missed the SLO only because they waited for a free connection.

    A server that is beyond its limit takes all connections, too; but then what it answers is late from sending as well.
    """
    waited_us = added(rank.health.gate for rank in ranks).percentile_us(99) or 0.0
    if not asked.slo or waited_us <= max(_WAITED_US, limits["lateness"] * min(asked.slo.values()) * 1e6):
        return ""
    shares = []
    for name, limit_s in asked.slo.items():
        found = _quantity(name, ranks, sent=True)
        shares.append(found.count_up_to(round(limit_s * 1e9)) / found.count if found.count else 0.0)
    if min(shares) < asked.attainment:
        return ""
    return (
        f"requests waited for a free connection, p99 {_ms(waited_us)}, while what was sent met the SLO: "
        "more connections may show that the server can do more"
    )


def _ms(value_us: float) -> str:
    return f"{value_us / 1000:.3g} ms"


def fold_in(total: "Optional[Dict[str, Any]]", measurement: Measurement) -> Dict[str, Any]:
    """Return the sum of what earlier trials and this one did, as `carry` takes it."""
    counts: Dict[str, int] = dict(total["counts"]) if total else {}
    totals: Dict[str, float] = dict(total["totals"]) if total else {}
    warmup = measurement.phase_counts.get("warmup", {})
    for name in _COUNTS:
        counts[name] = counts.get(name, 0) + getattr(measurement.counts, name) + warmup.get(name, 0)
    for name, value in measurement.totals.items():
        totals[name] = totals.get(name, 0) + value
    return {"counts": counts, "totals": totals}


def carry(total: "Optional[Mapping[str, Any]]", measurement: Measurement) -> None:
    """Add what earlier trials did to a measurement, so that its totals are comparable to the server's of the same time."""
    if not total:
        return
    warmup = measurement.phase_counts.setdefault("warmup", {})
    for name, value in total["counts"].items():
        warmup[name] = warmup.get(name, 0) + value
    for name, value in total["totals"].items():
        measurement.totals[name] = measurement.totals.get(name, 0) + value
