"""Delays of the truth server: constants and distributions, written as `constant:50ms`, `uniform:10ms:20ms`, ..."""

import math
import random
import re
from typing import Callable, Tuple

FORMS = "50ms, constant:50ms, uniform:10ms:20ms, exponential:20ms, lognormal:20ms:0.5 (median and sigma of the logarithm)"
_UNITS_NS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ns|us|ms|s|m)")
_LONGEST_NS = 3_600_000_000_000


def duration_ns(value: object) -> int:
    """Return a duration, written as `50ms` or as a number of seconds, in ns; at most one hour.

    Raises:
        ValueError: it is neither.
    """
    found = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if found:
        ns = float(found[1]) * _UNITS_NS[found[2]]
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        ns = value * 1e9
    elif value == "0":
        ns = 0.0
    else:
        raise ValueError(f"must be a duration such as 50ms or 1.5s, found {value!r}")
    if not 0 <= ns <= _LONGEST_NS:
        raise ValueError(f"must be from 0 to 1 hour, found {value!r}")
    return round(ns)


class Delay:
    """A constant or a distribution; `text` is as it was written."""

    __slots__ = ("_draw", "constant_ns", "text")

    def __init__(self, text: str, constant_ns: int, draw: "Callable[[random.Random], float]") -> None:
        self.text = text
        self.constant_ns = constant_ns
        """The delay, or -1 where it has to be drawn."""
        self._draw = draw

    def __repr__(self) -> str:
        return f"Delay({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Delay) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def draw_ns(self, random_of: "random.Random") -> int:
        """Return the next delay in ns, at most one hour."""
        if self.constant_ns >= 0:
            return self.constant_ns
        return min(_LONGEST_NS, round(self._draw(random_of)))


def delay_of(value: object) -> Delay:
    """Return the delay that a text or a number of seconds describes.

    Raises:
        ValueError: it describes none; the text says what would.
    """
    name, *parts = value.split(":") if isinstance(value, str) else ("",)
    if not parts:
        return _constant(str(value), duration_ns(value))
    if name == "constant" and len(parts) == 1:
        return _constant(str(value), duration_ns(parts[0]))
    if name == "uniform" and len(parts) == 2:
        low, high = duration_ns(parts[0]), duration_ns(parts[1])
        if low > high:
            raise ValueError(f"the lower end is above the upper one in {value!r}")
        return Delay(str(value), -1, lambda source: source.uniform(low, high))
    if name == "exponential" and len(parts) == 1:
        mean = duration_ns(parts[0])
        return _constant(str(value), 0) if mean == 0 else Delay(str(value), -1, lambda source: source.expovariate(1.0 / mean))
    if name == "lognormal" and len(parts) == 2:
        median, sigma = duration_ns(parts[0]), _sigma(parts[1])
        if median == 0:
            return _constant(str(value), 0)
        return Delay(str(value), -1, lambda source: source.lognormvariate(math.log(median), sigma))
    raise ValueError(f"must be one of {FORMS}; found {value!r}")


def stall_of(value: object) -> "Tuple[int, int]":
    """Return (after so many tokens, pause in ns) of a text such as `8:500ms`.

    Raises:
        ValueError: it is no such text.
    """
    after, _, pause = value.partition(":") if isinstance(value, str) else ("", "", "")
    if not after.isdecimal() or not pause:
        raise ValueError(f"must be TOKENS:PAUSE such as 8:500ms, found {value!r}")
    return int(after), duration_ns(pause)


def _constant(text: str, ns: int) -> Delay:
    return Delay(text, ns, lambda source: ns)  # noqa: ARG005 - a distribution's signature


def _sigma(text: str) -> float:
    try:
        sigma = float(text)
    except ValueError:
        sigma = -1.0
    if not 0 <= sigma <= 10:
        raise ValueError(f"sigma of a lognormal delay must be a number from 0 to 10, found {text!r}")
    return sigma
