"""Histograms add, round trip, and are never more than a bucket off."""

import base64
import json
import zlib
from array import array
from math import ceil
from statistics import pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifactory_bench.node.load.histogram import Histogram, bucket_of, merged, middle_of

DURATIONS_NS = st.one_of(
    st.integers(0, 5000),
    st.integers(0, 10**7),
    st.integers(0, 4 * 3600 * 10**9),
    st.integers(0, 50).map(lambda bits: 1 << bits),
)
LISTS = st.lists(DURATIONS_NS, max_size=60)


def histogram_of(values: list[int]) -> Histogram:
    histogram = Histogram()
    histogram.record_many(array("q", values))
    return histogram


@given(DURATIONS_NS)
def test_a_bucket_is_at_most_a_500th_of_its_value_wide(value: int) -> None:
    """Its middle is a thousandth off at most, and order is kept."""
    assert abs(middle_of(bucket_of(value)) - value) <= value * 0.001
    assert bucket_of(value) <= bucket_of(value + 1) <= bucket_of(value) + 1


@given(LISTS, LISTS)
def test_adding_equals_recording_both(one: list[int], two: list[int]) -> None:
    """The sum of two histograms is the histogram of both lists."""
    total = histogram_of(one)
    total.add(histogram_of(two))
    assert total == histogram_of(one + two)
    assert merged([histogram_of(one), histogram_of(two)]) == total


@given(LISTS, st.integers(1, 20))
def test_adding_several_times_equals_recording_several_times(values: list[int], times: int) -> None:
    """So a batch that shares one latency counts as its requests."""
    total = Histogram()
    total.add(histogram_of(values), times)
    assert total == histogram_of(values * times)


@given(LISTS)
def test_one_by_one_equals_many(values: list[int]) -> None:
    """The fast way of recording puts values where the plain one does."""
    plain = Histogram()
    for value in values:
        plain.record(value)
    assert plain == histogram_of(values)
    assert plain.count == len(values)
    assert plain.sum_ns == sum(values)
    assert plain.mean_us == (sum(values) / len(values) / 1000 if values else None)


@given(st.lists(DURATIONS_NS, min_size=1, max_size=60))
def test_the_standard_deviation_is_within_a_thousandth_of_the_largest_value(values: list[int]) -> None:
    found_us = histogram_of(values).deviation_us
    assert found_us is not None
    assert abs(found_us - pstdev(values) / 1000) <= 0.001 * max(values) / 1000 + 1e-9
    assert Histogram().deviation_us is None


@given(st.lists(DURATIONS_NS, min_size=1, max_size=200), st.sampled_from([0, 1, 25, 50, 90, 99, 99.9, 100]))
def test_percentiles_are_nearest_rank_within_a_thousandth(values: list[int], percent: float) -> None:
    """Compared with the sorted list."""
    true_ns = sorted(values)[max(1, ceil(round(percent * len(values), 6) / 100)) - 1]
    found_us = histogram_of(values).percentile_us(percent)
    assert found_us is not None
    assert found_us * 1000 == pytest.approx(true_ns, rel=0.001, abs=0.01)


def test_the_999th_of_1000_is_not_the_largest() -> None:
    """99.9 % of 1000 is 999, in spite of binary fractions."""
    assert histogram_of([*[1000] * 999, 10**9]).percentile_us(99.9) == 1


@given(st.lists(st.integers(0, 10**12), max_size=50), st.integers(0, 10**12))
def test_counts_up_to_a_value_are_off_by_its_own_bucket_at_most(values: list[int], limit: int) -> None:
    """What lies a thousandth below counts, and what lies a thousandth above does not; beyond the largest all do."""
    histogram = Histogram()
    histogram.record_many(values)
    found = histogram.count_up_to(limit)
    assert sum(value <= limit * 0.998 for value in values) <= found <= sum(value <= limit * 1.002 for value in values)
    assert histogram.count_up_to(max(values, default=0)) == len(values)
    if limit < 1024:
        assert found == sum(value <= limit for value in values)


