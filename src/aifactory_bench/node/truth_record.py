"""What the truth server really sent and when: a record a request, its lateness, the log as JSON lines."""

import json
import os
import time
from array import array
from collections import deque
from pathlib import Path
from typing import Any, Deque, Dict, Iterator, List, Tuple

VERSION = 1
LATE_NS = 1_000_000
LATE_SHARE = 0.05
"""Of the gap before it, by which anything may be late without a mark, if that is more than `LATE_NS`."""


class Record:
    """One request for tokens. Lists have one item for each thing that was sent."""

    __slots__ = (
        "blocked",
        "due_ns",
        "end",
        "kinds",
        "number",
        "path",
        "prompt_tokens",
        "read_late_ns",
        "received_ns",
        "sent_ns",
        "start_ns",
        "status",
        "stream",
        "tokens",
    )

    def __init__(self, number: int, path: str, received_ns: int, read_late_ns: int) -> None:
        self.number = number
        self.path = path
        self.received_ns = received_ns
        """When the kernel had the last byte of the request, CLOCK_MONOTONIC."""
        self.read_late_ns = read_late_ns
        """So much later it was read."""
        self.start_ns = received_ns
        """When it got a slot; delays count from here."""
        self.stream = False
        self.prompt_tokens = 0
        self.status = 200
        self.end = "open"
        """`done`, `error`, `refused`, `aborted`, `client_closed`; `open` while it is being answered."""
        self.blocked = False
        """The client did not read: what came after was put off, and that is not our lateness."""
        self.kinds: "List[str]" = []
        self.due_ns = array("q")
        self.sent_ns = array("q")
        self.tokens = array("q")

    def output_tokens(self) -> int:
        """Return how many tokens were sent."""
        return sum(self.tokens)

    def token_stamps_ns(self) -> "List[int]":
        """Return when what holds tokens was sent."""
        return [sent for sent, tokens in zip(self.sent_ns, self.tokens) if tokens]

    def lateness_ns(self) -> "List[int]":
        """Return by how much each sending that holds tokens came after it was due."""
        return [late_ns for late_ns, _ in self._late()]

    def server_late(self) -> bool:
        """Return whether any tokens were later than 1 ms, or than 5 % of the gap before them where that is more."""
        return any(late_ns > LATE_NS and late_ns > LATE_SHARE * gap_ns for late_ns, gap_ns in self._late())

    def _late(self) -> "Iterator[Tuple[int, int]]":
        """Yield lateness and planned gap of what holds tokens; what is due with the one before is so once that is sent."""
        before_ns = sent_before_ns = self.start_ns
        for due, sent, tokens in zip(self.due_ns, self.sent_ns, self.tokens):
            if tokens:
                yield sent - (max(due, sent_before_ns) if due == before_ns else due), due - before_ns
                before_ns, sent_before_ns = due, sent

    def to_json(self) -> "Dict[str, Any]":
        """Return the record; times are ns since the request was received, but for `received_ns` itself."""
        start = self.received_ns
        return {
            "number": self.number,
            "path": self.path,
            "status": self.status,
            "end": self.end,
            "received_ns": start,
            "read_late_ns": self.read_late_ns,
            "start_ns": self.start_ns - start,
            "stream": self.stream,
            "prompt_tokens": self.prompt_tokens,
            "output_tokens": self.output_tokens(),
            "kinds": "".join(self.kinds),
            "due_ns": [due - start for due in self.due_ns],
            "sent_ns": [sent - start for sent in self.sent_ns],
            "tokens": list(self.tokens),
            "late_max_us": round(max(self.lateness_ns(), default=0) / 1000, 1),
            "server_late": self.server_late(),
            "blocked": self.blocked,
        }


class Log:
    """The newest records; older ones beyond `keep` are forgotten, and counted."""

    def __init__(self, keep: int) -> None:
        self._records: "Deque[Record]" = deque(maxlen=keep)
        self._forgotten = 0

    def add(self, record: Record) -> None:
        """Take a record that is complete."""
        self._forgotten += len(self._records) == self._records.maxlen
        self._records.append(record)

    def clear(self) -> None:
        """Forget all."""
        self._records.clear()
        self._forgotten = 0

    def summary(self) -> "Dict[str, Any]":
        """Return the head of the log: how many requests, and how punctual the server was."""
        late = sorted(late for record in self._records for late in record.lateness_ns())
        return {
            "afb_truth_log": VERSION,
            "server": "python",
            "boot_id": boot_id(),
            "wall_ns": time.time_ns(),
            "monotonic_ns": time.monotonic_ns(),
            "requests": len(self._records),
            "forgotten": self._forgotten,
            "sendings": len(late),
            "tokens": sum(record.output_tokens() for record in self._records),
            "lateness_p50_us": _at(late, 0.50),
            "lateness_p99_us": _at(late, 0.99),
            "lateness_max_us": _at(late, 1.0),
            "read_late_max_us": round(max((record.read_late_ns for record in self._records), default=0) / 1000, 1),
            "server_late_requests": sum(record.server_late() for record in self._records),
        }

    def records(self) -> "Iterator[Dict[str, Any]]":
        """Yield the records as JSON, the oldest first."""
        for record in self._records:
            yield record.to_json()

    def write(self, path: str) -> None:
        """Write the summary and one line a record, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        part = Path(f"{path}.{os.getpid()}.part")
        try:
            with part.open("w", encoding="ascii") as file:
                for value in (self.summary(), *self.records()):
                    file.write(json.dumps(value, separators=(",", ":")) + "\n")
            part.replace(path)
        finally:
            if part.exists():
                part.unlink()


def boot_id() -> str:
    """Return the name of this start of the kernel: monotonic clocks of the same one can be compared."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _at(ordered: "List[int]", share: float) -> float:
    """Return a percentile in us, by nearest rank; 0 of nothing."""
    if not ordered:
        return 0.0
    return round(ordered[max(0, -int(-share * len(ordered) // 1) - 1)] / 1000, 1)
