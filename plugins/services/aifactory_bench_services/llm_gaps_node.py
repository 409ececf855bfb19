"""Times between chunks and between tokens, pooled over streams: millions of values, summarised in pure Python."""

from array import array
from collections import defaultdict
from operator import sub
from typing import DefaultDict, Dict, List, Optional, Sequence

from aifactory_bench.node.load.histogram import Histogram

STALL_TIMES = 10
"""A stall is a gap this many times the stream's median."""
_BATCH = 1 << 17
"""Values that a histogram is given at once."""


class Pool:
    """Values on their way into a histogram."""

    __slots__ = ("histogram", "values")

    def __init__(self) -> None:
        self.histogram = Histogram()
        self.values: List[int] = []

    def extend(self, values: "Sequence[int]") -> None:
        """Record values."""
        self.values.extend(values)
        if len(self.values) > _BATCH:
            self.fold()

    def fold(self) -> Histogram:
        """Return the histogram of all values so far."""
        if self.values:
            self.histogram.record_many(self.values)
            self.values = []
        return self.histogram


class Gaps:
    """Times between chunks and between tokens, pooled over requests."""

    def __init__(self) -> None:
        self._single = Pool()
        """Of streams with one token a chunk: both at once."""
        self._bundled = Pool()
        self._by_tokens: "DefaultDict[int, Pool]" = defaultdict(Pool)
        """Tokens of a chunk -> the gap before it, an equal part for each of them."""

    def add(self, gaps: "List[int]", tokens: "Optional[Sequence[int]]") -> None:
        """Record the gaps of a stream; tokens: of the chunks that end them, None: one each."""
        if tokens is None:
            self._single.extend(gaps)
            return
        self._bundled.extend(gaps)
        before = 0
        by_tokens = self._by_tokens
        for gap, count in zip(gaps, tokens):
            if count:
                by_tokens[count].values.append((before + gap) // count)
                before = 0
            else:
                before += gap  # the next token took this long as well
        for pool in by_tokens.values():
            if len(pool.values) > _BATCH:
                pool.fold()

    def histograms(self) -> "Dict[str, Histogram]":
        """Return `chunk_gap` and `itl`."""
        single = self._single.fold()
        chunk_gap, itl = Histogram(), Histogram()
        for histogram in (chunk_gap, itl):
            histogram.add(single)
        chunk_gap.add(self._bundled.fold())
        for count, pool in self._by_tokens.items():
            itl.add(pool.fold(), count)
        return {"chunk_gap": chunk_gap, "itl": itl}


def gaps_of(stamps: "array[int]") -> "List[int]":
    """Return the times between neighbours."""
    return list(map(sub, stamps[1:], stamps))


def stalls_of(gaps: "List[int]", largest: int, floor_ns: int) -> int:
    """Return how many gaps are stalls: above a floor and above ten times the median of those that are not 0.

    Chunks of one read have no gap between them; that they came together says nothing about how fast they should come.
    """
    if largest <= floor_ns or largest <= STALL_TIMES * min(gaps):
        return 0
    known = sorted(filter(None, gaps))
    middle = len(known) // 2
    median = known[middle] if len(known) % 2 else (known[middle - 1] + known[middle]) / 2
    limit = max(STALL_TIMES * median, floor_ns)
    return sum(gap > limit for gap in known)
