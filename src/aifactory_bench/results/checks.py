"""What each check of the verdict looks at: one function a code, from merged numbers to an answer.

A limit is always the most that is allowed; what is found above it makes the check speak.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

from attrs import frozen

from ..node import trust
from ..node.load.schedule import OPEN
from .model import Evidence, Merged, MergedMeasurement, Verdict
from .numbers import duration, percent, rate, seconds

UNCHECKED: Literal["unchecked"] = "unchecked"
"""A check's answer: it applies, and what it needs is not known."""

TTFT_SUM, TTFT_COUNT = "ttft_s", "ttft_count"
COMPARED = ("output_tokens", "prompt_tokens", "vectors_inserted", "acknowledgements")
"""Totals that must agree beside `operations`."""
INPUT_LENGTH = "prompt_tokens_by_asked"
"""The metric: tokens of prompts, as the server counted them, by what was asked for."""
OTHER_LENGTH = "other_length"
"""The metric: answers that should have had a given number of tokens, and had another one."""
NEVER_SENT = "counts.skipped"
"""A tool that lists it in `absent` has said why not all that was due stands in its counts."""
_BEYOND_CHANCE = 5
"""Standard deviations: once in three million measurements that are right."""


@frozen
class Finding:
    """What a check has to say against a measurement."""

    verdict: Verdict
    values: Mapping[str, Any]
    """For the check's text."""


Answer = Finding | Literal["unchecked"] | None


def is_open(measurement: MergedMeasurement) -> bool:
    """Return whether the load follows a clock of its own and does not wait for answers."""
    return measurement.process in OPEN or measurement.offered_per_s is not None


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
    due, allowed = merged.evidence.due_per_s, limits["rate_not_achieved"]
    unaccounted = _unaccounted(merged, allowed)
    if measurement.process != "constant" and due and not unaccounted:
        # How many arrivals fall into a window varies by chance; what counts is how many did.
        offered = due
    least = offered * (1 - allowed)
    if achieved >= least:
        return None
    values = {"achieved": rate(achieved), "offered": rate(offered), "least": rate(least)}
    values["share"] = percent(1 - achieved / offered)
    skipped = measurement.counts["skipped"]
    values["skipped"] = (f", {skipped:,} were never sent" if skipped else "") + unaccounted
    return Finding("invalid", {**values, "limit": percent(allowed)})


def _unaccounted(merged: Merged, allowed: float) -> str:
    """Return what to say where fewer Poisson arrivals are told of than chance explains; empty otherwise.

    A tool that never tells of what it had no time to send would else be held against what it did send.
    """
    measurement, expected = merged.measurement, merged.evidence.due_expected
    if measurement.process != "poisson" or not expected or NEVER_SENT in measurement.absent:
        return ""
    counts = measurement.counts
    due = sum(counts.values())
    # Of a load that was written down as a sample, what was written down is what varies by chance.
    recorded = max((one.count for one in measurement.latency.get("all", {}).values() if one is not None), default=0)
    each = max(1.0, counts["ok"] / recorded) if recorded else 1.0
    if expected - due <= max(allowed * expected, _BEYOND_CHANCE * math.sqrt(expected * each)):
        return ""
    return f"; only {due:,} are told of where the rate makes {expected:,.0f}, which is not chance"


def lateness(merged: Merged, limits: Mapping[str, float]) -> Answer:
    """Answer whether an open loop sent later than it was due, for want of time of its own."""
    measurement = merged.measurement
    if not is_open(measurement) or not measurement.counts["ok"]:
        return None
    return _beside_median(measurement, limits, "lateness")


def observation_age(merged: Merged, limits: Mapping[str, float]) -> Answer:
    """Answer whether what arrived lay in the kernel for long before the generator had time to read it."""
    measurement = merged.measurement
    if measurement.health.get("observation_age_p99_us") is None or not measurement.counts["ok"]:
        return None  # an extra witness: no kernel's stamps, no tool's; that there are none stands in `absent`
    return _beside_median(measurement, limits, "observation_age")


def _beside_median(measurement: MergedMeasurement, limits: Mapping[str, float], name: str) -> Answer:
    """Answer whether a time that the generator adds is too long beside the shortest median that the result shows."""
    found_us, median_us = measurement.health.get(f"{name}_p99_us"), _shortest_median_us(measurement)
    percent = trust.judged_percent(measurement.distributions.get(name, {}).get("count", 0))
    if percent == 90:
        found_us = measurement.distributions[name]["p90"]
    if found_us is None or median_us is None:
        return UNCHECKED
    over = trust.beside_median(name, found_us, median_us, limits)
    if over is None:
        return None
    values = {"quantile": f"p{percent}", "found": duration(found_us), "median": duration(median_us)}
    values["limit"] = duration(over.limit)
    return Finding("invalid" if over.severe else "degraded", values)


