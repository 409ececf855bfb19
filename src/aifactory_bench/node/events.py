"""Events: what happened, one JSON object a line, in the order of one process."""

import json
import os
import socket
import time
from pathlib import Path
from typing import Any, Dict, Iterator, Optional

from .files import make_private_folder

VERSION = 1

TYPES = frozenset(
    {
        "phase",  # data: name, one of PHASES; the phase that begins
        "started",  # data: pid, argv0; the child runs
        "ready",  # data: attempts, waited_s, facts
        "published",  # data: host, port
        "endpoints",  # data: role -> list of url; a client has what it needs
        "point_started",  # data: point
        "point_finished",  # data: point, status
        "port_taken",  # data: port; another one is tried
        "child_exited",  # data: code, signal
        "stopping",  # data: reason
        "lease_expired",  # data: lease_s
        "warning",  # data: text
        "monitor_failed",  # data: monitor, text; never fails the job
        "finished",  # data: outcome
    }
)
PHASES = ("queue", "image", "start", "pull", "ready", "prepare", "warmup", "measure", "drain", "collect", "stop")
OUTCOMES = (
    "completed",  # did all that it was there for
    "stopped",  # a stop file or TERM came first
    "failed",  # the child died, or a step before it did
    "not_ready",  # did not answer in time
    "no_endpoint",  # a target never appeared, or died first
    "lease_expired",
    "timeout",  # walltime
    "fenced",  # another execution of the same job was first; nothing was run
)


class EventLog:
    """Appends events of one rank; every event is one `write` of one line, so that readers never see half of one."""

    def __init__(self, path: Path, job: str, rank: int, restart: int = 0) -> None:
        make_private_folder(path.parent)
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._seq = 0
        place = {"host": socket.gethostname(), "pid": os.getpid()}
        self._base = {"v": VERSION, **place, "job": job, "rank": rank, "restart": restart}

    def append(self, type: str, /, **data: Any) -> None:
        """Record that something happened now."""
        if type not in TYPES:
            raise ValueError(f"unknown event type {type!r}")
        event = {
            **self._base,
            "seq": self._seq,
            "wall_ns": time.time_ns(),
            "mono_ns": time.monotonic_ns(),
            "type": type,
            "data": data,
        }
        self._seq += 1
        os.write(self._fd, (json.dumps(event, default=str) + "\n").encode())

    def phase(self, name: str) -> None:
        """Record that a phase begins."""
        if name not in PHASES:
            raise ValueError(f"unknown phase {name!r}")
        self.append("phase", name=name)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def read_events(path: Path, offset: int = 0) -> "Iterator[tuple[Dict[str, Any], int]]":
    """Yield the events of a file from a byte offset on, each with the offset after it; an unfinished last line waits."""
    try:
        with open(path, "rb") as stream:
            stream.seek(offset)
            for line in stream:
                if not line.endswith(b"\n"):
                    return
                offset += len(line)
                event = parse_event(line)
                if event is not None:
                    yield event, offset
    except FileNotFoundError:
        return


def parse_event(line: bytes) -> Optional[Dict[str, Any]]:
    """Return one event, or None for a line that is none."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    if isinstance(event, dict) and event.get("v") == VERSION and isinstance(event.get("data"), dict):
        return event
    return None
