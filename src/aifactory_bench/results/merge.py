"""From the documents of all ranks of all clients at one point to one unjudged measurement a client."""

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import evolve

from ..node.load.histogram import Histogram
from ..node.measurement import Measurement
from ..plan import PlannedPoint
from .documents import COUNTS, Rank, read_ranks
from .latencies import latency_from_quantiles, latency_of, low_n_fields, merged_histograms
from .model import Evidence, Latency, Merged, MergedMeasurement
from .parts import (
    absences,
    differences,
    distributions_of,
    health_of,
    maxima,
    metrics_of,
    series_of,
    services_of,
    sums,
    tool_failures,
)
from .search import with_search
from .steady import steady_metrics, sums_by_second
from .totals import ClientTotals, compare, compare_more
from .windows import Window, common_window, slices_within

NO_SCHEDULE = "closed loop: there is no schedule"
QUALITIES = ("none", "text", "bucketed", "exact")
"""Of histograms, the worst first."""


def merge_point(points: Sequence[PlannedPoint], documents: Mapping[str, Sequence[Mapping[str, Any]]]) -> tuple[Merged, ...]:
    """Return what each client measured at one point, in the order of the plan.

    Args:
        points: All clients' planned measurements with the same id.
        documents: Client -> documents of its ranks; a client without any is not in the result.
    """
    merged, totals = [], []
    for point in points:
        if documents.get(point.client):
            one, ranks = _merge(point, documents[point.client])
            merged.append(one)
            totals.append(ClientTotals(point, tuple(rank.measurement for rank in ranks)))
    return tuple(_with_totals(one, own, totals) for one, own in zip(merged, totals, strict=True))


def merge(point: PlannedPoint, documents: Sequence[Mapping[str, Any]]) -> Merged:
    """Return what one client measured at one point, unjudged; ranks without a measurement stand in its evidence."""
    return merge_point([point], {point.client: documents})[0] if documents else _merge(point, documents)[0]


def _with_totals(merged: Merged, own: ClientTotals, totals: Sequence[ClientTotals]) -> Merged:
    sent, counted, why = compare(own, totals)
    more = compare_more(own, totals)
    absent = {**merged.measurement.absent, **({"server_operations": why} if why else {})}
    return Merged(
        evolve(merged.measurement, absent=absent),
        evolve(merged.evidence, client_operations=sent, server_operations=counted, other_totals=more),
    )


