"""What ranks report beside latencies, as one: metrics, the generator's state, series, services, tools."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..node.load.histogram import merged as sum_of
from ..node.load.own import merged_metric
from .documents import Rank, Slice, is_number
from .latencies import distribution, distribution_of, p50_p99
from .statistics import is_low_n, wilson
from .windows import Window, second_of

HEALTH = ("lateness", "gate", "loop_lag", "observation_age")
"""Histograms of the generator; each becomes an entry of `distributions` and a p99 in `health`."""
RATIO = "ratio"
"""Unit of a ratio that is a share, 0 to 1."""
SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
"""Field of a distribution -> the quantile."""


def health_of(ranks: Sequence[Rank]) -> tuple[dict[str, Any], dict[str, Mapping[str, Any]]]:
    """Return the generator's state, and its distributions."""
    health: dict[str, Any] = {}
    distributions = {}
    for name in HEALTH:
        parts = [histogram for rank in ranks if (histogram := getattr(rank, name)) is not None]
        entry = distribution(sum_of(parts))
        health[f"{name}_p99_us"] = entry["p99"] if entry else None
        if entry:
            distributions[name] = entry
    health["cpu_share_max"] = _worst([share for rank in ranks for share in rank.measurement.health.cpu_share or [None]])
    health["stalled_share_max"] = _worst([_stalled_share(rank) for rank in ranks])
    health["stalled_max_s"] = _worst([rank.measurement.health.stalled_max_s for rank in ranks])
    health["workers"] = sum(rank.measurement.health.workers for rank in ranks)
    return health, distributions


def distributions_of(ranks: Sequence[Rank]) -> tuple[dict[str, Mapping[str, Any]], tuple[str, ...]]:
    """Return what products measured beside latencies, and the paths of quantiles that rest on too few samples."""
    names = dict.fromkeys(name for rank in ranks for name in rank.distributions)
    found: dict[str, Mapping[str, Any]] = {}
    low_n: list[str] = []
    for name in names:
        parts = [rank.distributions[name] for rank in ranks if name in rank.distributions]
        entry = distribution_of(sum_of([histogram for _, histogram in parts]), parts[0][0])
        if entry is not None:
            found[name] = entry
            low_n.extend(f"distributions.{name}.{field}" for field, share in SHARES.items() if is_low_n(share, entry["count"]))
    return found, tuple(low_n)


def _stalled_share(rank: Rank) -> float | None:
    stalled_s, window_s = rank.measurement.health.stalled_s, rank.measurement.window_s
    return stalled_s / window_s if stalled_s is not None and window_s > 0 else None


def _worst(values: Sequence[float | None]) -> float | None:
    """Return the largest value; None where one is not known."""
    known = [value for value in values if value is not None]
    return max(known) if known and len(known) == len(values) else None


def series_of(
    ranks: Sequence[Rank], window: Window, sums: Mapping[str, tuple[str, Sequence[float]]]
) -> tuple[Mapping[str, Any], ...]:
    """Return one entry a second of the common window: counts, p50 and p99 of all operations by both clocks, and the sums."""
    seconds: dict[int, list[Slice]] = {}
    for rank in ranks:
        for part in rank.slices:
            second = second_of(rank, part.second, window)
            if second is not None:
                seconds.setdefault(second, []).append(part)
    series = []
    for second, parts in sorted(seconds.items()):
        entry: dict[str, Any] = {
            "second": second,
            "ok": sum(part.ok for part in parts),
            "error": sum(part.error for part in parts),
        }
        for clock, end in (("send", ""), ("schedule", "_schedule")):
            found = [part.histograms["all"][clock] for part in parts if clock in part.histograms.get("all", {})]
            if found or clock == "send":
                entry[f"p50{end}_us"], entry[f"p99{end}_us"] = p50_p99(sum_of(found))
        entry.update((name, numbers[second]) for name, (_, numbers) in sums.items() if second < len(numbers))
        series.append(entry)
    return tuple(series)


