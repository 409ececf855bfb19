"""What ranks report beside latencies, as one: metrics, the generator's state, series, services, tools."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..node.load.histogram import merged as sum_of
from .documents import Rank, Slice, is_number
from .latencies import distribution, p50_p99
from .windows import Window, second_of

HEALTH = ("lateness", "gate", "loop_lag")
"""Histograms of the generator; each becomes an entry of `distributions` and a p99 in `health`."""


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


def _stalled_share(rank: Rank) -> float | None:
    stalled_s, window_s = rank.measurement.health.stalled_s, rank.measurement.window_s
    return stalled_s / window_s if stalled_s is not None and window_s > 0 else None


def _worst(values: Sequence[float | None]) -> float | None:
    """Return the largest value; None where one is not known."""
    known = [value for value in values if value is not None]
    return max(known) if known and len(known) == len(values) else None


def series_of(ranks: Sequence[Rank], window: Window) -> tuple[Mapping[str, Any], ...]:
    """Return one entry a second of the common window: counts, and p50 and p99 of all operations by both clocks."""
    seconds: dict[int, list[Slice]] = {}
    for rank in ranks:
        for part in rank.slices:
            second = second_of(rank, part, window)
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
        series.append(entry)
    return tuple(series)


def metrics_of(ranks: Sequence[Rank], achieved: Sequence[float]) -> dict[str, dict[str, Any]]:
    """Return the products' metrics over all ranks, and the slowest and the fastest rank where there are several.

    A metric is added up unless it says `"merge": "min" | "max" | "mean"`; a mean is weighted by what succeeded.
    """
    found: dict[str, list[tuple[Mapping[str, Any], int]]] = {}
    for rank in ranks:
        for name, metric in rank.measurement.metrics.items():
            value = metric.get("value")
            if is_number(value):
                found.setdefault(name, []).append((metric, rank.measurement.counts.ok))
    merged: dict[str, dict[str, Any]] = {}
    for name, parts in found.items():
        values = [part["value"] for part, _ in parts]
        how = str(parts[0][0].get("merge", "sum"))
        if how == "mean":
            weights = [weight for _, weight in parts] if any(weight for _, weight in parts) else [1] * len(parts)
            value = sum(one * weight for one, weight in zip(values, weights, strict=True)) / sum(weights)
        else:
            value = {"min": min, "max": max}.get(how, sum)(values)
        merged[name] = {"value": value, "unit": str(parts[0][0].get("unit", ""))}
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
