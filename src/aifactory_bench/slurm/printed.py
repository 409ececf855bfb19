"""What a cluster printed: text that may hold anything, and the few ways in which Slurm writes numbers."""

import re
from typing import Optional

_SIZE = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,6})?)([KMGTPE]?)")
_CLOCK = re.compile(r"(?:([0-9]{1,6})-)?(?:([0-9]{1,6}):)?([0-9]{1,6}):([0-9]{1,2}(?:\.[0-9]{1,6})?)")
_NUMBER = re.compile(r"[0-9]{1,18}")
_POWERS = "KMGTPE"

JOB_ID = re.compile(r"[1-9][0-9]{0,9}(?:[_+][0-9]{1,9})?")
"""`4`, a task of an array `9_2`, a part of a heterogeneous job `15+1`."""


def clean(text: str, longest: int) -> str:
    """Return the text without surrounding blanks, at most `longest` characters of it.

    What would move the cursor or garble a line becomes `?` and is not left out: a name with a hidden character never
    turns into another name.
    """
    text = text[: longest + 64].strip()[:longest]
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "?" for letter in text)


def lines_of(text: str) -> list[str]:
    """Return the lines that are not blank; only a newline ends one."""
    return [line for line in text.split("\n") if line.strip()]


def size_of(text: str) -> Optional[int]:
    """Return the bytes in `122568K`, `1.00M` or `77055`; None: no size."""
    found = _SIZE.fullmatch(text.strip())
    if not found:
        return None
    power = _POWERS.index(found[2]) + 1 if found[2] else 0
    return int(float(found[1]) * (1 << 10 * power))


def seconds_of(text: str) -> Optional[float]:
    """Return the seconds in `07:51`, `00:07.751`, `01:00:00` or `2-01:00:00`; None: no duration."""
    found = _CLOCK.fullmatch(text.strip())
    if not found:
        return None
    days, hours, minutes, seconds = found.groups("0")
    return int(days) * 86400 + int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def number_of(text: str) -> Optional[int]:
    """Return a whole number that is not negative; None: something else, such as `Unknown`."""
    return int(text) if _NUMBER.fullmatch(text.strip()) else None
