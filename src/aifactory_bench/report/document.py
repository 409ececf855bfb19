"""A summary as the JSON document `summary.json`, and back. Described field by field in docs/results.md."""

import math
from collections.abc import Mapping
from typing import Any

import cattrs
from attrs import asdict
from cattrs.errors import CattrsError

from ..results.model import SCHEMA, Summary

_CONVERTER = cattrs.Converter(forbid_extra_keys=False, detailed_validation=False)


def summary_to_json(summary: Summary) -> dict[str, Any]:
    """Return the document as plain values: no NaN, no infinity (they become null), all keys text."""
    document: dict[str, Any] = _plain(asdict(summary, recurse=True))
    return {"schema": document.pop("schema"), **document}


def summary_from_json(document: Any) -> Summary:
    """Build a summary from its document; fields that are not known are ignored.

    Raises:
        ValueError: not a summary of this schema; the text says what is wrong.
    """
    if not isinstance(document, Mapping) or document.get("schema") != SCHEMA:
        found = document.get("schema") if isinstance(document, Mapping) else type(document).__name__
        raise ValueError(f"not a summary: its schema is {str(found)[:100]!r}, expected {SCHEMA!r}")
    try:
        return _CONVERTER.structure(dict(document), Summary)
    except (cattrs.BaseValidationError, CattrsError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"not a summary: {type(error).__name__}: {error}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return str(value)
