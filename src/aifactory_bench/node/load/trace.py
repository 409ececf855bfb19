"""Recorded arrivals: a file of JSON lines, one request each, with its time and, where known, its lengths."""

import json
import math
import os
import stat
from functools import lru_cache
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

_UNITS_NS = {"timestamp_s": 10**9, "timestamp": 10**6}
_LARGEST = 10**15
_LONGEST_LINE = 1 << 24
_SHOWN = 80


class Row(NamedTuple):
    """One request of a trace."""

    at_ns: int
    """From the first row, as recorded: not yet scaled."""
    input_length: Optional[int]
    """Tokens of the prompt."""
    output_length: Optional[int]
    """Tokens of the answer."""
    hash_ids: Tuple[int, ...]
    """One for each block of the prompt: equal numbers are equal text. Empty where the file has none."""


def trace_rows(path: str) -> "Tuple[Row, ...]":
    """Return the rows of a trace, in their order; read once as long as the file does not change.

    A row is a JSON object with `timestamp_s` (seconds) or `timestamp` (milliseconds), counted from anywhere and never
    falling, and optionally `input_length`, `output_length` (whole numbers) and `hash_ids` (a list of whole numbers); other
    keys are left alone, and so are empty lines.

    Raises:
        ValueError: the file cannot be read, or a row is something else; the text names the line, what was found and what
            is allowed.
    """
    try:
        facts = os.stat(path)
        if not stat.S_ISREG(facts.st_mode):
            raise ValueError(f"trace {path}: is no file")
        return _read(path, facts.st_mtime_ns, facts.st_size)
    except OSError as error:
        raise ValueError(f"trace {path}: cannot be read on this node: {error.strerror or error}") from None


@lru_cache(maxsize=4)
def _read(path: str, _mtime_ns: int, _size: int) -> "Tuple[Row, ...]":
    rows: List[Row] = []
    key, first, last = "", 0.0, -math.inf
    with open(path, "rb") as file:
        number = 0
        while True:
            line = file.readline(_LONGEST_LINE)
            if not line:
                break
            number += 1
            where = f"{path}:{number}"
            if len(line) == _LONGEST_LINE:
                raise ValueError(f"{where}: a line must be shorter than {_LONGEST_LINE >> 20} MiB")
            if not line.strip():
                continue
            values = _object(line, where)
            if not rows:
                key = next((name for name in _UNITS_NS if name in values), "")
                if not key:
                    raise ValueError(f"{where}: must have timestamp_s (seconds) or timestamp (milliseconds)")
            at = _timestamp(values, key, where)
            if at < last:
                raise ValueError(f"{where}: {key} must not be less than in the row before, {last!r}; found {at!r}")
            first, last = (first if rows else at), at
            rows.append(
                Row(
                    round((at - first) * _UNITS_NS[key]),
                    _length(values, "input_length", where),
                    _length(values, "output_length", where),
                    _hash_ids(values, where),
                )
            )
    if not rows:
        raise ValueError(f'{path}: has no rows; one JSON object a line is needed, such as {{"timestamp_s": 0.5}}')
    return tuple(rows)


def _object(line: bytes, where: str) -> "Dict[str, Any]":
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: must be one JSON object a line: {error}; found {_shown(line)}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{where}: must be a JSON object; found {_shown(line)}")
    return values


def _timestamp(values: "Dict[str, Any]", key: str, where: str) -> float:
    at = values.get(key)
    if isinstance(at, bool) or not isinstance(at, (int, float)) or not -_LARGEST <= at <= _LARGEST:
        unit = "seconds" if key == "timestamp_s" else "milliseconds"
        raise ValueError(f"{where}: {key} must be a number of {unit}, as in the first row; found {_found(values, key)}")
    return at


def _length(values: "Dict[str, Any]", key: str, where: str) -> "Optional[int]":
    value = values.get(key)
    if value is not None and not _is_whole(value):
        raise ValueError(f"{where}: {key} must be a whole number of tokens, at least 0; found {_found(values, key)}")
    return value


def _hash_ids(values: "Dict[str, Any]", where: str) -> "Tuple[int, ...]":
    ids = values.get("hash_ids")
    if ids is None:
        return ()
    if not isinstance(ids, list) or not all(map(_is_whole, ids)):
        raise ValueError(f"{where}: hash_ids must be a list of whole numbers; found {_found(values, 'hash_ids')}")
    return tuple(ids)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST


def _found(values: "Dict[str, Any]", key: str) -> str:
    return _shown(json.dumps(values[key]).encode()) if key in values else "nothing"


def _shown(text: bytes) -> str:
    shown = repr(text.strip()[: _SHOWN + 1].decode(errors="replace"))
    return shown if len(text.strip()) <= _SHOWN else f"{shown[:_SHOWN]}..."
