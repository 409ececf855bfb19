"""The steady part of a window, and what was done in it."""

import pytest

from aifactory_bench.node.measurement import Counts
from aifactory_bench.results.merge import merge
from aifactory_bench.results.steady import Steady, steady_window


@pytest.mark.parametrize(
    ("in_flight", "expected"),
    [
        ([1, 5, 10, 10, 10, 9.5, 10, 4, 1], Steady(2, 6)),
        ([10, 10, 10, 10], Steady(0, 3)),
        ([10, 10, 2, 10, 10, 10, 2], Steady(3, 5)),
        ([10, 10, 1, 10, 10, 1], None),
        ([0, 0, 0, 0], None),
        ([], None),
    ],
)
def test_plateau_is_found(in_flight, expected):
    """Ramp and tail do not belong to it, a dip ends it, and two seconds are too few."""
    assert steady_window(in_flight) == expected


def test_rates_of_the_whole_window_and_of_its_steady_part(make_point, make_document):
    """Two ranks: sums add second by second; ramp-up and tail are in one figure and not in the other."""
    sums = {
        "in_flight": {"unit": "request", "per_second": [1, 8, 8, 8, 8, 8, 8, 8, 8, 1]},
        "output_tokens": {"unit": "token", "per_second": [0, 100, 100, 100, 100, 100, 100, 100, 100, 20]},
    }
    point = make_point(ranks=2, offered_per_s=2000.0)
    merged = merge(point, [make_document(rank, sums=sums) for rank in range(2)]).measurement
    assert merged.metrics["output_tokens_per_s"] == {"value": 164.0, "unit": "token/s"}
    assert merged.metrics["output_tokens_per_s_steady"] == {"value": 200.0, "unit": "token/s"}
    assert (merged.metrics["steady_begin"]["value"], merged.metrics["steady_length"]["value"]) == (1, 8)
    assert merged.metrics["in_flight_mean"]["value"] == pytest.approx(2 * 6.6)
    assert [entry["output_tokens"] for entry in merged.series] == [0, *[200] * 8, 40]


def test_no_plateau_is_told(make_point, make_document):
    """Rather than a figure that means nothing."""
    sums = {
        "in_flight": {"unit": "request", "per_second": [9, 1, 9, 1, 9, 1, 9, 1, 9, 1]},
        "output_tokens": {"unit": "token", "per_second": [1] * 10},
    }
    merged = merge(make_point(), [make_document(sums=sums)]).measurement
    assert "output_tokens_per_s_steady" not in merged.metrics
    assert "nine tenths" in merged.absent["metrics.output_tokens_per_s_steady"]


def test_distributions_add_and_few_samples_are_marked(make_point, make_document, make_histogram):
    """Times in microseconds, anything else as it was counted."""
    changes = {
        "counts": Counts(ok=10_000),
        "distributions": {
            "ttft": {"unit": "us", "histogram": make_histogram([100.0, 300.0], 400)},
            "output_tokens": {"unit": "token", "histogram": make_histogram([0.128], 5)},
        },
    }
    merged = merge(make_point(ranks=2, offered_per_s=2000.0), [make_document(rank, **changes) for rank in range(2)]).measurement
    assert merged.distributions["ttft"]["count"] == 1600
    assert merged.distributions["ttft"]["p99"] == pytest.approx(300, rel=0.002)
    assert merged.distributions["output_tokens"]["p50"] == 128
    assert merged.distributions["output_tokens"]["unit"] == "token"
    assert "distributions.output_tokens.p90" in merged.low_n
    assert "distributions.ttft.p99" not in merged.low_n
    assert "distributions.ttft.p999" in merged.low_n


def test_a_ratio_is_added_and_has_bounds(make_point, make_document):
    """80 of 100 and 100 of 100 are 90 %, however many each rank had."""
    metric = {"value": 0.8, "unit": "ratio", "merge": "ratio", "numerator": 80, "denominator": 100}
    other = {**metric, "value": 1.0, "numerator": 300, "denominator": 300}
    point = make_point(ranks=2, offered_per_s=2000.0)
    found = merge(
        point, [make_document(0, metrics={"met": metric}), make_document(1, metrics={"met": other})]
    ).measurement.metrics["met"]
    assert found["value"] == pytest.approx(0.95)
    assert (found["low"], found["high"]) == pytest.approx((0.924, 0.967), abs=1e-3)
    assert found["of"] == 400
