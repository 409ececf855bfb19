"""What one worker has seen, kept so that recording costs next to nothing and memory does not grow with requests.

Latencies are appended to arrays and moved into histograms a few hundred at a time. A request belongs to the second of the
window in which it was due (open loop) or sent (closed loop), whenever its answer comes; what was due before the window is
the warm-up.
"""

from array import array
from collections import Counter, defaultdict
from typing import Any, Callable, DefaultDict, Dict, List

from .driver import Outcome, Tally
from .histogram import Histogram

SECOND_NS = 1_000_000_000
_NAME_CHARACTERS = 100
"""Of a class of errors: a longer one is no class, and documents take none."""
_SAMPLE_CHARACTERS = 300


def _values() -> "array[int]":
    return array("q")


_NEW_ARRAY: "Callable[[], array[int]]" = _values


class Latencies:
    """Latencies by tally."""

    __slots__ = ("histograms", "values")

    def __init__(self) -> None:
        self.values: "DefaultDict[Tally, array[int]]" = defaultdict(_NEW_ARRAY)
        """Where the loop appends."""
        self.histograms: "DefaultDict[Tally, Histogram]" = defaultdict(Histogram)

    def fold(self) -> None:
        """Move what was appended into the histograms."""
        for tally, values in self.values.items():
            if values:
                self.histograms[tally].record_many(values)
                del values[:]

    def by_operation(self) -> "Dict[str, Histogram]":
        """Return one histogram an operation."""
        self.fold()
        operations: Dict[str, Histogram] = {}
        for tally, histogram in self.histograms.items():
            for operation, times in Counter(tally.operations).items():
                operations.setdefault(operation, Histogram()).add(histogram, times)
        return operations

    def count(self) -> int:
        """Return the number of requests."""
        self.fold()
        return sum(tally.total * histogram.count for tally, histogram in self.histograms.items())


class Slice:
    """One second of the window, or all of the warm-up."""

    __slots__ = ("errors", "notes", "schedule", "send", "skipped", "timeout")

    def __init__(self) -> None:
        self.send = Latencies()
        """From sending."""
        self.schedule = Latencies()
        """From the due time; open loop only."""
        self.errors: "Counter[str]" = Counter()
        self.notes: "Counter[str]" = Counter()
        self.timeout = 0
        self.skipped = 0

    def fold(self) -> None:
        """Move what was appended into the histograms."""
        self.send.fold()
        self.schedule.fold()

    def counts(self) -> "Dict[str, int]":
        """Return the requests by how they ended, as in `measurement.Counts`."""
        errors = sum(self.errors.values())
        return {"ok": self.send.count(), "error": errors, "timeout": self.timeout, "skipped": self.skipped}

    def report(self) -> "Dict[str, Any]":
        """Return the slice as JSON."""
        schedule = self.schedule.by_operation()
        return {
            "counts": self.counts(),
            "errors": dict(self.errors),
            "notes": dict(self.notes),
            "latency": {
                operation: {"send": histogram.to_json(), "schedule": schedule[operation].to_json() if schedule else None}
                for operation, histogram in self.send.by_operation().items()
            },
        }


class Gauge:
    """A quantity of the generator itself, recorded like a latency."""

    __slots__ = ("_closed", "_histogram", "append", "values")

    def __init__(self) -> None:
        self.values = _values()
        self.append = self.values.append
        self._histogram = Histogram()
        self._closed = False

    def fold(self) -> None:
        """Move what was appended into the histogram."""
        if self.values:
            if not self._closed:
                self._histogram.record_many(self.values)
            del self.values[:]

    def restart(self) -> None:
        """Forget everything."""
        del self.values[:]
        self._histogram = Histogram()

    def close(self) -> None:
        """Keep what was recorded, and take no more of it; who appends still may."""
        self.fold()
        self._closed = True

    def report(self) -> "Dict[str, Any]":
        """Return the histogram as JSON."""
        self.fold()
        return self._histogram.to_json()


class Recorder:
    """One worker's record; times are CLOCK_MONOTONIC ns."""

    def __init__(self, start_ns: int, end_ns: int) -> None:
        self.start_ns = start_ns
        """Of the window."""
        self.warmup = Slice()
        self.slices: List[Slice] = [Slice() for _ in range(-(-(end_ns - start_ns) // SECOND_NS))]
        self.current = self.warmup
        self.lateness = Gauge()
        self.gate = Gauge()
        self.lag = Gauge()
        self.age = Gauge()
        """Of what was read, since the kernel had it."""
        self.late_ok = 0
        """Requests of the window that ended well and were sent after its end."""
        self.samples: Dict[str, str] = {}
        """Error class -> the first text."""

    def slice_at(self, time_ns: int) -> Slice:
        """Return the slice that a time belongs to."""
        if time_ns < self.start_ns:
            return self.warmup
        return self.slices[min((time_ns - self.start_ns) // SECOND_NS, len(self.slices) - 1)]

    def turn_to(self, time_ns: int) -> "tuple[Slice, int]":
        """Make the slice of a time the current one; return it, and the time at which the next one begins."""
        self.current.fold()
        self.current = self.slice_at(time_ns)
        if time_ns < self.start_ns:
            return self.current, self.start_ns
        return self.current, time_ns - (time_ns - self.start_ns) % SECOND_NS + SECOND_NS

    def failed(self, slice: Slice, error: str, text: str, count: int = 1) -> None:
        """Count requests that ended badly."""
        error = error[:_NAME_CHARACTERS]
        slice.errors[error] += count
        if text:
            self.samples.setdefault(error, text[:_SAMPLE_CHARACTERS])

    def unasked(self, time_ns: int) -> str:
        """Count an answer for which there is no request that could end with this error; return what is wrong."""
        text = "an answer that was not asked for: `feed` returned more outcomes than requests were outstanding"
        self.failed(self.slice_at(time_ns), "protocol", text)
        return text

    def outcome(self, slice: Slice, outcome: Outcome) -> None:
        """Count an outcome that is more than a plain success; latencies are the loop's."""
        if outcome.error:
            self.failed(slice, outcome.error, outcome.text)
        elif outcome.note:
            slice.notes[outcome.note] += 1

    def fold(self) -> None:
        """Move recent values into histograms; to be called every few milliseconds."""
        self.current.fold()
        self.lateness.fold()
        self.gate.fold()
        self.lag.fold()
        self.age.fold()

    def counts(self) -> "Dict[str, int]":
        """Return the requests of the window so far by how they ended."""
        total = {"ok": 0, "error": 0, "timeout": 0, "skipped": 0}
        for slice in self.slices:
            for name, number in slice.counts().items():
                total[name] += number
        return total

    def report(self) -> "Dict[str, Any]":
        """Return everything as JSON."""
        return {
            "slices": [slice.report() for slice in self.slices],
            "warmup": self.warmup.counts(),
            "late_ok": self.late_ok,
            "lateness": self.lateness.report(),
            "gate": self.gate.report(),
            "loop_lag": self.lag.report(),
            "observation_age": self.age.report(),
            "samples": self.samples,
        }
