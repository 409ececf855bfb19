"""What one worker is to do, and what it reads at the edges of its window."""

import time
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence

from .connection import Address
from .schedule import OPEN


@dataclass(frozen=True)
class Plan:
    """What one worker is to do; times are CLOCK_MONOTONIC ns."""

    warmup_ns: int
    """When the warm-up begins."""
    start_ns: int
    """When the window begins."""
    end_ns: int
    timeout_ns: int
    """Of one request, from sending."""
    addresses: Sequence[Address]
    """One a connection."""
    seed: int
    load: Mapping[str, Any] = field(default_factory=dict)
    """Totals of the client, see `spec.PointSpec.load`."""
    part: int = 0
    """Which of the generators this is, over all ranks and workers."""
    parts: int = 1
    partners: Sequence[Address] = ()
    """Where requests go on, one a connection; empty where none does."""

    @property
    def is_open(self) -> bool:
        """Whether requests are due by a schedule."""
        return self.load.get("process") in OPEN


@dataclass
class Edges:
    """Readings of the clock and the CPU time at the edges of the window."""

    mono_ns: List[int] = field(default_factory=list)
    cpu_ns: List[int] = field(default_factory=list)
    counts: Dict[str, int] = field(default_factory=dict)

    def read(self) -> None:
        """Read the clocks at an edge."""
        self.mono_ns.append(time.monotonic_ns())
        self.cpu_ns.append(time.process_time_ns())

    def drained(self, total: Mapping[str, int]) -> Dict[str, int]:
        """Return what of the requests of the window, counted at the very end, ended after it."""
        at_end = self.counts or total
        return {**{name: total[name] - at_end[name] for name in total}, "skipped": 0}

    def cpu_share(self) -> Optional[float]:
        """Return CPU seconds a second of the window; None while it has not ended."""
        if len(self.mono_ns) < 2 or self.mono_ns[1] <= self.mono_ns[0]:
            return None
        return (self.cpu_ns[1] - self.cpu_ns[0]) / (self.mono_ns[1] - self.mono_ns[0])
