"""Reads of `/proc`: the node's counters, and processes with their descendants. What has vanished reads as None."""

import os
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Callable, DefaultDict, Dict, Iterable, List, Optional, Set, Tuple

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# Looking for descendants reads a file for each thread: it may take this share of the time at most.
_SEARCH_SHARE = 0.002


@dataclass(frozen=True)
class ProcessStat:
    """One line of `/proc/<pid>/stat`."""

    parent: int
    cpu_s: float
    """User and system time of the process and of the children that it has waited for."""
    threads: int
    rss_bytes: int
    start_ticks: int
    """Since boot; with the pid it names one process, though pids come round again."""


@dataclass(frozen=True)
class TreeTotals:
    """Sums over some processes and their descendants."""

    cpu_s: float
    rss_bytes: int
    threads: int


def _read(path: str) -> Optional[bytes]:
    try:
        with open(path, "rb", buffering=0) as stream:
            return stream.read(1 << 16)
    except OSError:
        return None


def process_stat(pid: int) -> Optional[ProcessStat]:
    """Return what the kernel says of a process, or None when there is none."""
    data = _read(f"/proc/{pid}/stat")
    if not data:
        return None
    # The name stands in brackets and may hold blanks and brackets itself: fields count from the last one.
    fields = data[data.rindex(b")") + 2 :].split()
    return ProcessStat(
        parent=int(fields[1]),
        cpu_s=sum(map(int, fields[11:15])) / _TICKS_PER_S,
        threads=int(fields[17]),
        rss_bytes=int(fields[21]) * _PAGE_BYTES,
        start_ticks=int(fields[19]),
    )


def children(pid: int) -> List[int]:
    """Return the children of a process; none when it is gone."""
    found: List[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found
    for thread in threads:
        found.extend(map(int, (_read(f"/proc/{pid}/task/{thread}/children") or b"").split()))
    return found


def _kernel_lists_children() -> bool:
    pid = os.getpid()
    return os.path.exists(f"/proc/{pid}/task/{pid}/children")


def descendants(roots: Iterable[int]) -> Set[int]:
    """Return the processes and all that descend from them, as far as they still live."""
    children_of = children if _kernel_lists_children() else _all_children().__getitem__
    found: Set[int] = set()
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting.extend(children_of(pid))
    return found


def _all_children() -> "DefaultDict[int, List[int]]":
    """Return parent -> children of the whole node, for kernels built without CONFIG_PROC_CHILDREN."""
    found: DefaultDict[int, List[int]] = defaultdict(list)
    for name in os.listdir("/proc"):
        if name.isdigit():
            stat = process_stat(int(name))
            if stat is not None:
                found[stat.parent].append(int(name))
    return found


class ProcessTrees:
    """Sums over processes and their descendants, read again and again; CPU seconds never fall."""

    def __init__(self, roots: Callable[[], Iterable[int]]) -> None:
        self._roots = roots
        self._known_roots: Set[int] = set()
        self._members: Set[int] = set()
        self._search_due = 0.0
        self._last: Dict[int, ProcessStat] = {}
        self._gone_s = 0.0
        self._top_s = 0.0

    def read(self) -> TreeTotals:
        """Return the sums now."""
        roots = set(self._roots())
        before = time.monotonic()
        if roots != self._known_roots or before >= self._search_due:
            self._members = descendants(roots)
            self._known_roots = roots
            after = time.monotonic()
            self._search_due = after + (after - before) / _SEARCH_SHARE
        living = {pid: stat for pid in self._members for stat in (process_stat(pid),) if stat is not None}
        self._gone_s += self._seconds_lost(living)
        self._last = living
        self._top_s = max(self._top_s, self._gone_s + sum(stat.cpu_s for stat in living.values()))
        return TreeTotals(
            cpu_s=self._top_s,
            rss_bytes=sum(stat.rss_bytes for stat in living.values()),
            threads=sum(stat.threads for stat in living.values()),
        )

    def _seconds_lost(self, living: Dict[int, ProcessStat]) -> float:
        """Return the seconds of processes that ended since the last read and that no living ancestor has on its account."""
        lost_s = 0.0
        for pid, stat in self._last.items():
            now = living.get(pid)
            if now is not None and now.start_ticks == stat.start_ticks:
                continue
            ancestor = stat.parent
            while ancestor in self._last and ancestor not in living:
                ancestor = self._last[ancestor].parent
            if ancestor not in living:
                lost_s += stat.cpu_s
        return lost_s


def node_cpu_ticks() -> Optional[Tuple[int, int]]:
    """Return (busy, all) ticks of all processors since boot; waiting for disks is not busy."""
    data = _read("/proc/stat")
    if not data or not data.startswith(b"cpu "):
        return None
    ticks = [int(field) for field in data.split(b"\n", 1)[0].split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def node_memory_bytes() -> Dict[str, int]:
    """Return `/proc/meminfo`, in bytes; empty when it cannot be read."""
    found = {}
    for line in (_read("/proc/meminfo") or b"").decode("ascii", "replace").splitlines():
        name, _, rest = line.partition(":")
        fields = rest.split()
        if len(fields) == 2 and fields[1] == "kB":
            found[name] = int(fields[0]) * 1024
    return found


def node_memory_used_bytes() -> Optional[int]:
    """Return the memory that is not available to new processes."""
    memory = node_memory_bytes()
    if "MemTotal" not in memory or "MemAvailable" not in memory:
        return None
    return memory["MemTotal"] - memory["MemAvailable"]


def node_network_bytes() -> Optional[Tuple[int, int, int, int]]:
    """Return bytes since boot: received and sent over networks, received and sent over loopback."""
    data = _read("/proc/net/dev")
    if data is None:
        return None
    network, loopback = [0, 0], [0, 0]
    for line in data.decode("ascii", "replace").splitlines()[2:]:
        name, _, rest = line.partition(":")
        fields = rest.split()
        if len(fields) >= 9:
            sums = loopback if name.strip() == "lo" else network
            sums[0] += int(fields[0])
            sums[1] += int(fields[8])
    return network[0], network[1], loopback[0], loopback[1]
