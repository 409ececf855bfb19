"""Times and durations, as Slurm reads and writes them."""

import math
import os
import time
from typing import Optional

_UNITS_S = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_FORMATS = ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d", "%m/%d/%y-%H:%M:%S", "%m/%d/%y")


def read_limit(text: str) -> "Optional[float]":
    """Return the seconds of `minutes`, `minutes:seconds`, `hours:minutes:seconds` or `days-hours[:minutes[:seconds]]`.

    Whole minutes, as Slurm counts them. None: it is none of these.
    """
    if text.lower() in ("unlimited", "infinite", "-1"):
        return math.inf
    days, dash, rest = text.rpartition("-")
    parts = rest.split(":")
    if len(parts) > 3 or not all(part.isdigit() for part in [*parts, *([days] if dash else [])]):
        return None
    numbers = [int(part) for part in parts]
    if dash:
        hours, minutes, seconds = numbers + [0] * (3 - len(numbers))
    else:
        hours, minutes, seconds = [[0, numbers[0], 0], [0, *numbers], numbers][len(numbers) - 1]
    whole_s = int(days or 0) * 86400 + hours * 3600 + minutes * 60 + seconds
    return float(-(-whole_s // 60) * 60) or math.inf


def read_time(text: str, now: float) -> "Optional[float]":
    """Return the time that `2026-01-31T12:00:00`, `now-2hours`, `today`, `uts1700000000` and the like mean; None: nothing."""
    word = text.lower()
    if word.startswith("now"):
        return _offset(word[3:], now)
    if word in ("today", "midnight"):
        return time.mktime((*time.localtime(now)[:3], 0, 0, 0, 0, 0, -1))
    if word.startswith("uts") and word[3:].isdigit():
        return float(word[3:])
    for form in _FORMATS:
        # time.strptime loads a third of the standard library.
        if (at := _parse(text, form)) is not None:
            return at
    return None


def _offset(text: str, now: float) -> "Optional[float]":
    if not text:
        return now
    digits = text[1:].rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = text[1 + len(digits) :].rstrip("s") or "second"
    known = [seconds for name, seconds in _UNITS_S.items() if name.startswith(unit)]
    if text[0] not in "+-" or not digits.isdigit() or not known:
        return None
    return now + (1 if text[0] == "+" else -1) * int(digits) * known[0]


def _parse(text: str, form: str) -> "Optional[float]":
    fields = {"Y": 0, "m": 1, "d": 1, "H": 0, "M": 0, "S": 0}
    while form:
        if form[0] != "%":
            if not text.startswith(form[0]):
                return None
            text, form = text[1:], form[1:]
            continue
        width = 4 if form[1] == "Y" else 2
        if not text[:width].isdigit() or len(text[:width]) < width:
            return None
        fields["Y" if form[1] == "y" else form[1]] = int(text[:width]) + (2000 if form[1] == "y" else 0)
        text, form = text[width:], form[2:]
    return None if text else time.mktime((*fields.values(), 0, 0, -1))  # type: ignore[arg-type]


def time_text(at: "Optional[float]", unknown: str) -> str:
    """Return a time as `SLURM_TIME_FORMAT` wants it."""
    if at is None or math.isinf(at):
        return unknown
    form = os.environ.get("SLURM_TIME_FORMAT", "standard")
    return time.strftime("%Y-%m-%dT%H:%M:%S" if form == "standard" else form, time.localtime(at))


def short_duration(seconds: float) -> str:
    """Return a duration as squeue writes it: `0:05`, `1:00:00`, `1-00:00:00`."""
    if math.isinf(seconds):
        return "UNLIMITED"
    whole = int(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days}-{hours:02d}:{minutes:02d}:{whole % 60:02d}"
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def long_duration(seconds: float) -> str:
    """Return a duration as sacct and scontrol write it: `00:00:05`, `1-00:00:00`."""
    if math.isinf(seconds):
        return "UNLIMITED"
    whole = int(seconds)
    clock = f"{whole // 3600 % 24:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"
    return f"{whole // 86400}-{clock}" if whole >= 86400 else clock
