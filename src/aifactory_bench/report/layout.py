"""What a summary shows, before it is lines or HTML: blocks, rows and cells as text."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from ..results.model import Latency, MergedMeasurement, PointResult, Reason, Summary, Verdict
from ..results.numbers import duration, percent, quantity, rate, seconds
from ..results.parts import HEALTH
from ..results.search import search_line
from .names import clean_line, parameters_line, short_names

QUANTILES = (("p50_us", "p50"), ("p90_us", "p90"), ("p99_us", "p99"), ("p999_us", "p99.9"))
SLOWEST = ("max_us", "max")
LOW_N = "~"
"""Stands before a quantile that rests on too few samples."""
LOW_N_LEGEND = "rests on fewer samples than the quantile needs"
ABSENT = "-"
_BY_SCHEDULE = "_schedule"
_STEADY = "_steady"
_ABOUT_OTHERS = frozenset({"replica_rate_min", "replica_rate_max", "steady_begin", "steady_length", "in_flight_mean"})
"""Metrics about the merge and the window: in the file, not on the screen."""
CLOCK_TITLES = {"send": "latency from sending", "schedule": "latency from schedule"}


@frozen
class Row:
    """One operation: cells by clock, in the order of the columns."""

    operation: str
    cells: tuple[tuple[str, ...], ...]


@frozen
class Block:
    """One measurement."""

    title: str
    """Parameters, repetition, client: whatever tells it from the others."""
    facts: str
    """Offered, achieved, errors, length."""
    figures: tuple[str, ...]
    """What the product reports beside times, each with its unit."""
    search: str
    """What was searched for and found; empty where nothing was."""
    verdict: Verdict
    reasons: tuple[Reason, ...]
    rows: tuple[Row, ...]


@frozen
class Layout:
    """A whole summary."""

    clocks: tuple[str, ...]
    """`send`, and `schedule` if any measurement has it."""
    columns: tuple[str, ...]
    """The same under each clock."""
    blocks: tuple[Block, ...]
    counted: str
    """How many measurements there are of each verdict; empty for one."""
    low_n: bool
    """Whether a cell carries the mark."""


def lay_out(summary: Summary) -> Layout:
    """Return what is to be shown, points in the order of the matrix."""
    points = sorted(summary.points, key=lambda point: _order(point.id))
    measurements = [measurement for point in points for measurement in point.measurements]
    scheduled = any(clocks.get("schedule") for one in measurements for clocks in one.latency.values())
    clocks = ("send", "schedule") if scheduled else ("send",)
    # Both clocks side by side fill a terminal of 80 columns; one alone leaves room for the slowest request.
    columns = QUANTILES if scheduled else (*QUANTILES, SLOWEST)
    names = short_names({path: None for point in points for path in point.parameters})
    repeated = any(point.repetition > 1 for point in points)
    several = len({measurement.client for measurement in measurements}) > 1
    blocks = tuple(
        Block(
            title=_title(point, measurement, parameters_line(point.parameters, names), repeated=repeated, several=several),
            facts=_facts(measurement),
            figures=_figures(measurement),
            search=clean_line(search_line(measurement), 400),
            verdict=measurement.verdict,
            reasons=measurement.reasons,
            rows=_rows(measurement, clocks, columns),
        )
        for point in points
        for measurement in point.measurements
    )
    counts = Counter(block.verdict for block in blocks)
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in ("valid", "degraded", "invalid") if counts[verdict])
    return Layout(
        clocks=clocks,
        columns=tuple(title for _, title in columns),
        blocks=blocks,
        counted=f"{len(blocks)} measurements: {told}" if len(blocks) > 1 else "",
        low_n=any(LOW_N in cell for block in blocks for row in block.rows for cells in row.cells for cell in cells),
    )


def _order(identifier: str) -> tuple[int, str]:
    return len(identifier.split("-", maxsplit=1)[0]), identifier


def _title(point: PointResult, measurement: MergedMeasurement, parameters: str, *, repeated: bool, several: bool) -> str:
    parts = [parameters] if parameters else []
    if several or not parts:
        parts.insert(0, f"{clean_line(measurement.client)} ({clean_line(measurement.kind)})")
    if repeated:
        parts.append(f"rep {point.repetition}")
    return "  ".join(parts)


def _facts(measurement: MergedMeasurement) -> str:
    parts = []
    if measurement.offered_per_s is not None:
        parts.append(f"offered {rate(measurement.offered_per_s)}")
    if measurement.achieved_per_s is not None:
        parts.append(f"achieved {rate(measurement.achieved_per_s)}")
    counts = measurement.counts
    failed = counts.get("error", 0) + counts.get("timeout", 0)
    parts.append(f"errors {failed:,}" + (f" (timeouts {counts['timeout']:,})" if counts.get("timeout") else ""))
    if counts.get("skipped"):
        parts.append(f"never sent {counts['skipped']:,}")
    if measurement.window_s is not None:
        parts.append(seconds(measurement.window_s))
    if measurement.replicas > 1:
        parts.append(f"{measurement.replicas} replicas")
    return ", ".join(parts)


def _rows(measurement: MergedMeasurement, clocks: Sequence[str], columns: Sequence[tuple[str, str]]) -> tuple[Row, ...]:
    operations = sorted(measurement.latency, key=lambda name: (name != "all", name))
    if operations[:1] == ["all"] and len(operations[1:]) == 1:
        operations = operations[1:]  # `all` is the sum of one
    low = set(measurement.low_n)
    by_operation = tuple(
        Row(
            clean_line(operation, 60),
            tuple(
                tuple(
                    _cell(measurement.latency[operation].get(clock), field, low=f"latency.{operation}.{clock}.{field}" in low)
                    for field, _ in columns
                )
                for clock in clocks
            ),
        )
        for operation in operations
    )
    return by_operation + _distributions(measurement, clocks, columns)


def _distributions(
    measurement: MergedMeasurement, clocks: Sequence[str], columns: Sequence[tuple[str, str]]
) -> tuple[Row, ...]:
    """Return a row for each time that the product measured beside its operations; `x_schedule` stands beside `x`."""
    times = {
        name: entry
        for name, entry in measurement.distributions.items()
        if name not in HEALTH and entry.get("unit") == "us" and "max" in entry
    }
    rows = []
    for name in times:
        if name.endswith(_BY_SCHEDULE) and name.removesuffix(_BY_SCHEDULE) in times:
            continue
        both = {"send": name, "schedule": f"{name}{_BY_SCHEDULE}"}
        cells = tuple(
            tuple(_time(times.get(both[clock], {}), field, both[clock], measurement.low_n) for field, _ in columns)
            for clock in clocks
        )
        rows.append(Row(clean_line(name, 60), cells))
    return tuple(rows)


def _time(entry: Mapping[str, Any], field: str, name: str, low_n: Sequence[str]) -> str:
    value = entry.get(field.removesuffix("_us"))
    if value is None:
        return ABSENT
    return (LOW_N if f"distributions.{name}.{field.removesuffix('_us')}" in low_n else "") + duration(value)


def _figures(measurement: MergedMeasurement) -> tuple[str, ...]:
    """Return the product's figures; a rate over the steady part of the window stands beside the one over all of it."""
    figures = []
    for name, metric in measurement.metrics.items():
        if name in _ABOUT_OTHERS or name.endswith(_STEADY):
            continue
        unit, value = str(metric.get("unit", "")), metric["value"]
        if not value and "low" not in metric and not unit.endswith("/s"):
            continue  # nothing happened of what is counted here
        if "low" in metric:
            text = f"{percent(value)} ({percent(metric['low'])} to {percent(metric['high'])})"
        else:
            text = quantity(value, unit)
            if (steady := measurement.metrics.get(f"{name}{_STEADY}")) is not None:
                text += f" (steady {quantity(steady['value'], unit)})"
        figures.append(clean_line(f"{name.removesuffix('_per_s')} {text}", 120))
    return tuple(figures)


def _cell(latency: Latency | None, field: str, *, low: bool) -> str:
    value = None if latency is None else getattr(latency, field)
    return ABSENT if value is None else (LOW_N if low else "") + duration(value)