def test_an_empty_histogram_has_no_figures() -> None:
    """None, not zero."""
    empty = Histogram()
    assert (empty.percentile_us(50), empty.mean_us, empty.min_us, empty.max_us) == (None, None, None, None)


@pytest.mark.parametrize("percent", [-1, 100.1, float("nan")])
def test_a_percentile_outside_0_to_100_is_refused(percent: float) -> None:
    """A share given for a percentage is at least not beyond them."""
    with pytest.raises(ValueError, match="0 to 100"):
        histogram_of([1]).percentile_us(percent)


@pytest.mark.parametrize("value", [-1, 1 << 62])
def test_what_is_no_duration_is_refused_whole(value: int) -> None:
    """Nothing of the list is counted."""
    histogram = Histogram()
    with pytest.raises(ValueError, match="a duration"):
        histogram.record_many([5, value])
    assert histogram.count == 0


@given(LISTS)
def test_json_round_trip(values: list[int]) -> None:
    """Through text, as in a file."""
    histogram = histogram_of(values)
    assert Histogram.from_json(json.loads(json.dumps(histogram.to_json()))) == histogram


def test_json_is_compact() -> None:
    """A second's worth of latencies takes a few kilobytes at most."""
    assert len(histogram_of([50_000 + 37 * number for number in range(20_000)]).to_json()["buckets"]) < 4000


def packed(*numbers: int) -> str:
    return base64.b64encode(zlib.compress(bytes(numbers))).decode()


GOOD = {"v": 1, "sub_bits": 9, "count": 3, "sum_ns": 12, "min_ns": 2, "max_ns": 5, "buckets": packed(2, 1, 3, 2)}


def test_the_good_document_is_good() -> None:
    """Else the next test could not fail."""
    assert Histogram.from_json(GOOD) == histogram_of([2, 5, 5])


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"sub_bits": 8},
        {"count": 4},
        {"count": "3"},
        {"count": True},
        {"count": -3},
        {"sum_ns": 1},
        {"sum_ns": 16},
        {"sum_ns": 12.0},
        {"min_ns": 1},
        {"min_ns": None},
        {"max_ns": 6},
        {"buckets": None},
        {"buckets": "%%%"},
        {"buckets": "äö"},
        {"buckets": base64.b64encode(b"not zlib").decode()},
        {"buckets": packed(2, 1, 3)},
        {"buckets": packed(2, 1, 0, 2)},
        {"buckets": packed(2, 3, 3, 0)},
        {"buckets": packed(2, 1, 3, 0x82)},
        {"buckets": packed(*[255] * 20)},
        {"buckets": base64.b64encode(zlib.compress(bytes(1 << 21))).decode()},
        {"buckets": packed(2, 1, 3, 2)[:-8]},
    ],
)
def test_a_document_that_does_not_fit_together_is_refused(change: dict[str, object]) -> None:
    """Every single lie is found."""
    with pytest.raises(ValueError, match="histogram"):
        Histogram.from_json({**GOOD, **change})


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_garbage_is_refused(data: object) -> None:
    """With ValueError, never with anything else."""
    with pytest.raises(ValueError, match="histogram"):
        Histogram.from_json(data)


@given(st.binary(max_size=40))
def test_garbage_in_the_buckets_is_refused_or_consistent(data: bytes) -> None:
    """What is accepted is a histogram whose own document is accepted again."""
    try:
        found = Histogram.from_json({**GOOD, "buckets": base64.b64encode(zlib.compress(data)).decode()})
    except ValueError:
        return
    assert Histogram.from_json(found.to_json()) == found


@pytest.mark.parametrize("value_ns", [0, 1023, 1024, (1 << 61) - 1, 1 << 61, (1 << 62) - 1])
def test_the_longest_values_come_back_too(value_ns: int) -> None:
    """What can be recorded can be read: the last power of two has buckets as well."""
    histogram = Histogram()
    histogram.record(value_ns)
    assert Histogram.from_json(histogram.to_json()) == histogram
