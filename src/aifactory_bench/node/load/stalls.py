"""The time in which the generator should have run and did not: stopped, throttled, swapped out, without a core."""

import time

CARE_NS = 5_000_000
"""How often the loop looks after itself, and the longest time it sleeps in one piece."""
ASLEEP_NS = 2 * CARE_NS
"""The most that the loop can have slept of its own will from one look to the next: the last sleep may begin just before it."""
LEAST_NS = 10_000_000
"""Anything shorter is not told from how a busy machine shares its cores out."""


class Stalls:
    """Finds stalls by looking at two clocks every few milliseconds, whatever the loop did meanwhile.

    From one look to the next a loop works or sleeps, and it never sleeps for longer than until the next look is due. Work
    is CPU time. What is left of the time that went by is a stall, wherever in the loop it struck. A server that does not
    answer is none: the loop sleeps, and wakes up on time.
    """

    __slots__ = ("_cpu_ns", "_seen_ns", "_start_ns", "longest_ns", "total_ns")

    def __init__(self, start_ns: int) -> None:
        self._start_ns = start_ns
        self._seen_ns = 0
        self._cpu_ns = 0
        self.total_ns = 0
        """Within the window, which begins at `start_ns`."""
        self.longest_ns = 0

    def begin(self, now_ns: int) -> None:
        """Take it that the loop runs from now on."""
        self._seen_ns = now_ns
        self._cpu_ns = time.thread_time_ns()

    def look(self, now_ns: int, end_ns: int) -> bool:
        """Return whether there was a stall since the last look; what lies in the window, which ends at `end_ns`, is counted."""
        cpu_ns = time.thread_time_ns()
        stalled_ns = now_ns - self._seen_ns - (cpu_ns - self._cpu_ns) - ASLEEP_NS
        stalled = stalled_ns > LEAST_NS
        if stalled:
            counted_ns = max(0, min(stalled_ns, min(now_ns, end_ns) - max(self._seen_ns, self._start_ns)))
            self.total_ns += counted_ns
            self.longest_ns = max(self.longest_ns, counted_ns)
        self._seen_ns, self._cpu_ns = now_ns, cpu_ns
        return stalled