def _merge(point: PlannedPoint, documents: Sequence[Mapping[str, Any]]) -> tuple[Merged, list[Rank]]:
    by_rank, absent_ranks, strange = read_ranks(point, documents)
    if by_rank and common_window(list(by_rank.values())).origin == "slices":
        by_rank, absent_ranks, strange = read_ranks(point, documents, whole_slices=True)
    if not by_rank:
        return _nothing(point, absent_ranks, strange, documents), []
    ranks = list(by_rank.values())
    window = common_window(ranks)
    first = ranks[0].measurement
    measurements = [rank.measurement for rank in ranks]
    histograms = merged_histograms(ranks, window)
    latency, absent, low_n = _latency(ranks, histograms)
    closed = first.process == "closed"
    offered = point.offered_per_s
    if offered is None:
        offers = [rank.offered_per_s for rank in measurements]
        offered = sum(offer for offer in offers if offer is not None) if None not in offers else None
    if offered is None:
        absent["offered_per_s"] = "closed loop: no rate is offered" if closed else "no rate is offered"
    health, own_distributions = health_of(ranks)
    distributions, low_in_distributions = distributions_of(ranks)
    sums_of_ranks = sums_by_second(ranks, window)
    by_second, not_steady = steady_metrics(sums_of_ranks)
    absent.update(not_steady)
    for name, value in health.items():
        if value is None:
            scheduled = name in ("lateness_p99_us", "gate_p99_us")
            absent[f"health.{name}"] = NO_SCHEDULE if closed and scheduled else "the generator does not report it"
    absent.update({key: why for key, why in absences(by_rank).items() if key not in absent})
    achieved = [_achieved_per_s(rank, window) for rank in ranks]
    measurement = MergedMeasurement(
        client=point.client,
        kind=point.kind,
        verdict="valid",
        reasons=(),
        unchecked=tuple(sorted({str(code) for rank in measurements for code in rank.unchecked})),
        unit=first.unit,
        process=first.process or point.process,
        window_s=window.length_s,
        counts={name: sum(getattr(rank.counts, name) for rank in measurements) for name in COUNTS},
        errors=sums([rank.errors for rank in measurements]),
        offered_per_s=offered,
        achieved_per_s=sum(achieved),
        latency=latency,
        metrics={**metrics_of(ranks, achieved), **by_second},
        distributions={**own_distributions, **distributions},
        low_n=(*low_n, *low_in_distributions),
        absent=absent,
        replicas=len(ranks),
        phases_s=maxima([rank.phases_s for rank in measurements]),
        health=health,
        provenance=_provenance(by_rank, achieved, window),
        series=series_of(ranks, window, sums_of_ranks),
        histograms={name: {clock: one.to_json() for clock, one in clocks.items()} for name, clocks in histograms.items()},
    )
    asked = [rank.window_asked_s for rank in measurements if rank.window_asked_s > 0]
    evidence = Evidence(
        ranks_planned=point.ranks,
        ranks_absent=absent_ranks,
        ranks_cut={number: rank.measurement.reason for number, rank in by_rank.items() if rank.measurement.status == "cut"},
        window_asked_s=max(asked, default=None),
        window_shortest_s=min(rank.window_s for rank in measurements),
        overlap_share=window.overlap_share,
        services=services_of([rank.services for rank in measurements]),
        tools_failed=tuple(tool_failures({number: rank.measurement.tool for number, rank in by_rank.items()})),
        differences=(*differences(ranks), *strange),
        due_per_s=sum(_due_per_s(rank, window) for rank in ranks),
        due_expected=_due_expected(point, measurements),
    )
    return Merged(with_search(measurement, by_rank), evidence), ranks


def _nothing(
    point: PlannedPoint,
    absent_ranks: Mapping[int, str],
    strange: tuple[str, ...],
    documents: Sequence[Mapping[str, Any]],
) -> Merged:
    """Return a measurement without numbers: no rank has one. What the ranks saw of services and tools is kept."""
    why = "no replica has a measurement"
    tools, services = {}, []
    for number, document in enumerate(documents):
        if isinstance(document, Mapping):
            if isinstance(tool := document.get("tool"), Mapping):
                tools[number] = tool
            if isinstance(seen := document.get("services"), Mapping):
                services.append({role: entry for role, entry in seen.items() if isinstance(entry, Mapping)})
    measurement = MergedMeasurement(
        client=point.client,
        kind=point.kind,
        verdict="invalid",
        reasons=(),
        unchecked=(),
        unit="request",
        process=point.process,
        window_s=None,
        counts=dict.fromkeys(COUNTS, 0),
        errors={},
        offered_per_s=point.offered_per_s,
        achieved_per_s=None,
        latency={},
        metrics={},
        distributions={},
        low_n=(),
        absent=dict.fromkeys(["window_s", "achieved_per_s", *([] if point.offered_per_s else ["offered_per_s"])], why),
        replicas=0,
        phases_s={},
        health={},
        provenance={},
    )
    evidence = Evidence(
        ranks_planned=point.ranks,
        ranks_absent=absent_ranks,
        services=services_of(services),
        tools_failed=tuple(tool_failures(tools)),
        differences=strange,
    )
    return Merged(measurement, evidence)


