"""The log that pgbench writes of every transaction, and what it prints at its end.

A line is `client number latency script seconds microseconds [lag] [retries]`, at the end of the transaction. Latency counts
from where the schedule wanted the transaction (`-R`), else from its beginning; lag is what lies between the two. In place of a
latency stands `skipped`, or how it failed. Each thread has a file of its own.
"""

import re
from array import array
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Tuple

SKIPPED = "skipped"
_FAILURES = frozenset({"failed", "serialization", "deadlock"})
_COLUMNS = 6
_CHUNK_BYTES = 4 << 20
_US_PER_S = 1_000_000
_LATEST_US = 1 << 62
_FIGURES = {
    "processed": re.compile(r"^number of transactions actually processed: (\d+)", re.MULTILINE),
    "failed": re.compile(r"^number of failed transactions: (\d+)", re.MULTILINE),
    "skipped": re.compile(r"^number of transactions skipped: (\d+)", re.MULTILINE),
    "retries": re.compile(r"^total number of retries: (\d+)", re.MULTILINE),
    "connect_ms": re.compile(r"^initial connection time = ([0-9.]+) ms", re.MULTILINE),
    "rate_per_s": re.compile(r"^tps = ([0-9.]+) ", re.MULTILINE),
}
_ABORTED = re.compile(r"client \d+ (?:script \d+ )?aborted", re.MULTILINE)


@dataclass
class Thread:
    """The transactions of one thread, in the order of their ends; times in microseconds since 1970."""

    client: "array[int]" = field(default_factory=lambda: array("q"))
    due_us: "array[int]" = field(default_factory=lambda: array("q"))
    """In closed loop when it was sent."""
    sent_us: "array[int]" = field(default_factory=lambda: array("q"))
    end_us: "array[int]" = field(default_factory=lambda: array("q"))
    others: "List[Tuple[int, str]]" = field(default_factory=list)
    """End and word of those that were skipped or failed."""


@dataclass
class Log:
    """All threads of one run."""

    threads: "List[Thread]" = field(default_factory=list)
    damaged: int = 0
    """Lines that make no sense."""

    def count(self) -> int:
        """Return the number of transactions that ended well."""
        return sum(len(thread.end_us) for thread in self.threads)

    def span_us(self) -> "Tuple[int, int]":
        """Return when the first transaction was due and when the last one ended; there must be one."""
        ends = [time for thread in self.threads for time, _ in thread.others]
        dues = list(ends)
        for thread in self.threads:
            if thread.end_us:
                dues.append(min(thread.due_us))
                ends.append(max(thread.end_us))
        return min(dues), max(ends)

    def words(self) -> "Counter[str]":
        """Return how many were skipped, and how many failed in which way."""
        return Counter(word for thread in self.threads for _, word in thread.others)


def read_log(folder: Path, prefix: str, is_open: bool) -> Log:
    """Return what the files of all threads say; a line that was cut off is left out."""
    log = Log()
    for path in sorted(folder.glob(f"{prefix}.*")):
        thread = Thread()
        for chunk in _chunks(path):
            if not _take_fast(thread, chunk, is_open):
                for line in chunk.splitlines():
                    log.damaged += not _take_line(thread, line, is_open)
        log.threads.append(thread)
    return log


def _chunks(path: Path) -> "Iterator[bytes]":
    """Yield whole lines."""
    rest = b""
    with open(path, "rb") as stream:
        while True:
            data = stream.read(_CHUNK_BYTES)
            if not data:
                return
            lines, separator, rest = (rest + data).rpartition(b"\n")
            if separator:
                yield lines


def _take_fast(thread: Thread, chunk: bytes, is_open: bool) -> bool:
    """Take a chunk in which all transactions ended well; return False, with nothing taken, when it holds anything else."""
    columns = len(chunk[: chunk.find(b"\n") if b"\n" in chunk else len(chunk)].split())
    if columns < _COLUMNS + is_open or chunk.count(b" ") != (chunk.count(b"\n") + 1) * (columns - 1):
        return False
    words = chunk.split()
    if len(words) % columns:
        return False
    try:
        clients, latencies = list(map(int, words[0::columns])), list(map(int, words[2::columns]))
        ends = [seconds * _US_PER_S + rest for seconds, rest in zip(map(int, words[4::columns]), map(int, words[5::columns]))]
        lags = list(map(int, words[6::columns])) if is_open else []
    except ValueError:
        return False
    if min(latencies) < 0 or max(ends) > _LATEST_US:
        return False
    if is_open and not all(0 <= lag <= latency for lag, latency in zip(lags, latencies)):
        return False
    dues = [end - latency for end, latency in zip(ends, latencies)]
    thread.client.extend(clients)
    thread.end_us.extend(ends)
    thread.due_us.extend(dues)
    thread.sent_us.extend([due + lag for due, lag in zip(dues, lags)] if is_open else dues)
    return True


def _take_line(thread: Thread, line: bytes, is_open: bool) -> bool:
    """Take one line; return False when it makes no sense."""
    words = line.decode("ascii", "replace").split()
    if len(words) < _COLUMNS + is_open:
        return False
    try:
        end_us = int(words[4]) * _US_PER_S + int(words[5])
        if words[2] == SKIPPED or words[2] in _FAILURES:
            thread.others.append((end_us, words[2]))
            return True
        client, latency_us = int(words[0]), int(words[2])
        lag_us = int(words[6]) if is_open else 0
    except ValueError:
        return False
    if not 0 <= lag_us <= latency_us <= end_us <= _LATEST_US:
        return False
    thread.client.append(client)
    thread.end_us.append(end_us)
    thread.due_us.append(end_us - latency_us)
    thread.sent_us.append(end_us - latency_us + lag_us)
    return True


def read_summary(text: str) -> "Dict[str, float]":
    """Return the figures that pgbench printed, of the whole run; those that it did not print are not there."""
    found: "Dict[str, float]" = {}
    for name, pattern in _FIGURES.items():
        match: "Optional[re.Match[str]]" = pattern.search(text)
        if match is not None:
            try:
                found[name] = float(match[1])
            except ValueError:
                continue
    return found


def aborted(stderr: str) -> int:
    """Return how many connections pgbench gave up, as a statement failed on them or the server went."""
    return len(_ABORTED.findall(stderr))
