"""Builders of planned points and of the documents that ranks write."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from aifactory_bench.node.load.histogram import Histogram
from aifactory_bench.node.measurement import Counts, Health, Measurement, to_json
from aifactory_bench.plan import PlannedPoint

START_NS = 1_790_000_000_000_000_000


def histogram(values_us: "list[float] | None" = None, times: int = 1) -> dict[str, Any]:
    """Return a histogram's document; each value so many times."""
    one = Histogram()
    one.record_many([round(value * 1000) for value in (values_us if values_us is not None else [100.0])])
    total = Histogram()
    total.add(one, times)
    return total.to_json()


@pytest.fixture
def make_histogram() -> Callable[..., dict[str, Any]]:
    """Return the builder of histograms."""
    return histogram


@pytest.fixture
def make_point() -> Callable[..., PlannedPoint]:
    """Return a builder of planned points: one rank, open loop at 1000/s."""

    def make(**changes: Any) -> PlannedPoint:
        values: dict[str, Any] = {
            "id": "p0000-r1",
            "index": 0,
            "repetition": 1,
            "parameters": {},
            "client": "load",
            "kind": "demo-load",
            "token": "afb-run-load-0",
            "ranks": 1,
            "offered_per_s": 1000.0,
            "process": "constant",
            "load": {},
            "client_parameters": {},
            "service_parameters": {},
            "services": ("afb-run-cache-0",),
        }
        return PlannedPoint(**{**values, **changes})

    return make


@pytest.fixture
def make_document() -> Callable[..., dict[str, Any]]:
    """Return a builder of documents: a rank that met 1000/s for 10 s without any fault."""

    def make(rank: int = 0, *, start_s: float = 0.0, seconds: float = 10.0, rate: int = 1000, **changes: Any) -> dict[str, Any]:
        start_ns = START_NS + round(start_s * 1e9)
        count = round(rate * seconds)
        clocks = {"send": histogram([100.0, 200.0], count // 2), "schedule": histogram([150.0, 250.0], count // 2)}
        part = {"send": histogram([100.0, 200.0], rate // 2), "schedule": histogram([150.0, 250.0], rate // 2)}
        values: dict[str, Any] = {
            "point": "p0000-r1",
            "client": "load",
            "kind": "demo-load",
            "rank": rank,
            "status": "ok",
            "process": "constant",
            "unit": "request",
            "window_asked_s": 10.0,
            "window_s": seconds,
            "start_wall_ns": start_ns,
            "end_wall_ns": start_ns + round(seconds * 1e9),
            "offered_per_s": float(rate),
            "achieved_per_s": count / seconds,
            "counts": Counts(ok=count),
            "latency": {"all": clocks},
            "slices": [{"second": second, "ok": rate, "error": 0, "latency": {"all": part}} for second in range(int(seconds))],
            "phases_s": {"prepare": 0.5, "warmup": 1.0, "measure": seconds, "drain": 0.1},
            "health": Health(workers=1, cpu_share=[0.4], lateness=histogram([20.0]), loop_lag=histogram([50.0])),
            "services": {"main": {"died": False, "restarted": False, "text": ""}},
        }
        closed = changes.get("process") == "closed"
        if closed:
            values["offered_per_s"] = None
            values["latency"] = {"all": {"send": clocks["send"], "schedule": None}}
        return to_json(Measurement(**{**values, **changes}))

    return make


@pytest.fixture
def codes_of() -> Callable[..., Mapping[str, str]]:
    """Return a function that merges and judges documents: code -> verdict of its reason."""
    from aifactory_bench.results.merge import merge
    from aifactory_bench.results.validity import judge

    def codes(
        point: PlannedPoint, documents: list[dict[str, Any]], limits: Mapping[str, float] | None = None
    ) -> dict[str, str]:
        _verdict, reasons, _unchecked = judge(merge(point, documents), limits or {})
        return {reason.code: reason.verdict for reason in reasons}

    return codes