def _latency(
    ranks: Sequence[Rank], histograms: Mapping[str, Mapping[str, Histogram]]
) -> tuple[dict[str, dict[str, Latency | None]], dict[str, str], tuple[str, ...]]:
    """Return the latencies by operation and clock, why parts are absent, and which quantiles rest on too few samples."""
    latency: dict[str, dict[str, Latency | None]] = {}
    absent: dict[str, str] = {}
    low_n: list[str] = []
    closed = ranks[0].measurement.process == "closed"
    with_quantiles = {operation for rank in ranks for operation in rank.measurement.quantiles}
    for operation in sorted({*histograms, *with_quantiles}):
        clocks = histograms.get(operation, {})
        path = f"latency.{operation}"
        if operation in with_quantiles:
            send, why = latency_from_quantiles(ranks, operation)
            absent.update({f"{path}.send.{name}": text for name, text in why.items()})
        elif "send" in clocks:
            send = latency_of(clocks["send"])
        else:
            send = None
            absent[f"{path}.send"] = "it was not recorded"
        schedule = latency_of(clocks["schedule"]) if "schedule" in clocks else None
        if schedule is None:
            absent[f"{path}.schedule"] = NO_SCHEDULE if closed else "it was not recorded"
        for clock, one in (("send", send), ("schedule", schedule)):
            if one is None:
                continue
            if not one.count and operation not in with_quantiles:
                absent[f"{path}.{clock}"] = "no request succeeded"
            low_n.extend(f"{path}.{clock}.{name}" for name in low_n_fields(one))
        latency[operation] = {"send": send, "schedule": schedule}
    return latency, absent, tuple(low_n)


def _achieved_per_s(rank: Rank, window: Window) -> float:
    """Return what a rank got through, per second of what counts of it."""
    own = rank.measurement
    per_s = own.counts.ok / own.window_s if own.window_s > 0 else 0.0
    in_time = own.achieved_per_s / per_s if own.achieved_per_s is not None and per_s else 1.0
    if window.origin == "slices":
        within = slices_within(rank, window)
        # A slice counts what was due in it, also what was sent after the end: that share is taken off here as there.
        return in_time * sum(part.ok for part, _ in within) / sum(length_s for _, length_s in within)
    return per_s if own.achieved_per_s is None else own.achieved_per_s


def _due_per_s(rank: Rank, window: Window) -> float:
    """Return what a rank had to do, per second of what `_achieved_per_s` counts of it."""
    own = rank.measurement
    if own.window_s <= 0:
        return 0.0
    due: int = sum(getattr(own.counts, name) for name in COUNTS)
    if window.origin == "totals":
        return due / own.window_s
    within = slices_within(rank, window)
    told = sum(part.due for part, _ in within) / sum(length_s for _, length_s in within)
    # What stands in no second, as tools tell of what was never sent, is taken as even over the rank's window.
    return told + max(0, due - sum(part.due for part in rank.slices)) / own.window_s


def _due_expected(point: PlannedPoint, ranks: Sequence[Measurement]) -> float | None:
    """Return how many the offered rate makes in the ranks' own windows; None where one has no rate."""
    planned = None if point.offered_per_s is None else point.offered_per_s / point.ranks
    rates = [rank.offered_per_s if rank.offered_per_s is not None else planned for rank in ranks]
    pairs = [(rate, rank.window_s) for rate, rank in zip(rates, ranks, strict=True) if rate is not None]
    return sum(rate * window_s for rate, window_s in pairs) if len(pairs) == len(ranks) else None


def _provenance(ranks: Mapping[int, Rank], achieved: Sequence[float], window: Window) -> dict[str, Any]:
    """Return where the numbers come from: how they were merged, and each rank for itself."""
    each = [
        {
            "rank": number,
            "status": rank.measurement.status,
            "start_wall_ns": rank.measurement.start_wall_ns,
            "end_wall_ns": rank.measurement.end_wall_ns,
            "window_s": rank.measurement.window_s,
            "achieved_per_s": rate,
            "cpu_share": rank.measurement.health.cpu_share,
            "prepare": rank.measurement.prepare,
            "tool": rank.measurement.tool,
            **rank.measurement.provenance,
        }
        for (number, rank), rate in zip(ranks.items(), achieved, strict=True)
    ]
    qualities = {rank.measurement.histogram_quality for rank in ranks.values()}
    worst = min(qualities, key=lambda quality: QUALITIES.index(quality) if quality in QUALITIES else -1)
    merge = {"origin": window.origin, "skew_s": window.skew_s, "overlap_share": window.overlap_share}
    return {"histogram_quality": worst, "merge": merge, "ranks": each}
