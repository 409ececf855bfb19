"""What a search found, out of the document of the rank that decided: for the summary, the checks and the report."""

from collections.abc import Mapping
from typing import Any

from attrs import evolve

from .checks import Answer, Finding
from .documents import NAME_LIMIT, Rank, is_number
from .model import Merged, MergedMeasurement
from .numbers import quantity, rate

SEARCH = "search"
"""Key of `provenance`."""
_TEXT_LIMIT = 500
_MOST_ITEMS = 1000
_DEEPEST = 5
_UNRESOLVED = ("client_bound", "unconfirmed", "none")
_KNEE = "knee"


def with_search(measurement: MergedMeasurement, ranks: Mapping[int, Rank]) -> MergedMeasurement:
    """Return a measurement with what its rank 0 says of a search as `provenance["search"]`; without a search as it is.

    The reason for a capacity that is not there is that of rank 0, which alone decides.
    """
    own = ranks[0].measurement if 0 in ranks else None
    found = own.provenance.get(SEARCH) if own is not None else None
    if own is None or not isinstance(found, Mapping):
        return measurement
    each = [{key: value for key, value in rank.items() if key != SEARCH} for rank in measurement.provenance.get("ranks", ())]
    absent = {key: str(why)[:_TEXT_LIMIT] for key, why in own.absent.items() if key.startswith("metrics.")}
    return evolve(
        measurement,
        absent={**measurement.absent, **absent},
        provenance={**measurement.provenance, "ranks": each, SEARCH: _cleaned(found)},
    )


def _cleaned(value: object, depth: int = 0) -> Any:
    """Return a value of a site as plain JSON of bounded size; what is anything else becomes None."""
    if isinstance(value, str):
        return value[:_TEXT_LIMIT]
    if value is None or isinstance(value, bool) or is_number(value):
        return value
    if depth < _DEEPEST and isinstance(value, Mapping):
        items = list(value.items())[:_MOST_ITEMS]
        return {key[:NAME_LIMIT]: _cleaned(one, depth + 1) for key, one in items if isinstance(key, str)}
    if depth < _DEEPEST and isinstance(value, list):
        return [_cleaned(one, depth + 1) for one in value[:_MOST_ITEMS]]
    return None


def search_unresolved(merged: Merged, _limits: Mapping[str, float]) -> Answer:
    """Answer whether a search ended without what it looked for, for another reason than that it was not asked to go so far."""
    found = merged.measurement.provenance.get(SEARCH)
    if not isinstance(found, Mapping) or not _is_unresolved(found):
        return None
    return Finding("degraded", {"why": str(found.get("why") or "no more is known")})


def _is_unresolved(found: Mapping[str, Any]) -> bool:
    if found.get("find") == _KNEE and found.get("status") == "none":
        return False  # a line without a knee is an answer, and why it is none stands in `absent`
    return found.get("status") in _UNRESOLVED


def search_line(measurement: MergedMeasurement) -> str:
    """Return one line on a search: how many trials, what was found, what came next; empty where nothing was searched."""
    found = measurement.provenance.get(SEARCH)
    if not isinstance(found, Mapping):
        return ""
    trials = found.get("trials")
    number = len(trials) if isinstance(trials, list) else 0
    whole = found.get("quantity") == "concurrency"
    sought = "knee" if found.get("find") == _KNEE else f"highest {'concurrency' if whole else 'rate'} within SLO"
    parts = [f"search: {number} trial{'' if number == 1 else 's'}"]
    value, at_least, next_tried = (found.get(name) for name in ("value", "at_least", "next_tried"))
    if is_number(value):
        parts.append(f"{sought} {_shown(value, whole=whole)}")
    else:
        parts.append(f"{sought} not known")
        if is_number(at_least):
            parts.append(f"at least {_shown(at_least, whole=whole)}")
    line = ", ".join(parts)
    if not is_number(value):
        # What makes it degraded stands among the reasons already.
        return line if _is_unresolved(found) else f"{line}: {found.get('why') or 'no more is known'}"
    return f"{line} (next tried {_shown(next_tried, whole=whole)}: {found.get('next_why')})" if is_number(next_tried) else line


def _shown(value: Any, *, whole: bool) -> str:
    return quantity(value, "in flight") if whole else rate(value)
