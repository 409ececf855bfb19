"""Which requests met the objective that every client knows: a limit of the latency."""

from typing import Mapping

from ..measurement import Measurement
from .histogram import Histogram

LATENCY = "latency"
"""The objective's name. Products know more, and then count themselves what met all of them."""
ATTAINMENT = "slo_attainment"
"""The metric: a ratio, requests that met all limits by all that were due."""


def add_attainment(measurement: Measurement, slo: Mapping[str, float]) -> None:
    """Add the share and the rate of requests that met a limit of the latency, unless the product has told its own.

    The latency is that from schedule, in closed loop from sending. What failed, or was never sent, has missed it.
    """
    if LATENCY not in slo or ATTAINMENT in measurement.metrics:
        return
    clocks = measurement.latency.get("all", {})
    document = clocks.get("schedule") or clocks.get("send")
    met = Histogram.from_json(document).count_up_to(round(slo[LATENCY] * 1e9)) if document else 0
    counts = measurement.counts
    due = counts.ok + counts.error + counts.timeout + counts.skipped
    ratio = {"merge": "ratio", "numerator": met, "denominator": due}
    measurement.metrics[ATTAINMENT] = {"value": met / due if due else 0.0, "unit": "ratio", **ratio}
    if measurement.window_s > 0:
        unit = f"{measurement.unit}/s"
        measurement.metrics["goodput"] = {"value": met / measurement.window_s, "unit": unit, "merge": "sum"}
