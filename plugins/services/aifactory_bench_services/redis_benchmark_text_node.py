"""Reads the text that redis-benchmark prints, of 6.0 (coarse table), and of 6.2, 7 and 8 (HdrHistogram's tables)."""

import re
from dataclasses import dataclass, field
from typing import Optional

from aifactory_bench.node.load.histogram import Histogram

LONGEST_US = 3_000_000
"""redis-benchmark counts every longer latency as this one."""

_HEADER = re.compile(r"====== (.+) ======")
_COMPLETED = re.compile(r"(\d{1,18}) requests completed in (\d{1,12}(?:\.\d+)?) seconds")
_STEP = re.compile(r"(\d{1,3}(?:\.\d+)?)% <= (\d{1,9}(?:\.\d+)?) milliseconds(?: \(cumulative count (\d{1,18})\))?")
_RATE = re.compile(r"(?:throughput summary: )?(\d{1,15}(?:\.\d+)?) requests per second")
_COLUMNS = ("avg", "min", "p50", "p95", "p99", "max")
_NUMBER = re.compile(r"\d{1,9}(?:\.\d+)?")
_NS_PER_MS = 1_000_000
_COVERED = 0.9
"""Of the requests at least; what a pipeline completes past the number asked for is in no table."""


@dataclass
class Report:
    """One run of one test through all its requests."""

    test: str
    requests: int = 0
    """Completed; with a pipeline up to one batch more than asked for."""
    seconds: float = 0.0
    steps: list[tuple[int, int]] = field(default_factory=list)
    """(latency in ns, requests that took at most so long), in any order."""
    summary_ms: dict[str, float] = field(default_factory=dict)
    """avg, min, p50, p95, p99, max; empty before 6.2."""
    per_s: float = 0.0

    @property
    def complete(self) -> bool:
        """Whether it was printed to its end, and its distribution covers its requests."""
        counted = max((count for _, count in self.steps), default=0)
        return self.requests > 0 and self.per_s > 0 and counted >= _COVERED * self.requests

    def histogram(self) -> Histogram:
        """Return the distribution: every request counts as the upper end of the step that it lies in.

        Minimum, median, p95, p99, maximum and mean are the tool's own where it tells them.
        """
        counted = max(count for _, count in self.steps)
        steps = list(self.steps)
        if "min" in self.summary_ms:
            steps.append((round(self.summary_ms["min"] * _NS_PER_MS), 1))
        for name, percent in (("p50", 50), ("p95", 95), ("p99", 99), ("max", 100)):
            if name in self.summary_ms:
                steps.append((round(self.summary_ms[name] * _NS_PER_MS), -(-counted * percent // 100)))
        total = Histogram()
        seen = 0
        for value_ns, count in sorted(steps):
            if count > seen:
                one = Histogram()
                one.record(value_ns)
                total.add(one, count - seen)
                seen = count
        if "avg" in self.summary_ms and total.min_ns is not None and total.max_ns is not None:
            sum_ns = round(self.summary_ms["avg"] * _NS_PER_MS * total.count)
            total.sum_ns = min(max(sum_ns, total.min_ns * total.count), total.max_ns * total.count)
        return total


def parse(text: str) -> list[Report]:
    """Return the reports that were printed to their end, in order; what is not one is passed over."""
    reports: list[Report] = []
    report: Optional[Report] = None
    columns: tuple[str, ...] = ()
    for line in map(str.strip, text.replace("\r", "\n").split("\n")):
        header = _HEADER.fullmatch(line)
        if header:
            report = Report(header[1])
            columns = ()
            reports.append(report)
        elif report is not None:
            columns = _take(report, line, columns)
    return [report for report in map(_finished, reports) if report.complete]


def _take(report: Report, line: str, columns: tuple[str, ...]) -> tuple[str, ...]:
    """Add what a line says to a report; return the columns that the next line has."""
    words = tuple(line.split())
    if words and set(words) <= set(_COLUMNS) and "avg" in words:
        return words
    if columns and len(words) == len(columns) and all(map(_NUMBER.fullmatch, words)):
        report.summary_ms = dict(zip(columns, map(float, words)))
        return ()
    completed, step, rate = _COMPLETED.fullmatch(line), _STEP.fullmatch(line), _RATE.fullmatch(line)
    if completed:
        report.requests, report.seconds = int(completed[1]), float(completed[2])
    elif step:
        value_ns = round(float(step[2]) * _NS_PER_MS)
        share = min(float(step[1]), 100.0) / 100
        report.steps.append((value_ns, int(step[3]) if step[3] else round(share * report.requests)))
    elif rate:
        report.per_s = float(rate[1])
    return ()


def _finished(report: Report) -> Report:
    # The rate is printed more finely than the seconds, which have two digits.
    if report.per_s > 0 and report.requests > 0:
        report.seconds = report.requests / report.per_s
    report.steps = [(value_ns, count) for value_ns, count in report.steps if 0 < count <= report.requests]
    return report
