"""What the exit records of a job that runs no more say of its end."""

import os
from pathlib import Path
from typing import Any, Optional

from ..node.files import read_json
from ..node.paths import JobPaths
from .base import JobState

_STATES = {"completed": JobState.COMPLETED, "stopped": JobState.CANCELLED, "timeout": JobState.TIMEOUT}


def begun_ranks(paths: JobPaths) -> "set[int]":
    """Return the ranks that have a folder."""
    try:
        return {int(entry.name) for entry in paths.folder.iterdir() if entry.name.isdecimal()}
    except (FileNotFoundError, NotADirectoryError):
        return set()


def last_restart(paths: JobPaths, ranks: int) -> int:
    """Return the highest restart count that a last word is of; -1: there is none."""
    restarts = [_restart(_record(paths, rank)) for rank in range(ranks) if paths.rank(rank).exit.exists()]
    return max(restarts, default=-1)


def all_said(paths: JobPaths, ranks: int, restart: int = 0) -> bool:
    """Whether every rank has written its last word; restart: words of an earlier execution do not count."""
    return all(
        paths.rank(rank).exit.exists() and (not restart or _restart(_record(paths, rank)) >= restart) for rank in range(ranks)
    )


def owner_id(paths: JobPaths) -> "Optional[str]":
    """Return the id of the job that has claimed the folder, None where none has."""
    try:
        owner = read_json(paths.claim / "owner.json", limit_bytes=1 << 16)
    except ValueError:
        return None
    job_id = str(owner.get("job_id")) if isinstance(owner, dict) else ""
    return job_id if job_id.isdecimal() else None


def _record(paths: JobPaths, rank: int) -> "Optional[dict[str, Any]]":
    try:
        record = read_json(paths.rank(rank).exit, limit_bytes=1 << 20)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _restart(record: "Optional[dict[str, Any]]") -> int:
    restart = (record or {}).get("restart", 0)
    return restart if isinstance(restart, int) else 0


def how_it_ended(paths: JobPaths, ranks: int) -> "tuple[JobState, str]":
    """Return state and text; ranks: how many the job has, 0 when that is not known."""
    begun = begun_ranks(paths)
    if not begun:
        return JobState.FAILED, tail(paths.log) or "the job ended before its node side began"
    worst, text = JobState.COMPLETED, ""
    for rank in sorted(begun.union(range(ranks))):
        record = _record(paths, rank)
        if record is None:
            how = "ended without a word" if rank in begun else "never began"
            return JobState.FAILED, f"rank {rank} {how}; {tail(paths.log)}".rstrip("; ")
        state = _STATES.get(str(record.get("outcome")), JobState.FAILED)
        if state is not JobState.COMPLETED and worst in (JobState.COMPLETED, JobState.CANCELLED):
            worst, text = state, str(record.get("text", ""))
    return worst, text


def tail(log: Path, limit_bytes: int = 2048) -> str:
    """Return the end of a log, printable; empty when there is none."""
    try:
        with open(log, "rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - limit_bytes))
            text = stream.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    return "".join(character for character in text if character.isprintable() or character == "\n").strip()
