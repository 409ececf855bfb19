"""How many samples a quantile needs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifactory_bench.results.statistics import is_low_n, samples_needed, wilson


@pytest.mark.parametrize(("quantile", "needed"), [(0.5, 11), (0.9, 64), (0.99, 662), (0.999, 6636)])
def test_known_numbers(quantile, needed):
    """The numbers of the documentation; 64 and 662 are MLPerf's."""
    assert samples_needed(quantile) == needed
    assert is_low_n(quantile, needed - 1)
    assert not is_low_n(quantile, needed)


@given(st.floats(min_value=0.01, max_value=0.9999))
def test_is_the_smallest_number_that_obeys_the_rule(quantile):
    """One sample fewer and two samples above the quantile are no longer 99 % certain."""

    def fewer_than_two_above(count):
        return quantile**count + count * (1 - quantile) * quantile ** (count - 1)

    needed = samples_needed(quantile)
    assert fewer_than_two_above(needed) <= 0.01
    assert needed == 2 or fewer_than_two_above(needed - 1) > 0.01


@pytest.mark.parametrize("quantile", [0, 1, -1, 1.5])
def test_not_a_quantile(quantile):
    """The ends have no quantile that samples could lie above."""
    with pytest.raises(ValueError, match="between 0 and 1"):
        samples_needed(quantile)


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"), [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (0, 0, 0.0, 1.0)]
)
def test_bounds_of_a_share(hits, trials, low, high):
    """Worked examples; nothing is known of a share of nothing."""
    assert wilson(hits, trials) == pytest.approx((low, high), abs=1e-4)
