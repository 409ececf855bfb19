"""How many samples a quantile needs before it may be shown without a mark.

The rule is the binomial one that MLPerf's early stopping uses: a quantile is trusted when, with 99 % confidence, at
least two samples lie above it. Of n samples the number above the true q-quantile is binomial with 1 - q, so n is the
smallest number with  q^n + n (1 - q) q^(n - 1) <= 0.01.
"""

from functools import lru_cache

from ..node.search import wilson

__all__ = ["CONFIDENCE", "QUANTILES", "is_low_n", "samples_needed", "wilson"]

CONFIDENCE = 0.99

QUANTILES = {"p50_us": 0.5, "p90_us": 0.9, "p99_us": 0.99, "p999_us": 0.999}
"""Field of `results.model.Latency` -> the quantile."""


@lru_cache(maxsize=64)
def samples_needed(quantile: float) -> int:
    """Return the fewest samples that a quantile can rest on: 11 for 0.5, 64 for 0.9, 662 for 0.99, 6636 for 0.999.

    Raises:
        ValueError: not a quantile strictly between 0 and 1.
    """
    if not 0 < quantile < 1:
        raise ValueError(f"a quantile lies between 0 and 1, got {quantile!r}")
    allowed = 1 - CONFIDENCE

    def too_few(count: int) -> bool:
        return bool(quantile**count + count * (1 - quantile) * quantile ** (count - 1) > allowed)

    low, high = 1, 2
    while too_few(high):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if too_few(middle) else (low, middle)
    return high


def is_low_n(quantile: float, count: int) -> bool:
    """Return whether a quantile rests on too few samples."""
    return count < samples_needed(quantile)
