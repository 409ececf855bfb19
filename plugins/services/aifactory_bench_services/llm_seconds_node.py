"""What came in each second of the window: tokens by their own stamps, and how many requests were in flight."""

from array import array
from bisect import bisect_left
from typing import Any, Dict, List, Optional

SECOND_NS = 1_000_000_000


class Seconds:
    """Sums by the second of the window."""

    def __init__(self, start_ns: int, end_ns: int) -> None:
        self.start_ns = start_ns
        self.end_ns = end_ns
        self.output: List[int] = []
        self.prompt: List[int] = []
        self.busy_ns: List[int] = []
        self.end_at(end_ns)

    def end_at(self, end_ns: int) -> None:
        """Set the end of the window; what was summed in seconds after it is forgotten."""
        self.end_ns = max(self.start_ns, end_ns)
        seconds = -(-(self.end_ns - self.start_ns) // SECOND_NS)
        for sums in (self.output, self.prompt, self.busy_ns):
            del sums[seconds:]
            sums.extend([0] * (seconds - len(sums)))

    def add(self, sums: "List[int]", time_ns: int, tokens: int) -> None:
        """Count tokens that came at one time."""
        if self.start_ns <= time_ns < self.end_ns:
            sums[(time_ns - self.start_ns) // SECOND_NS] += tokens

    def add_stream(self, stamps: "array[int]", first: int, last: int, tokens: "Optional[array[int]]") -> None:
        """Count the output of the chunks from first to before last; tokens: of those chunks, None: one each."""
        at = bisect_left(stamps, self.start_ns, first, last)
        end = bisect_left(stamps, self.end_ns, at, last)
        output, start_ns = self.output, self.start_ns
        while at < end:
            second = (stamps[at] - start_ns) // SECOND_NS
            turn = bisect_left(stamps, start_ns + (second + 1) * SECOND_NS, at, end)
            output[second] += turn - at if tokens is None else sum(tokens[at - first : turn - first])
            at = turn

    def add_flight(self, sent_ns: int, ended_ns: int) -> None:
        """Count a request as in flight for that time."""
        at, end = max(sent_ns, self.start_ns), min(ended_ns, self.end_ns)
        busy, start_ns = self.busy_ns, self.start_ns
        while at < end:
            second = (at - start_ns) // SECOND_NS
            turn = min(end, start_ns + (second + 1) * SECOND_NS)
            busy[second] += turn - at
            at = turn

    def report(self) -> "Dict[str, Dict[str, Any]]":
        """Return the sums as JSON."""
        lengths = [min(SECOND_NS, self.end_ns - self.start_ns - number * SECOND_NS) for number in range(len(self.busy_ns))]
        total = [output + prompt for output, prompt in zip(self.output, self.prompt)]
        return {
            "output_tokens": {"unit": "token", "per_second": self.output},
            "prompt_tokens": {"unit": "token", "per_second": self.prompt},
            "total_tokens": {"unit": "token", "per_second": total},
            "in_flight": {"unit": "request", "per_second": [busy / length for busy, length in zip(self.busy_ns, lengths)]},
        }
