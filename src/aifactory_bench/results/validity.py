"""The verdict: one table of checks. Every code has its heading in docs/measuring.md."""

from collections.abc import Callable, Iterable, Mapping

from attrs import evolve, field, frozen

from ..node.trust import limits_of
from . import checks
from .checks import UNCHECKED, Answer, Finding
from .model import Merged, Reason, Verdict
from .search import search_unresolved

RANKING: Mapping[str, int] = {"valid": 0, "degraded": 1, "invalid": 2}


@frozen
class Check:
    """One row of the table."""

    code: str
    looks_at: str
    text: str
    """Of the reason; the names in braces are the values of the finding."""
    find: Callable[[Merged, Mapping[str, float]], Answer]
    limits: Mapping[str, float] = field(factory=dict)
    """Key under `limits:` in a recipe -> default, always the most that is allowed; shares as 0..1, times in seconds."""
    verdicts: tuple[Verdict, ...] = ("invalid",)
    """What it can make of a measurement."""

    @property
    def anchor(self) -> str:
        """Where docs/measuring.md explains the code."""
        return f"measuring.md#{self.code}"


CHECKS: tuple[Check, ...] = (
    Check(
        "no_measurement",
        "whether any replica measured",
        "no replica has a measurement: {why}",
        checks.no_measurement,
    ),
    Check(
        "nothing_succeeded",
        "requests that ended well",
        "not one {unit} succeeded: {error} failed, {timeout} timed out, {skipped} were never sent{classes}",
        checks.nothing_succeeded,
    ),
    Check(
        "service_died",
        "the service's process",
        "the service died while it was measured: {what}",
        checks.service_died,
    ),
    Check(
        "service_restarted",
        "the service's identity",
        "the service was started anew while it was measured: {what}",
        checks.service_restarted,
    ),
    Check(
        "tool_failed",
        "how the tool ended",
        "the tool did not end well: {what}",
        checks.tool_failed,
    ),
    Check(
        "cut",
        "whether the window was ended early",
        "the window was cut: {why}",
        checks.cut,
    ),
    Check(
        "window_short",
        "length of the window against what was asked",
        "the window was {found} long, {asked} were asked: {share} too short (limit {limit})",
        checks.window_short,
        {"window_short": 0.02},
    ),
    Check(
        "replicas_missing",
        "replicas with a measurement",
        "{missing} of {planned} replicas have no measurement (limit 0): {why}",
        checks.replicas_missing,
    ),
    Check(
        "replicas_differ",
        "unit, arrival process and tool version of the replicas",
        "the replicas did not do the same: {what}",
        checks.replicas_differ,
    ),
    Check(
        "windows_apart",
        "overlap of the replicas' windows",
        "for {found} of the window not all replicas measured (limit {limit})",
        checks.windows_apart,
        {"windows_apart": 0.10},
    ),
    Check(
        "error_share",
        "errors and timeouts among what was sent",
        "{failed} of {sent} failed, {share} (limit {limit}){classes}",
        checks.error_share,
        {"error_share": 0.01},
    ),
    Check(
        "rate_not_achieved",
        "achieved against offered rate",
        "{achieved} achieved of {offered} offered, {share} too few; at least {least} is needed (limit {limit}){skipped}",
        checks.rate_not_achieved,
        limits_of("rate_not_achieved"),
    ),
    Check(
        "lateness",
        "how late the generator sent what was due",
        "the generator sent late: {quantile} {found}, allowed {limit} at a median latency of {median}",
        checks.lateness,
        limits_of("lateness"),
        ("degraded", "invalid"),
    ),
    Check(
        "observation_age",
        "how long answers waited for the generator to read them",
        "answers lay in the kernel before the generator read them: {quantile} {found}, allowed {limit} "
        "beside a median of {median}",
        checks.observation_age,
        limits_of("observation_age"),
        ("degraded", "invalid"),
    ),
    Check(
        "client_errors",
        "errors of the generator's own machine",
        "the generator's machine ran out of something: {what}",
        checks.client_errors,
    ),
    Check(
        "generator_stalled",
        "time in which the generator should have run and did not",
        "the generator itself stood still for {found} of the window, {longest} in one piece (limit {limit}): "
        "what that did to rate and tail is not the server's doing",
        checks.generator_stalled,
        limits_of("generator_stalled"),
        ("degraded", "invalid"),
    ),
    Check(
        "client_bound",
        "CPU of the generator",
        "a worker of the generator used {found} of a core (limit {limit}): it may be what was measured",
        checks.client_bound,
        limits_of("client_bound"),
        ("degraded", "invalid"),
    ),
    Check(
        "totals_mismatch",
        "clients' total against the server's own",
        "the clients counted {clients} {what}, the server {server}: {share} apart (limit {limit})",
        checks.totals_mismatch,
        {"totals_mismatch": 0.01},
        ("degraded",),
    ),
    Check(
        "server_disagrees",
        "time to the first token as the clients and as the server see it",
        "the clients waited {client} for a first token in the mean, the server says {server}: {excess} more (limit {limit})",
        checks.server_disagrees,
        {"server_disagrees": 0.20, "server_disagrees_floor_s": 0.005},
        ("degraded",),
    ),
    Check(
        "input_length",
        "tokens of prompts against what was asked for",
        "prompts had {found} of the tokens that were asked for: {share} apart (limit {limit})",
        checks.input_length,
        {"input_length": 0.05},
        ("degraded",),
    ),
    Check(
        "output_length",
        "tokens of answers against what was asked for",
        "{other} of {answers} answers had another number of tokens than was asked for, {share} (limit {limit})",
        checks.output_length,
        {"output_length": 0.01},
        ("degraded",),
    ),
    Check(
        "search_unresolved",
        "how a search ended",
        "the search did not find what it looked for: {why}",
        search_unresolved,
        {},
        ("degraded",),
    ),
    Check(
        "unchecked",
        "checks that could not be made",
        "not known, so not checked: {codes}",
        checks.unchecked,
        {},
        ("degraded",),
    ),
)
"""In the order in which reasons are told; `unchecked` is last, because it asks what the others could not see."""

