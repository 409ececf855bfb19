"""The journal of a run: what the controller meant to do, and did. Append-only, each line on disk before the next step."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

TYPES = frozenset(
    {
        "attached",  # data: pid, host; a controller took the run up
        "submit_intent",  # data: token
        "submitted",  # data: token, job_id
        "job_final",  # data: token, state, text
        "stop_intent",  # data: reason
        "kill_intent",  # data: tokens
        "detached",  # data: reason
        "finished",  # data: status
    }
)


class Journal:
    """Appends entries; only the engine holds one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._end_torn_line()

    def _end_torn_line(self) -> None:
        """End a line that a killed controller left unfinished, so that the next entry is not glued to it."""
        size = os.fstat(self._fd).st_size
        if size and os.pread(self._fd, 1, size - 1) != b"\n":
            os.write(self._fd, b"\n")

    def append(self, type: str, **data: Any) -> None:
        """Record an entry; when this returns, it is on disk.

        Raises:
            OSError: it cannot be written; with the file's name.
        """
        if type not in TYPES:
            raise ValueError(f"unknown journal entry {type!r}")
        entry = {"wall_ns": time.time_ns(), "type": type, "data": data}
        try:
            os.write(self._fd, (json.dumps(entry) + "\n").encode())
            os.fsync(self._fd)
        except OSError as error:
            error.filename = str(self._path)
            raise

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def read_journal(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the entries; torn lines of a killed controller are passed over."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and isinstance(entry.get("data"), dict) and entry.get("type") in TYPES:
            yield entry
