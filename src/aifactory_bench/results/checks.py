"""What each check of the verdict looks at: one function a code, from merged numbers to an answer.

A limit is always the most that is allowed; what is found above it makes the check speak.
"""

from collections.abc import Mapping
from typing import Any, Literal

from attrs import frozen

from .model import Evidence, Merged, MergedMeasurement, Verdict
from .numbers import duration, percent, rate, seconds

UNCHECKED: Literal["unchecked"] = "unchecked"
"""A check's answer: it applies, and what it needs is not known."""

OPEN_PROCESSES = frozenset({"constant", "poisson"})


@frozen
class Finding:
    """What a check has to say against a measurement."""

    verdict: Verdict
    values: Mapping[str, Any]
    """For the check's text."""


Answer = Finding | Literal["unchecked"] | None


def is_open(measurement: MergedMeasurement) -> bool:
    """Return whether the load follows a clock of its own and does not wait for answers."""
    return measurement.process in OPEN_PROCESSES or measurement.offered_per_s is not None


def no_measurement(merged: Merged, _limits: Mapping[str, float]) -> Answer:
    """Answer whether every replica failed before it measured."""
    evidence = merged.evidence
    if len(evidence.ranks_absent) < evidence.ranks_planned:
        return None
    return Finding("invalid", {"why": _each_rank(evidence.ranks_absent)})


def nothing_succeeded(merged: Merged, _limits: Mapping[str, float]) -> Answer:
    """Answer whether no request ended well."""
    counts = merged.measurement.counts
    if counts["ok"] > 0:
        return None
    values = {"unit": merged.measurement.unit, **counts, "classes": _classes(merged.measurement.errors)}
    return Finding("invalid", values)


def service_died(merged: Merged, _limits: Mapping[str, float]) -> Answer:
    """Answer whether a target ended between just before and just after the window."""
    return _service_event(merged.evidence, "died")


def service_restarted(merged: Merged, _limits: Mapping[str, float]) -> Answer:
    """Answer whether a target is not the same process after the window."""
    return _service_event(merged.evidence, "restarted")


def _service_event(evidence: Evidence, event: str) -> Answer:
    hit = {role: seen for role, seen in evidence.services.items() if seen.get(event)}
    if not hit:
        return None
    text = "; ".join(f"{role}: {seen.get('text') or 'no more is known'}" for role, seen in sorted(hit.items()))
    return Finding("invalid", {"what": text})


def tool_failed(merged: Merged, _limits: Mapping[str, float]) -> Answer:
    """Answer whether a tool ended with an error, by a signal or past its budget."""
    failed = merged.evidence.tools_failed
    return Finding("invalid", {"what": "; ".join(failed)}) if failed else None


def cut(merged: Merged, _limits: Mapping[str, float]) -> Answer:
    """Answer whether a replica ended its window early."""
    cut = merged.evidence.ranks_cut
    return Finding("invalid", {"why": _each_rank(cut)}) if cut else None


def window_short(merged: Merged, limits: Mapping[str, float]) -> Answer:
    """Answer whether the shortest window of the replicas is too short."""
    asked, found = merged.evidence.window_asked_s, merged.evidence.window_shortest_s
    if asked is None:
        return None
    if found is None:
        return UNCHECKED
    if found >= asked * (1 - limits["window_short"]):
        return None
    values = {"found": seconds(found), "asked": seconds(asked), "share": percent(1 - found / asked)}
    return Finding("invalid", {**values, "limit": percent(limits["window_short"])})


def replicas_missing(merged: Merged, _limits: Mapping[str, float]) -> Answer:
    """Answer whether some replicas measured and some did not."""
    evidence = merged.evidence
    missing = len(evidence.ranks_absent)
    if not 0 < missing < evidence.ranks_planned:
        return None
    values = {"missing": missing, "planned": evidence.ranks_planned, "why": _each_rank(evidence.ranks_absent)}
    return Finding("invalid", values)


def replicas_differ(merged: Merged, _limits: Mapping[str, float]) -> Answer:
    """Answer whether the replicas are not replicas of each other."""
    differences = merged.evidence.differences
    return Finding("invalid", {"what": "; ".join(differences)}) if differences else None


def windows_apart(merged: Merged, limits: Mapping[str, float]) -> Answer:
    """Answer whether the windows of the replicas overlap too little."""
    evidence = merged.evidence
    if evidence.ranks_planned - len(evidence.ranks_absent) <= 1:
        return None
    if evidence.overlap_share is None:
        return UNCHECKED
    apart = 1 - evidence.overlap_share
    if apart <= limits["windows_apart"]:
        return None
    return Finding("invalid", {"found": percent(apart), "limit": percent(limits["windows_apart"])})


def error_share(merged: Merged, limits: Mapping[str, float]) -> Answer:
    """Answer whether too many of the requests that were sent failed."""
    counts = merged.measurement.counts
    failed = counts["error"] + counts["timeout"]
    sent = counts["ok"] + failed
    if not sent or failed / sent <= limits["error_share"]:
        return None
    values = {"failed": f"{failed:,}", "sent": f"{sent:,}", "unit": merged.measurement.unit, "share": percent(failed / sent)}
    values["classes"] = _classes(merged.measurement.errors)
    return Finding("invalid", {**values, "limit": percent(limits["error_share"])})


