"""Durations, sizes, rates and shares: how they are written, and what they are in seconds, bytes, per second, parts of one.

Parsing and printing are exact: `parse_x(format_x(value)) == value`.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, NewType

DurationS = NewType("DurationS", float)
"""Seconds."""
SizeBytes = NewType("SizeBytes", int)
"""Bytes."""
RatePerS = NewType("RatePerS", float)
"""Per second."""
Share = NewType("Share", float)
"""0 to 1."""

_NUMBER = r"(?:0|[1-9][0-9]*)(?:\.[0-9]+)?"
_LONGEST = 400
"""Characters; the decimals of no float are longer, and arithmetic on long numbers takes time."""
_SHOWN = 80

_LONGEST_S = 3650 * 86400
_LARGEST_BYTES = (1 << 63) - 1
_FASTEST_PER_S = 10**12

_SECONDS: Mapping[str, Fraction] = {
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "m": Fraction(60),
    "h": Fraction(3600),
    "d": Fraction(86400),
}
_BYTES: Mapping[str, int] = {
    "B": 1,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TiB": 1 << 40,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
}
_PER: Mapping[str, int] = {"s": 1, "m": 60, "h": 3600}

_DURATION = re.compile(rf"({_NUMBER})({'|'.join(_SECONDS)})")
_CLOCK = re.compile(r"([0-9]{1,4}):([0-5][0-9]):([0-5][0-9])")
_SIZE = re.compile(rf"({_NUMBER})({'|'.join(_BYTES)})")
_RATE = re.compile(rf"({_NUMBER})/({'|'.join(_PER)})")
_SHARE = re.compile(rf"({_NUMBER})%")


@dataclass(frozen=True)
class Quantity:
    """How one kind of value is written in a recipe."""

    what: str
    """With its article: `a duration`."""
    examples: str
    pattern: str
    """Regular expression of the text, anchored; for editors."""
    suffix: str
    """Of the field's name in Python, which the recipe's key goes without; empty: the key is the name."""
    parse: Callable[[object], Any]
    format: Callable[[Any], str]


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _refused(quantity: str, examples: str, value: object) -> ValueError:
    unit = " (a number without its unit)" if isinstance(value, (int, float)) and not isinstance(value, bool) else ""
    return ValueError(f"must be {quantity}, such as {examples}; found {_shown(value)}{unit}")


def _match(pattern: "re.Pattern[str]", value: object) -> "re.Match[str] | None":
    return pattern.fullmatch(value) if isinstance(value, str) and len(value) <= _LONGEST else None


def _plain(value: Fraction) -> str:
    """Return a decimal without an exponent; the value must have one, as all values of floats times powers of ten do."""
    digits = Decimal(value.numerator) / Decimal(value.denominator)
    text = format(digits, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


_DURATION_EXAMPLES = "500ms, 5s, 30m, 2h, 1d or 01:30:00"
_SIZE_EXAMPLES = "64B, 4KiB, 16GiB or 16GB"
_RATE_EXAMPLES = "20000/s, 600/m or 100/h"
_SHARE_EXAMPLES = "1%, 0.5% or 0.01"


def parse_duration(value: object) -> DurationS:
    """Return seconds from `500ms 5s 30m 2h 1d` or `01:30:00` (hours, minutes, seconds).

    Raises:
        ValueError: anything else, a number without a unit included; the text says what is allowed.
    """
    if found := _match(_DURATION, value):
        seconds = Fraction(found[1]) * _SECONDS[found[2]]
        if seconds > _LONGEST_S:
            raise ValueError(f"must be at most {_LONGEST_S // 86400}d; found {_shown(value)}")
        return DurationS(float(seconds))
    if found := _match(_CLOCK, value):
        return DurationS(float(int(found[1]) * 3600 + int(found[2]) * 60 + int(found[3])))
    raise _refused("a duration", _DURATION_EXAMPLES, value)


def parse_size(value: object) -> SizeBytes:
    """Return bytes from `64B 4KiB 16GiB` (powers of 1024) or `16GB` (powers of 1000).

    Raises:
        ValueError: anything else, or not a whole number of bytes.
    """
    if found := _match(_SIZE, value):
        size = Fraction(found[1]) * _BYTES[found[2]]
        if size.denominator != 1:
            raise ValueError(f"must be a whole number of bytes; found {_shown(value)}, which is {float(size)} bytes")
        if size > _LARGEST_BYTES:
            raise ValueError(f"must be less than 8388608TiB; found {_shown(value)}")
        return SizeBytes(int(size))
    raise _refused("a size", _SIZE_EXAMPLES, value)


def parse_rate(value: object) -> RatePerS:
    """Return a rate per second from `20000/s`, `600/m`, `100/h`.

    Raises:
        ValueError: anything else, a number without a unit included.
    """
    if found := _match(_RATE, value):
        rate = Fraction(found[1]) / _PER[found[2]]
        if rate > _FASTEST_PER_S:
            raise ValueError(f"must be at most {_FASTEST_PER_S}/s; found {_shown(value)}")
        return RatePerS(float(rate))
    raise _refused("a rate", _RATE_EXAMPLES, value)


def parse_share(value: object) -> Share:
    """Return a part of one from `1%` or from a number such as 0.01.

    Raises:
        ValueError: anything else, outside of 0 to 1, or a bare 1, which could mean 1% or all.
    """
    share: float | None = None
    if found := _match(_SHARE, value):
        share = float(Fraction(found[1]) / 100)
    elif isinstance(value, float) or (value == 0 and not isinstance(value, bool)):
        share = float(value)
    elif value == 1 and not isinstance(value, bool):
        raise ValueError("must be a share, and 1 could be 1% or 100%: write which")
    if share is None or not 0 <= share <= 1:
        raise _refused("a share between 0% and 100%", _SHARE_EXAMPLES, str(value) if isinstance(value, float) else value)
    return Share(share)


def _exact(value: float) -> Fraction:
    """The shortest decimal that is this float, as a person would have written it."""
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"neither negative nor infinite: {value}")
    return Fraction(repr(float(value)))


def format_duration(value: DurationS | float) -> str:
    """Return the duration in the largest unit that needs no fraction: `30m`, `90s`, `1.5s`, `500ms`."""
    seconds = _exact(value)
    if not seconds:
        return "0s"
    for unit in ("d", "h", "m", "s"):
        if (seconds / _SECONDS[unit]).denominator == 1:
            return f"{seconds / _SECONDS[unit]}{unit}"
    return f"{_plain(seconds)}s" if seconds > 1 else f"{_plain(seconds * 1000)}ms"


def format_size(value: SizeBytes | int) -> str:
    """Return the size in the largest unit that needs no fraction: `16GiB`, `64B`, `1000B`."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if value and value % _BYTES[unit] == 0:
            return f"{value // _BYTES[unit]}{unit}"
    return f"{value}B"


def format_rate(value: RatePerS | float) -> str:
    """Return the rate per second: `20000/s`."""
    return f"{_plain(_exact(value))}/s"


def format_share(value: Share | float) -> str:
    """Return the share in percent: `1%`."""
    return f"{_plain(_exact(value) * 100)}%"


QUANTITIES: Mapping[Any, Quantity] = {
    DurationS: Quantity(
        "a duration",
        _DURATION_EXAMPLES,
        rf"^(?:{_DURATION.pattern}|{_CLOCK.pattern})$",
        "_s",
        parse_duration,
        format_duration,
    ),
    SizeBytes: Quantity("a size", _SIZE_EXAMPLES, rf"^{_SIZE.pattern}$", "_bytes", parse_size, format_size),
    RatePerS: Quantity("a rate", _RATE_EXAMPLES, rf"^{_RATE.pattern}$", "_per_s", parse_rate, format_rate),
    Share: Quantity("a share", _SHARE_EXAMPLES, rf"^{_SHARE.pattern}$", "", parse_share, format_share),
}
"""Unit type of a field -> how its values are written."""
