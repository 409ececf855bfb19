"""What sysbench prints: the JSON lines of our Lua file, the table of its histogram, its last words."""

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping

from aifactory_bench.node.load.histogram import Histogram

_NS_PER_MS = 1_000_000
_NS_PER_S = 1_000_000_000
_BUCKET = re.compile(r"^ *([0-9]+\.[0-9]{3}) \|\** +([0-9]+)$")
_LARGEST_MS = 1e8
"""Above it nothing is a latency; the tool counts everything above 100 s as 100 s."""
_MOST = 1 << 53
_SAYS = ("FATAL: ", "ALERT: ", "WARNING: ")
_WORDS = 3


@dataclass
class Output:
    """What one run printed."""

    total: "Dict[str, float]" = field(default_factory=dict)
    """Counts and times (s) of all of it; empty: it did not come to its end."""
    seconds: "List[Dict[str, float]]" = field(default_factory=list)
    """The same of each second, in order."""
    errors: "Dict[int, int]" = field(default_factory=dict)
    """Number of the server's error -> transactions that were begun anew for it."""
    buckets: "Dict[int, int]" = field(default_factory=dict)
    """Middle of a bucket (ns) -> count."""
    words: str = ""
    """The last things that it complained of."""

    @property
    def events(self) -> int:
        """Transactions that ended well: of all of it, or of the seconds that were reported."""
        return whole(self.total, "events") if self.total else sum(whole(second, "events") for second in self.seconds)

    @property
    def failures(self) -> int:
        """Transactions that ended in an error and were begun anew."""
        return whole(self.total, "errors") if self.total else sum(whole(second, "errors") for second in self.seconds)

    def histogram(self) -> Histogram:
        """Return the distribution: every transaction counts as the middle of its bucket, none beyond minimum and maximum.

        Minimum, maximum and mean are the tool's own.
        """
        low_ns, high_ns = (round(self.total.get(f"latency_{end}", 0.0) * _NS_PER_S) for end in ("min", "max"))
        steps = {value_ns: count for value_ns, count in self.buckets.items() if count}
        if not 0 < low_ns <= high_ns or sum(steps.values()) < 2:
            return _sum(steps)
        found: "Counter[int]" = Counter({low_ns: 1, high_ns: 1} if low_ns < high_ns else {low_ns: 2})
        # The quickest and the slowest one are known exactly.
        steps[min(steps)] -= 1
        steps[max(steps)] -= 1
        for value_ns, count in steps.items():
            found[min(max(value_ns, low_ns), high_ns)] += count
        total = _sum(found)
        sum_ns = round(self.total.get("latency_sum", 0.0) * _NS_PER_S)
        total.sum_ns = min(max(sum_ns, low_ns * total.count), high_ns * total.count)
        return total


def _sum(steps: "Mapping[int, int]") -> Histogram:
    total = Histogram()
    for value_ns, count in steps.items():
        one = Histogram()
        one.record(value_ns)
        total.add(one, count)
    return total


def parse(text: str) -> Output:
    """Return what can be read; lines that are something else are left out."""
    output = Output()
    words: "List[str]" = []
    for line in text.splitlines():
        if line.startswith('{"afb": '):
            _take(output, line)
        elif line.startswith(_SAYS):
            words.append(line)
        else:
            bucket = _BUCKET.match(line)
            if bucket and float(bucket[1]) <= _LARGEST_MS and int(bucket[2]) < _MOST:
                value_ns = max(1, round(float(bucket[1]) * _NS_PER_MS))
                output.buckets[value_ns] = output.buckets.get(value_ns, 0) + int(bucket[2])
    output.words = " / ".join(list(dict.fromkeys(words))[-_WORDS:])
    return output


def _take(output: Output, line: str) -> None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return
    if not isinstance(found, dict):
        return
    kind = found.pop("afb", None)
    numbers = {name: float(value) for name, value in found.items() if _is_number(value)}
    if kind == "total":
        output.total = numbers
    elif kind == "second":
        output.seconds.append(numbers)
    elif kind == "error":
        number = whole(numbers, "number")
        output.errors[number] = output.errors.get(number, 0) + whole(numbers, "count")


def whole(numbers: "Mapping[str, float]", name: str) -> int:
    """Return a count; 0 where there is none."""
    return int(numbers.get(name, 0.0))


def _is_number(value: "Any") -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < _MOST
