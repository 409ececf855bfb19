"""Which requests met a limit of the latency."""

from typing import Any

import pytest

from aifactory_bench.node.load.histogram import Histogram
from aifactory_bench.node.load.objectives import add_attainment
from aifactory_bench.node.measurement import Counts, Measurement


def _measured(schedule: bool, **changes: Any) -> Measurement:
    """Return ten requests, sent one after another and due at once: 1 ms to 10 ms from schedule, 1 ms from sending."""
    clocks: dict[str, Any] = {"send": Histogram(), "schedule": Histogram()}
    clocks["send"].record_many([1_000_000] * 10)
    clocks["schedule"].record_many([number * 1_000_000 for number in range(1, 11)])
    latency = {"send": clocks["send"].to_json(), "schedule": clocks["schedule"].to_json() if schedule else None}
    values: dict[str, Any] = {"counts": Counts(ok=10), "latency": {"all": latency}, "window_s": 2.0, **changes}
    return Measurement("p", "load", "k", 0, "ok", unit="command", **values)


@pytest.mark.parametrize(
    ("schedule", "limit_s", "met"), [(True, 0.0045, 4), (True, 1.0, 10), (True, 0.0001, 0), (False, 0.0045, 10)]
)
def test_the_latency_from_schedule_counts(schedule: bool, limit_s: float, met: int) -> None:
    """In closed loop, that from sending."""
    measurement = _measured(schedule)
    add_attainment(measurement, {"latency": limit_s})
    ratio = {"value": met / 10, "unit": "ratio", "merge": "ratio", "numerator": met, "denominator": 10}
    assert measurement.metrics["slo_attainment"] == ratio
    assert measurement.metrics["goodput"] == {"value": met / 2, "unit": "command/s", "merge": "sum"}


def test_failures_are_misses() -> None:
    """Errors, timeouts, and what was never sent."""
    measurement = _measured(schedule=True, counts=Counts(ok=10, error=5, timeout=3, skipped=2))
    add_attainment(measurement, {"latency": 1.0})
    assert measurement.metrics["slo_attainment"]["value"] == 0.5


def test_nothing_was_answered() -> None:
    """None of it met anything, and a window without length has no rate."""
    measurement = _measured(schedule=True, counts=Counts(), latency={}, window_s=0.0)
    add_attainment(measurement, {"latency": 1.0})
    assert (measurement.metrics["slo_attainment"]["value"], list(measurement.metrics)) == (0.0, ["slo_attainment"])


def test_a_product_that_counts_itself_is_left_alone() -> None:
    """And so is a load without the objective."""
    own = {"slo_attainment": {"value": 1.0, "unit": "ratio", "merge": "ratio", "numerator": 3, "denominator": 3}}
    measurement = _measured(schedule=True, metrics=dict(own))
    add_attainment(measurement, {"latency": 1.0})
    assert measurement.metrics == own
    measurement = _measured(schedule=True)
    add_attainment(measurement, {})
    assert measurement.metrics == {}
