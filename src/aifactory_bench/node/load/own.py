"""What drivers have recorded themselves: the results of several workers as those of one rank."""

from dataclasses import asdict
from typing import Any, Dict, List, Mapping, Sequence

from ..measurement import Measurement
from .histogram import Histogram


def add_results(measurement: Measurement, results: "Sequence[Mapping[str, Any]]") -> None:
    """Add what each worker's `Driver.results` returned to a measurement whose counts are known.

    A ratio that says `"of": "requests"` gets all requests of the window as its denominator, whatever became of them.
    """
    distributions: Dict[str, Histogram] = {}
    units: Dict[str, str] = {}
    metrics: "Dict[str, List[Mapping[str, Any]]]" = {}
    for result in results:
        for name, entry in result.get("distributions", {}).items():
            units[name] = entry["unit"]
            distributions.setdefault(name, Histogram()).add(Histogram.from_json(entry["histogram"]))
        for name, entry in result.get("sums", {}).items():
            known = measurement.sums.setdefault(name, {"unit": entry["unit"], "per_second": []})
            known["per_second"] = added(known["per_second"], entry["per_second"])
        for name, metric in result.get("metrics", {}).items():
            metrics.setdefault(name, []).append(metric)
        for name, number in result.get("totals", {}).items():
            measurement.totals[name] = measurement.totals.get(name, 0) + number
        measurement.absent.update(result.get("absent", {}))
    for name, histogram in distributions.items():
        measurement.distributions[name] = {"unit": units[name], "histogram": histogram.to_json()}
    requests = sum(asdict(measurement.counts).values())
    for name, parts in metrics.items():
        merged = merged_metric(parts)
        if parts[0].get("of") == "requests":
            # A driver does not see what was lost with a connection, timed out or was never sent.
            merged["denominator"] = requests
            merged["value"] = merged["numerator"] / requests if requests else 0.0
        measurement.metrics[name] = merged


def added(one: "Sequence[float]", other: "Sequence[float]") -> "List[float]":
    """Return the sums of two series, element by element; the shorter one counts as zero where it has ended."""
    longest = max(len(one), len(other))
    return [left + right for left, right in zip(_filled(one, longest), _filled(other, longest))]


def _filled(values: "Sequence[float]", length: int) -> "List[float]":
    return [*values, *([0] * (length - len(values)))]


def merged_metric(parts: "Sequence[Mapping[str, Any]]", weights: "Sequence[float]" = ()) -> "Dict[str, Any]":
    """Return one metric of several: added up, unless it says `"merge": "min" | "max" | "mean" | "ratio"`.

    A ratio has `numerator` and `denominator`, which are added. A mean is weighted by `weights`, alike where there are none.
    """
    first = parts[0]
    how = str(first.get("merge", "sum"))
    merged: Dict[str, Any] = {"value": 0.0, "unit": str(first.get("unit", "")), "merge": how}
    values = [part["value"] for part in parts]
    if how == "ratio":
        merged["numerator"] = sum(part["numerator"] for part in parts)
        merged["denominator"] = sum(part["denominator"] for part in parts)
        merged["value"] = merged["numerator"] / merged["denominator"] if merged["denominator"] else 0.0
    elif how == "mean":
        weighed = weights if any(weights) else [1.0] * len(values)
        merged["value"] = sum(value * weight for value, weight in zip(values, weighed)) / sum(weighed)
    else:
        merged["value"] = min(values) if how == "min" else max(values) if how == "max" else sum(values)
    return merged