def client_errors(merged: Merged, _limits: Mapping[str, float]) -> Answer:
    """Answer whether requests failed for want of something on the generator's own machine, such as local ports."""
    own = {name: count for name, count in merged.measurement.errors.items() if name.startswith(trust.OWN_ERRORS)}
    return Finding("invalid", {"what": _classes(own)[2:]}) if any(own.values()) else None


def generator_stalled(merged: Merged, limits: Mapping[str, float]) -> Answer:
    """Answer whether a worker did not run for a part of the window, or for so long in one piece that a request shows it."""
    measurement = merged.measurement
    share, longest_s = (measurement.health.get(name) for name in ("stalled_share_max", "stalled_max_s"))
    if share is None or longest_s is None:
        return None  # a tool of others cannot tell; that it does not stands in `absent`
    values = {"found": percent(share), "longest": duration(longest_s * 1e6)}
    over = trust.stalled(share, limits)
    if over is not None:
        return Finding("invalid" if over.severe else "degraded", {**values, "limit": percent(over.limit)})
    once = trust.stalled_once(longest_s, _median_us(measurement), limits)
    return Finding("degraded", {**values, "limit": duration(once.limit * 1e6)}) if once is not None else None


def client_bound(merged: Merged, limits: Mapping[str, float]) -> Answer:
    """Answer whether a worker was busy nearly all the time."""
    measurement = merged.measurement
    found = measurement.health.get("cpu_share_max")
    if found is None:
        return UNCHECKED
    over = trust.busy(found, limits, is_open=is_open(measurement))
    if over is None:
        return None
    values = {"found": percent(found), "limit": percent(over.limit)}
    return Finding("invalid" if over.severe else "degraded", values)


def totals_mismatch(merged: Merged, limits: Mapping[str, float]) -> Answer:
    """Answer whether the server counted something else than the clients."""
    evidence = merged.evidence
    pairs = {name: pair for name, pair in evidence.other_totals.items() if name in COMPARED}
    if evidence.client_operations is not None and evidence.server_operations is not None:
        pairs["operations"] = (evidence.client_operations, evidence.server_operations)
    allowed = limits["totals_mismatch"]
    for name, (clients, server) in pairs.items():  # where there is none, `absent` tells, and the verdict does not suffer
        apart = abs(clients - server) / max(clients, server, 1)
        if apart > allowed:
            values = {"clients": f"{clients:,.0f}", "server": f"{server:,.0f}", "what": name.replace("_", " ")}
            return Finding("degraded", {**values, "share": percent(apart), "limit": percent(allowed)})
    return None


def server_disagrees(merged: Merged, limits: Mapping[str, float]) -> Answer:
    """Answer whether the clients saw a first token much later than the server says, in the mean over all requests."""
    totals = merged.evidence.other_totals
    means = []
    for side in (0, 1):
        count = totals[TTFT_COUNT][side] if TTFT_COUNT in totals else 0.0
        if not count or TTFT_SUM not in totals:
            return None
        means.append(totals[TTFT_SUM][side] / count)
    excess_s = means[0] - means[1]
    allowed_s = max(limits["server_disagrees_floor_s"], limits["server_disagrees"] * means[1])
    if excess_s <= allowed_s:
        return None
    values = {"client": duration(means[0] * 1e6), "server": duration(means[1] * 1e6), "excess": duration(excess_s * 1e6)}
    return Finding("degraded", {**values, "limit": duration(allowed_s * 1e6)})


def input_length(merged: Merged, limits: Mapping[str, float]) -> Answer:
    """Answer whether prompts had another length than the load asked for."""
    found = merged.measurement.metrics.get(INPUT_LENGTH)
    allowed = limits["input_length"]
    apart = 0.0 if found is None else abs(found["value"] - 1)
    if found is None or apart <= allowed:
        return None
    return Finding("degraded", {"found": percent(found["value"]), "share": percent(apart), "limit": percent(allowed)})


def output_length(merged: Merged, limits: Mapping[str, float]) -> Answer:
    """Answer whether answers had another length than the load asked for."""
    metric, ok = merged.measurement.metrics.get(OTHER_LENGTH), merged.measurement.counts["ok"]
    share = metric["value"] / ok if metric is not None and ok else 0.0
    allowed = limits["output_length"]
    if metric is None or share <= allowed:
        return None
    values = {"other": f"{metric['value']:,.0f}", "answers": f"{ok:,}", "share": percent(share), "limit": percent(allowed)}
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


def _shortest_median_us(measurement: MergedMeasurement) -> float | None:
    """Return the shortest median of a time that the result shows: of all operations, or to a first answer."""
    median_us = _median_us(measurement)
    first = measurement.distributions.get(trust.FIRST, {}).get("p50")
    return first if first is not None and (median_us is None or first < median_us) else median_us


def _median_us(measurement: MergedMeasurement) -> float | None:
    """Return the median from sending over all operations, or of the slowest operation where there is no sum."""
    medians = {
        operation: latency.p50_us
        for operation, clocks in measurement.latency.items()
        if (latency := clocks.get("send")) is not None and latency.p50_us is not None
    }
    return medians.get("all", max(medians.values(), default=None))