def metrics_of(ranks: Sequence[Rank], achieved: Sequence[float]) -> dict[str, dict[str, Any]]:
    """Return the products' metrics over all ranks, and the slowest and the fastest rank where there are several.

    How ranks become one, each metric says itself, see `node.load.own.merged_metric`; a mean is weighted by what succeeded,
    and a ratio that is a share gets the 95 % bounds of Wilson's interval.
    """
    found: dict[str, list[tuple[Mapping[str, Any], int]]] = {}
    for rank in ranks:
        for name, metric in rank.measurement.metrics.items():
            needed = ("value", "numerator", "denominator") if metric.get("merge") == "ratio" else ("value",)
            if all(is_number(metric.get(key)) for key in needed):
                found.setdefault(name, []).append((metric, rank.measurement.counts.ok))
    merged: dict[str, dict[str, Any]] = {}
    for name, parts in found.items():
        if len({str(part.get("merge", "sum")) for part, _ in parts}) > 1:
            continue
        metric = merged_metric([part for part, _ in parts], [weight for _, weight in parts])
        merged[name] = {"value": metric["value"], "unit": metric["unit"]}
        if metric["merge"] == "ratio":
            merged[name]["of"] = metric["denominator"]
            if metric["unit"] == RATIO:  # tokens per chunk are no share of trials, and have no such bounds
                low, high = wilson(metric["numerator"], metric["denominator"])
                merged[name].update(low=low, high=high)
    if len(ranks) > 1:
        unit = f"{ranks[0].measurement.unit}/s"
        merged["replica_rate_min"] = {"value": min(achieved), "unit": unit}
        merged["replica_rate_max"] = {"value": max(achieved), "unit": unit}
    return merged


def services_of(seen: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Return what the ranks saw of each target: a death that one of them saw is a death."""
    services: dict[str, dict[str, Any]] = {}
    for roles in seen:
        for role, entry in roles.items():
            known = services.setdefault(role, {"died": False, "restarted": False, "text": ""})
            known["died"] = known["died"] or bool(entry.get("died"))
            known["restarted"] = known["restarted"] or bool(entry.get("restarted"))
            known["text"] = known["text"] or str(entry.get("text", ""))[:500]
    return services


def tool_failures(tools: Mapping[int, Mapping[str, Any]]) -> list[str]:
    """Return one sentence a rank whose tool ended with an error, by a signal, or was stopped for its time."""
    failures = []
    for number, tool in tools.items():
        name = str(tool.get("name", "the tool"))[:100]
        if tool.get("timed_out"):
            failures.append(f"rank {number}: {name} ran past its budget and was stopped")
        elif tool.get("stopped"):
            continue  # by us, for a reason that the measurement tells
        elif tool.get("signal"):
            failures.append(f"rank {number}: {name} was ended by signal {tool['signal']}")
        elif tool.get("exit_code"):
            failures.append(f"rank {number}: {name} ended with exit code {tool['exit_code']}")
    return failures


def absences(ranks: Mapping[int, Rank]) -> dict[str, str]:
    """Return what the ranks say is not there, by field; where not all of them say it, with the ranks that do.

    The server's counters are read by one rank for all, so the others' lack of them is none.
    """
    found: dict[str, dict[int, str]] = {}
    for number, rank in ranks.items():
        for name, why in rank.measurement.absent.items():
            found.setdefault(name, {})[number] = str(why)[:500]
    if any(rank.measurement.server_after for rank in ranks.values()):
        found.pop("server_after", None)
    absent = {}
    for name, reasons in found.items():
        said = ", ".join(map(str, sorted(reasons)))
        first = reasons[min(reasons)]
        absent[name] = first if len(reasons) == len(ranks) else f"rank {said}: {first}"
    return absent


def differences(ranks: Sequence[Rank]) -> list[str]:
    """Return in what replicas differ that must be the same for all."""
    looked_at = {
        "unit": {rank.measurement.unit for rank in ranks},
        "arrival process": {rank.measurement.process for rank in ranks},
        "tool version": {str(rank.measurement.tool.get("version")) for rank in ranks},
    }
    return [f"{name}: {', '.join(sorted(values))}" for name, values in looked_at.items() if len(values) > 1]


def sums(mappings: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Return the sums by name."""
    names = sorted({name for mapping in mappings for name in mapping})
    return {name: int(sum(mapping.get(name, 0) for mapping in mappings)) for name in names}


def maxima(mappings: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the maxima by name."""
    names = {name for mapping in mappings for name in mapping}
    return {name: max(mapping.get(name, 0.0) for mapping in mappings) for name in sorted(names)}
