"""`load: {search: ...}`: what a client looks for by itself, within one measurement."""

import re
from collections.abc import Mapping
from typing import Any, Literal, Optional, Union

from attrs import field, frozen
from attrs.validators import ge, gt, le, lt

from ..node.search import longest_s
from ..units import DurationS, RatePerS, Share, format_rate

PROCESSES = ("constant", "poisson", "gamma")
"""Arrival processes whose rate can be searched for: one number says how much they offer."""
_SLO_NAME = re.compile(r"[a-z][a-z0-9_]*")
_FASTEST = 1e9
_MOST_CONNECTIONS = 100_000
_MOST_STEPS = 100
_LONGEST = DurationS(86400.0)
_FINEST = Share(0.001)


def _check_slo(search: Any, _attribute: Any, value: Mapping[str, DurationS]) -> None:
    if not value and search.find != "knee":
        raise ValueError(f"missing; find: {search.find} needs at least one limit, such as slo: {{latency: 30ms}}")
    for name, limit_s in value.items():
        if not _SLO_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a quantity: small letters, digits and underscores, a letter first")
        if limit_s <= 0:
            raise ValueError(f"{name} must be more than 0s")


def _check_value(search: Any, attribute: Any, value: Any) -> None:
    if value is None:
        return
    is_rate = isinstance(value, float)
    if search.find == "rate" and not is_rate:
        raise ValueError(f"must be a rate with find: rate, such as {attribute.name}: 100/s; found {value}")
    if search.find == "concurrency" and is_rate:
        raise ValueError(
            f"must be a whole number with find: concurrency, such as {attribute.name}: 64; found {format_rate(value)}"
        )
    limit = _FASTEST if is_rate else _MOST_CONNECTIONS
    if not 0 < value <= limit:
        raise ValueError(f"must be more than 0 and at most {limit:,.0f}; found {value}")


def _check_least(search: Any, attribute: Any, value: Any) -> None:
    _check_value(search, attribute, value)
    if value is None:
        return
    if isinstance(value, float) != isinstance(search.most, float):
        raise ValueError("must be written as most is: both as rates, or both as whole numbers")
    if value >= search.most:
        raise ValueError("must be less than most")


@frozen
class Search:
    """What is looked for; the load's own `rate` or `concurrency` is left out then."""

    find: Literal["rate", "concurrency", "knee"]
    """The highest `rate` or `concurrency` that meets the SLO, or the `knee` of latency over throughput."""
    most: Union[RatePerS, int] = field(validator=_check_value)
    """Nothing above is tried: a rate in open loop, requests in flight in closed loop."""
    least: Optional[Union[RatePerS, int]] = field(default=None, validator=_check_least)
    """Tried first. Default 1/s, or one request in flight for each worker."""
    slo: Mapping[str, DurationS] = field(factory=dict, validator=_check_slo)
    """Quantity -> limit: `latency`, or what the kind of client knows, such as `ttft`; a request must meet all of them."""
    attainment: Share = field(default=Share(0.99), validator=[gt(Share(0.0)), lt(Share(1.0))])
    """Share of all requests that must meet the SLO; one that fails does not."""
    trial_s: DurationS = field(default=DurationS(10.0), validator=[gt(DurationS(0)), le(_LONGEST)])
    """Window of one trial; one that decides nothing is made again, twice as long."""
    warmup_s: DurationS = field(default=DurationS(2.0), validator=[ge(DurationS(0)), le(_LONGEST)])
    """Load before the window of a trial."""
    precision: Share = field(default=Share(0.05), validator=[ge(_FINEST), le(Share(0.5))])
    """By how much the lowest value that failed may lie above the highest that passed."""
    steps: int = field(default=10, validator=[ge(4), le(_MOST_STEPS)])
    """Of a knee: loads tried, from `least` to `most`, each the same factor above the one before."""


def check_search(load: Any, _attribute: Any, value: Optional[Search]) -> None:
    """Check, as a validator of `Load.search`, that the rest of the load leaves room for a search.

    Raises:
        ValueError: the arrival process does not fit, or the load says itself what is to be found.
    """
    if value is None:
        return
    process = getattr(load, "process", None)
    if process != "closed" and process not in PROCESSES:
        raise ValueError(f"has no meaning with process: {process}; it takes closed or {', '.join(PROCESSES)}")
    if value.find == "rate" and process == "closed":
        raise ValueError("find: rate needs requests that come by the clock; write process: poisson beside search")
    if value.find == "concurrency" and process != "closed":
        raise ValueError(f"find: concurrency needs process: closed; with process: {process} write find: rate")
    if (process == "closed") == isinstance(value.most, float):
        expected = "requests in flight, such as most: 64" if process == "closed" else "a rate, such as most: 100/s"
        raise ValueError(f"with process: {process} most must be {expected}")
    for name, key in (("rate_per_s", "rate"), ("rates", "rates"), ("concurrency", "concurrency")):
        if getattr(load, name, None):
            raise ValueError(f"sets {key} itself, trial by trial: leave `{key}` out")
    if value.slo and getattr(load, "slo", None):
        raise ValueError("has an slo, and so has the load: leave one of them out")


def search_to_json(search: Optional[Search]) -> "Optional[dict[str, Any]]":
    """Return a search as the node gets it, see `node.search.Asked`."""
    if search is None:
        return None
    return {
        "find": search.find,
        "least": search.least,
        "most": search.most,
        "slo": dict(search.slo),
        "attainment": search.attainment,
        "trial_s": search.trial_s,
        "warmup_s": search.warmup_s,
        "precision": search.precision,
        "steps": search.steps,
    }


def search_budget_s(search: Search, load: Any) -> float:
    """Return the longest time that a search can take, preparation not counted; `load` has durations and the timeout."""
    return longest_s(
        search_to_json(search) or {},
        warmup_s=load.warmup_s,
        duration_s=load.duration_s,
        timeout_s=load.timeout_s or 0.0,
    )