CODES: tuple[str, ...] = tuple(check.code for check in CHECKS)

LIMITS: Mapping[str, float] = {key: default for check in CHECKS for key, default in check.limits.items()}
"""Every key that a recipe may set under `limits:`, with its default; shares as 0..1, keys that end in `_s` in seconds."""

_WITHOUT_NUMBERS = frozenset({"no_measurement", "service_died", "service_restarted", "tool_failed"})
"""What can be said where nothing was measured at all."""


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the worst of some verdicts; `valid` for none."""
    return max(verdicts, key=lambda verdict: RANKING[verdict], default="valid")


def judge(merged: Merged, limits: Mapping[str, float]) -> tuple[Verdict, tuple[Reason, ...], tuple[str, ...]]:
    """Return the verdict, the reasons for it in the order of the table, and the codes that could not be checked.

    Args:
        merged: The measurement; what its tool could not tell stands in its `unchecked`.
        limits: What the recipe sets; defaults are `LIMITS`.

    Raises:
        KeyError: a limit that no check knows.
    """
    for key in limits:
        if key not in LIMITS:
            raise KeyError(f"no check has a limit {key!r}; known: {', '.join(LIMITS)}")
    in_force = {**LIMITS, **limits}
    measured = len(merged.evidence.ranks_absent) < merged.evidence.ranks_planned
    blind = {code for code in merged.measurement.unchecked if measured and code in CODES}
    reasons: list[Reason] = []
    for check in CHECKS:
        if not measured and check.code not in _WITHOUT_NUMBERS:
            continue
        if check.code == "unchecked":
            blind -= {reason.code for reason in reasons}
            merged = evolve(merged, measurement=evolve(merged.measurement, unchecked=_in_order(blind)))
        answer = check.find(merged, in_force)
        if isinstance(answer, Finding):
            reasons.append(Reason(check.code, check.text.format(**answer.values), answer.verdict))
        elif answer == UNCHECKED:
            blind.add(check.code)
    return worst(reason.verdict for reason in reasons), tuple(reasons), _in_order(blind)


def _in_order(codes: set[str]) -> tuple[str, ...]:
    return tuple(code for code in CODES if code in codes)
