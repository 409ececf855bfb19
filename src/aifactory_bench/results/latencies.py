"""Latencies of several ranks as one: histograms are added, quantiles are never averaged."""

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import asdict

from ..node.load.histogram import Histogram
from .documents import Histograms, Rank, is_number
from .model import Latency
from .numbers import duration
from .statistics import QUANTILES, is_low_n
from .windows import Window, slices_within


def merged_histograms(ranks: Sequence[Rank], window: Window) -> Histograms:
    """Return the sums of the ranks' histograms over the common window."""
    found: dict[str, dict[str, Histogram]] = {}
    for rank in ranks:
        within = (
            [part.histograms for part, _ in slices_within(rank, window)] if window.origin == "slices" else [rank.histograms]
        )
        for source in within:
            for operation, clocks in source.items():
                for clock, histogram in clocks.items():
                    found.setdefault(operation, {}).setdefault(clock, Histogram()).add(histogram)
    return found


def latency_of(histogram: Histogram) -> Latency:
    """Return the quantiles of a histogram; all are None when it is empty."""
    if not histogram.count:
        return Latency(None, None, None, None, None, 0)
    quantiles = {name: histogram.percentile_us(100 * quantile) for name, quantile in QUANTILES.items()}
    return Latency(**quantiles, max_us=histogram.max_us, count=histogram.count, mean_us=histogram.mean_us)


def latency_from_quantiles(ranks: Sequence[Rank], operation: str) -> tuple[Latency, dict[str, str]]:
    """Return what can be said of an operation of which a rank has quantiles only, and why the rest is absent, by field.

    One rank's quantiles are passed on. Those of several cannot be merged; each lies between the smallest and the
    largest of theirs, and the largest maximum is the maximum of all.
    """
    parts = [values for rank in ranks if (values := _quantiles(rank, operation))]
    count = int(sum(part.get("count", 0) for part in parts))
    maxima = [part["max_us"] for part in parts if "max_us" in part]
    max_us = max(maxima) if maxima and len(maxima) == len(parts) else None
    if len(parts) == 1:
        fields = {name: parts[0].get(name) for name in QUANTILES}
        latency = Latency(**fields, max_us=max_us, count=count, mean_us=parts[0].get("mean_us"))
        names = [*QUANTILES, "max_us", "mean_us"]
        return latency, {name: "the tool does not report it" for name in names if getattr(latency, name) is None}
    why = f"{len(parts)} replicas, and not all of them gave a histogram: quantiles cannot be merged"
    absent = {"mean_us": why, **({} if max_us is not None else {"max_us": "the tool does not report it"})}
    for name in QUANTILES:
        given = [part[name] for part in parts if name in part]
        bound = (
            f"; it lies between {duration(min(given))} and {duration(max(given))}" if given and len(given) == len(parts) else ""
        )
        absent[name] = why + bound
    return Latency(None, None, None, None, max_us, count), absent


def _quantiles(rank: Rank, operation: str) -> Mapping[str, float]:
    """Return what one rank says of an operation, from sending."""
    if operation in rank.measurement.quantiles:
        given = rank.measurement.quantiles[operation].items()
        return {key: value for key, value in given if is_number(value) and value >= 0}
    histogram = rank.histograms.get(operation, {}).get("send")
    latency = latency_of(histogram) if histogram is not None else None
    return {} if latency is None else {key: value for key, value in asdict(latency).items() if value is not None}


def low_n_fields(latency: Latency) -> tuple[str, ...]:
    """Return the quantiles that rest on too few samples."""
    return tuple(
        name for name, quantile in QUANTILES.items() if getattr(latency, name) is not None and is_low_n(quantile, latency.count)
    )


def p50_p99(histogram: Histogram | None) -> tuple[float | None, float | None]:
    """Return median and p99 in microseconds, None for an empty histogram."""
    if histogram is None or not histogram.count:
        return None, None
    return histogram.percentile_us(50), histogram.percentile_us(99)


def distribution(histogram: Histogram | None) -> Mapping[str, Any] | None:
    """Return a histogram of the generator's own as an entry of `distributions`; None when there is nothing in it."""
    whole = None if histogram is None else distribution_of(histogram, "us")
    return None if whole is None else {name: whole[name] for name in ("p50", "p90", "p99", "count", "unit")}


def distribution_of(histogram: Histogram, unit: str) -> Mapping[str, Any] | None:
    """Return a product's distribution as an entry of `distributions`; None when there is nothing in it.

    With the unit `us` the histogram holds nanoseconds, with any other whole numbers of that unit.
    """
    if not histogram.count:
        return None
    scale = 1 if unit == "us" else 1000

    def scaled(value_us: float | None) -> float | None:
        return None if value_us is None else value_us * scale

    return {
        "p50": scaled(histogram.percentile_us(50)),
        "p90": scaled(histogram.percentile_us(90)),
        "p99": scaled(histogram.percentile_us(99)),
        "p999": scaled(histogram.percentile_us(99.9)),
        "mean": scaled(histogram.mean_us),
        "max": scaled(histogram.max_us),
        "count": histogram.count,
        "unit": unit,
    }