def rate_not_achieved(merged: Merged, limits: Mapping[str, float]) -> Answer:
    """Answer whether an open loop got less through than was due."""
    measurement = merged.measurement
    offered, achieved = measurement.offered_per_s, measurement.achieved_per_s
    if offered is None or offered <= 0:
        return None
    if achieved is None:
        return UNCHECKED
    due = sum(measurement.counts.values())
    if measurement.process == "poisson" and measurement.window_s and due:
        # How many arrivals fall into a window varies by chance; what counts is how many did.
        offered = due / measurement.window_s
    least = offered * (1 - limits["rate_not_achieved"])
    if achieved >= least:
        return None
    values = {"achieved": rate(achieved), "offered": rate(offered), "least": rate(least)}
    values["share"] = percent(1 - achieved / offered)
    skipped = measurement.counts["skipped"]
    values["skipped"] = f", {skipped:,} were never sent" if skipped else ""
    return Finding("invalid", {**values, "limit": percent(limits["rate_not_achieved"])})


def lateness(merged: Merged, limits: Mapping[str, float]) -> Answer:
    """Answer whether an open loop sent later than it was due, for want of time of its own."""
    measurement = merged.measurement
    if not is_open(measurement) or not measurement.counts["ok"]:
        return None
    found_us = measurement.health.get("lateness_p99_us")
    median_us = _median_us(measurement)
    if found_us is None or median_us is None:
        return UNCHECKED
    allowed_us = max(limits["lateness_floor_s"] * 1e6, limits["lateness"] * median_us)
    if found_us <= allowed_us:
        return None
    values = {"found": duration(found_us), "median": duration(median_us), "limit": duration(allowed_us)}
    invalid_us = max(limits["lateness_invalid_floor_s"] * 1e6, limits["lateness_invalid"] * median_us)
    if found_us > invalid_us:
        return Finding("invalid", {**values, "limit": duration(invalid_us)})
    return Finding("degraded", values)


def generator_stalled(merged: Merged, limits: Mapping[str, float]) -> Answer:
    """Answer whether a worker did not run for a part of the window, or for so long in one piece that a request shows it."""
    measurement = merged.measurement
    share, longest_s = (measurement.health.get(name) for name in ("stalled_share_max", "stalled_max_s"))
    if share is None or longest_s is None:
        return None  # a tool of others cannot tell; that it does not stands in `absent`
    values = {"found": percent(share), "longest": duration(longest_s * 1e6)}
    if share > limits["generator_stalled_invalid"]:
        return Finding("invalid", {**values, "limit": percent(limits["generator_stalled_invalid"])})
    if share > limits["generator_stalled"]:
        return Finding("degraded", {**values, "limit": percent(limits["generator_stalled"])})
    # A request that takes as long anyway does not show it.
    allowed_us = max(limits["generator_stalled_max_s"] * 1e6, _median_us(measurement) or 0)
    return Finding("degraded", {**values, "limit": duration(allowed_us)}) if longest_s * 1e6 > allowed_us else None


def client_bound(merged: Merged, limits: Mapping[str, float]) -> Answer:
    """Answer whether a worker was busy nearly all the time."""
    measurement = merged.measurement
    found = measurement.health.get("cpu_share_max")
    if found is None:
        return UNCHECKED
    if found <= limits["client_bound"]:
        return None
    values = {"found": percent(found), "limit": percent(limits["client_bound"])}
    return Finding("invalid" if is_open(measurement) else "degraded", values)


def totals_mismatch(merged: Merged, limits: Mapping[str, float]) -> Answer:
    """Answer whether the server counted something else than the clients."""
    clients, server = merged.evidence.client_operations, merged.evidence.server_operations
    if clients is None or server is None:
        return None  # an extra witness: that there is none stands in `absent` and takes nothing from the verdict
    apart = abs(clients - server) / max(clients, server, 1)
    allowed = limits["totals_mismatch"]
    if apart <= allowed:
        return None
    values = {"clients": f"{clients:,.0f}", "server": f"{server:,.0f}", "share": percent(apart), "limit": percent(allowed)}
    return Finding("degraded", values)


def unchecked(merged: Merged, _limits: Mapping[str, float]) -> Answer:
    """Answer for the checks that needed what is not known."""
    codes = merged.measurement.unchecked
    return Finding("degraded", {"codes": ", ".join(codes)}) if codes else None


def _each_rank(reasons: Mapping[int, str]) -> str:
    """Return the reasons with their ranks; ranks that say the same stand together."""
    ranks_by_reason: dict[str, list[int]] = {}
    for rank, reason in sorted(reasons.items()):
        ranks_by_reason.setdefault(reason or "no reason was given", []).append(rank)
    return "; ".join(
        f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}: {reason}"
        for reason, ranks in ranks_by_reason.items()
    )


def _classes(errors: Mapping[str, int]) -> str:
    """Return the three most frequent classes of errors, as the end of a sentence."""
    first = sorted(errors.items(), key=lambda item: (-item[1], item[0]))[:3]
    return f": {', '.join(f'{name} ({count})' for name, count in first)}" if first else ""


def _median_us(measurement: MergedMeasurement) -> float | None:
    """Return the median from sending over all operations, or of the slowest operation where there is no sum."""
    medians = {
        operation: latency.p50_us
        for operation, clocks in measurement.latency.items()
        if (latency := clocks.get("send")) is not None and latency.p50_us is not None
    }
    return medians.get("all", max(medians.values(), default=None))
