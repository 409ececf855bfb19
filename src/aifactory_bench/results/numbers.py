"""Numbers as a reader likes them: three digits that count, and a unit."""

_US_PER_MS = 1e3
_US_PER_S = 1e6
_PLACES = ((0.00995, 5), (0.0995, 4), (0.9995, 3), (9.995, 2), (99.95, 1))
"""Below the first, the second many places behind the point make three digits; rounding up does not make four."""
_ROUNDS_UP = 0.9995
"""From this part of a unit on, three digits round up to the next unit."""


def digits(value: float) -> str:
    """Return a number with three significant digits and no exponent: 0.0123, 1.23, 12.3, 123, 12,345."""
    if not value:
        return "0"
    places = next((places for limit, places in _PLACES if abs(value) < limit), 0)
    return f"{value:,.{places}f}"


def duration(value_us: float) -> str:
    """Return microseconds with a unit that suits them: `112µs`, `1.21ms`, `2.40s`."""
    if value_us < _ROUNDS_UP * _US_PER_MS:
        tenths = f"{value_us:.1f}"
        return f"{value_us:.0f}µs" if len(tenths) > len("99.9") or tenths.endswith(".0") else f"{tenths}µs"
    if value_us < _ROUNDS_UP * _US_PER_S:
        return f"{digits(value_us / _US_PER_MS)}ms"
    return f"{digits(value_us / _US_PER_S)}s"


def seconds(value_s: float) -> str:
    """Return seconds, three significant digits, no trailing zeros: `30 s`, `4.21 s`."""
    return f"{_short(value_s)} s"


def percent(share: float) -> str:
    """Return a share as per cent: `3.21 %`, `98 %`."""
    return f"{_short(share * 100)} %"


def rate(value_per_s: float) -> str:
    """Return a rate: `20,000/s`, `12.5/s`."""
    return f"{_short(value_per_s)}/s"


def quantity(value: float, unit: str) -> str:
    """Return a number with its unit: `1,234 token/s`, `0.5`."""
    return f"{_short(value)} {unit}".rstrip()


def _short(value: float) -> str:
    text = digits(value)
    return text.rstrip("0").rstrip(".") if "." in text else text
