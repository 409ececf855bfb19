"""The last file of a rank, `exit.json`: how it ended, for the controller, for other jobs and for people."""

import json
import re
from pathlib import Path
from typing import Any, Dict, Iterable, Optional

from .ending import Ending
from .events import read_events
from .files import read_json, write_json
from .paths import RankPaths

VERSION = 1
TAIL_BYTES = 4096
_READ_BYTES = 16384
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[@-Z\\-_]")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def clean(text: str, hidden: Iterable[str]) -> str:
    """Return text fit for any terminal: no escapes, no control characters but tab and newline, passwords as `***`."""
    return masked(_CONTROLS.sub("", _ESCAPES.sub("", text.replace("\r\n", "\n"))), hidden)


def masked(text: str, secrets: Iterable[str]) -> str:
    """Return the text with every secret replaced by `***`; the longest first, so that none is left in part."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def log_tail(path: Path, hidden: Iterable[str], start_bytes: int = 0) -> str:
    """Return the cleaned end of a log, at most 4 KiB; empty when there is none. What lies before `start_bytes` is left out."""
    try:
        with open(path, "rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(start_bytes, size - _READ_BYTES))
            data = stream.read(_READ_BYTES)
    except OSError:
        return ""
    text = clean(data.decode("utf-8", "replace"), hidden).encode()
    return text[-TAIL_BYTES:].decode("utf-8", "ignore").strip("\n")


def last_line(tail: str) -> str:
    """Return the last line that says something, shortened; empty when none does."""
    return tail.rstrip().rpartition("\n")[2].strip()[:300]


def phases_s(events: Path, offset: int, ended_mono_ns: int) -> Dict[str, float]:
    """Return the seconds spent in each phase, from the events behind a byte offset; a phase lasts until the next begins."""
    found: Dict[str, float] = {}
    name: Optional[str] = None
    since = 0
    starts = [
        (event["mono_ns"], event["data"].get("name"))
        for event, _ in read_events(events, offset)
        if event.get("type") == "phase"
    ]
    for mono_ns, next_name in [*sorted(starts, key=lambda start: int(start[0])), (ended_mono_ns, None)]:
        if name is not None:
            found[name] = round(found.get(name, 0.0) + (mono_ns - since) / 1e9, 6)
        name, since = next_name, mono_ns
    return found


def write_exit(paths: RankPaths, ending: Ending, hidden: Iterable[str], more: Dict[str, Any]) -> None:
    """Write the record, atomically.

    Raises:
        OSError: it cannot be written.
    """
    hidden = tuple(hidden)
    write_json(
        paths.exit,
        {
            "v": VERSION,
            "outcome": ending.outcome,
            "text": clean(ending.text, hidden),
            "exit_code": ending.exit_code,
            "signal": ending.signal,
            "log_tail": log_tail(paths.log, hidden),
            **more,
        },
    )


def read_exit(paths: RankPaths) -> Optional[Dict[str, Any]]:
    """Return how a rank ended, or None while it has not; a damaged record reads as a failure that says so."""
    try:
        record = read_json(paths.exit, limit_bytes=1 << 20)
    except ValueError as error:
        return {"outcome": "failed", "text": str(error)}
    if record is None or isinstance(record, dict):
        return record
    return {"outcome": "failed", "text": f"{paths.exit}: {json.dumps(record)[:80]} is not a record"}
