"""The state of the simulated cluster: one SQLite file, changed by one process at a time.

A process may be killed at any moment: the lock goes with it, and SQLite takes back what it had not committed.
"""

import fcntl
import os
import sqlite3
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Optional

from .job import ACTIVE, FIELDS, Job

_ACTIVE = ", ".join(f"'{state}'" for state in ACTIVE)
_SCHEMA = f"""
CREATE TABLE jobs (key INTEGER PRIMARY KEY AUTOINCREMENT, {", ".join(FIELDS[1:])});
CREATE INDEX jobs_due ON jobs (due) WHERE due IS NOT NULL;
CREATE INDEX jobs_active ON jobs (state) WHERE state IN ({_ACTIVE});
CREATE INDEX jobs_ended ON jobs (ended) WHERE gone = 0;
CREATE INDEX jobs_id ON jobs (job_id);
CREATE INDEX jobs_array ON jobs (array_id) WHERE array_id IS NOT NULL;
CREATE INDEX jobs_name ON jobs (name);
CREATE TABLE incarnations ({", ".join(FIELDS)});
CREATE TABLE scripts (key INTEGER PRIMARY KEY, script BLOB, environment BLOB);
CREATE TABLE steps (key INTEGER, pid INTEGER);
CREATE TABLE nodes (name TEXT PRIMARY KEY, cpus INTEGER, state TEXT, reason TEXT);
CREATE TABLE partitions (name TEXT PRIMARY KEY, limit_s REAL);
CREATE TABLE behaviours (pattern TEXT, mode TEXT, pending_s REAL, run_s REAL, completing_s REAL,
    final_state TEXT, final_exit INTEGER, final_signal INTEGER, reason TEXT);
CREATE TABLE faults (id INTEGER PRIMARY KEY AUTOINCREMENT, command TEXT, calls_left INTEGER, chance REAL, draws INTEGER,
    fired INTEGER, wait_s REAL, frozen INTEGER, waits TEXT, effect TEXT, late_s REAL, says TEXT, stdout TEXT, stderr TEXT,
    exit_code INTEGER, keep_bytes INTEGER, word TEXT);
CREATE TABLE calls (id INTEGER PRIMARY KEY AUTOINCREMENT, command TEXT, arguments TEXT, at REAL, exit_code INTEGER,
    fault INTEGER);
CREATE TABLE settings (name TEXT PRIMARY KEY, value);
"""


class Store:
    """`with Store(folder) as store:` is one transaction, alone on the whole state."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.crowded = False
        """Whether the queue or the nodes have changed, so that jobs may be able to start."""
        self.word = ""
        """What a fault lets squeue and sacct say of every job's state."""
        self.late_s = 0.0
        """How much later a fault lets appear what is submitted."""
        self.signals: list[tuple[int, int]] = []
        """Process ids and the signals that they get when the transaction is over."""

    def __enter__(self) -> "Store":
        self._lock = os.open(os.path.join(self.folder, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            self._database = sqlite3.connect(os.path.join(self.folder, "state.sqlite"), isolation_level=None)
            # A killed process loses nothing that it committed; only a crash of the machine would.
            self._database.execute("PRAGMA synchronous = OFF")
            self._database.execute("BEGIN IMMEDIATE")
        except BaseException:
            os.close(self._lock)
            raise
        return self

    def __exit__(
        self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None"
    ) -> None:
        try:
            self._database.execute("COMMIT" if kind is None else "ROLLBACK")
            self._database.close()
        finally:
            os.close(self._lock)

    @property
    def now(self) -> float:
        """The cluster's clock."""
        now = self.setting("now")
        return time.time() if now is None else float(now)

    def query(self, statement: str, *values: Any) -> "list[tuple[Any, ...]]":
        """Execute one statement and return its rows."""
        return self._database.execute(statement, values).fetchall()

    def insert(self, table: str, values: "dict[str, Any]") -> int:
        """Add a row and return its number."""
        marks = ", ".join("?" * len(values))
        statement = f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})"  # noqa: S608  # names of ours only
        return int(self._database.execute(statement, tuple(values.values())).lastrowid or 0)

    def setting(self, name: str) -> Any:
        """Return a setting's value."""
        return self._database.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()[0]

    def set(self, name: str, value: Any) -> None:
        """Change a setting."""
        self.query("INSERT OR REPLACE INTO settings VALUES (?, ?)", name, value)

    def jobs(self, where: str = "1", *values: Any, table: str = "jobs") -> "list[Job]":
        """Return the jobs that a condition of SQL holds for, by age unless it says otherwise."""
        order = "" if "ORDER BY" in where else " ORDER BY key"
        statement = f"SELECT {', '.join(FIELDS)} FROM {table} WHERE {where}{order}"  # noqa: S608  # conditions of ours only
        return [Job(**dict(zip(FIELDS, row, strict=True))) for row in self._database.execute(statement, values)]

    def job(self, key: int) -> Job:
        """Return one job."""
        return self.jobs("key = ?", key)[0]

    def active(self) -> "list[Job]":
        """Return every job to which something may still happen."""
        return self.jobs(f"state IN ({_ACTIVE})")

    def visible(self, names: "Sequence[str]" = ()) -> "list[Job]":
        """Return every job that the controller shows; names: only those, which is quick however long the queue is."""
        named = f" AND name IN ({', '.join('?' * len(names))})" if names else ""
        return self.jobs(f"gone = 0 AND appears <= ?{named}", self.now, *names)

    def named(self, shown_id: str) -> "list[Job]":
        """Return the jobs with an id: one, the tasks of an array, or none, because it was never given or is forgotten."""
        base, _, task = shown_id.partition("_")
        shown = f"gone = 0 AND appears <= {self.now!r}"
        if not base.isdigit():
            return []
        if task:
            tasks = _numbers(task.strip("[]"))
            return [job for job in self.jobs(f"array_id = ? AND {shown}", int(base)) if job.task in tasks]
        return self.jobs(f"(job_id = ? OR array_id = ?) AND {shown}", int(base), int(base))

    def save(self, job: Job, *fields: str) -> None:
        """Keep these fields of a job."""
        columns = ", ".join(f"{field} = ?" for field in fields)
        values = (getattr(job, field) for field in fields)
        self.query(f"UPDATE jobs SET {columns} WHERE key = ?", *values, job.key)  # noqa: S608  # names of ours only

    def next_id(self) -> int:
        """Take the next job id."""
        job_id = int(self.setting("next_id"))
        self.set("next_id", job_id + 1)
        return job_id


def create(folder: str, settings: "dict[str, Any]", nodes: "dict[str, int]", partitions: "dict[str, float]") -> None:
    """Make the state of a new cluster.

    Nodes are numbers of CPUs by name, partitions the longest time of a job in seconds by name; the first is the default.

    Raises:
        FileExistsError: the folder has one.
    """
    path = os.path.join(folder, "state.sqlite")
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    database = sqlite3.connect(path)
    database.executescript(_SCHEMA)
    database.executemany("INSERT INTO settings VALUES (?, ?)", settings.items())
    database.executemany("INSERT INTO nodes VALUES (?, ?, 'idle', '')", nodes.items())
    database.executemany("INSERT INTO partitions VALUES (?, ?)", partitions.items())
    database.commit()
    database.close()


def _numbers(text: str) -> "set[int]":
    """Return the numbers of `1,3-5`, empty where it is nothing of that kind."""
    found: set[int] = set()
    for part in text.partition("%")[0].split(","):
        first, _, last = part.partition("-")
        if first.isdigit() and (last or first).isdigit():
            found.update(range(int(first), int(last or first) + 1))
    return found


def alive(pid: "Optional[int]", ticks: int) -> bool:
    """Return whether the process of that id and start time runs."""
    if pid is None:
        return False
    state, started = stat(pid)
    return state not in ("", "Z", "X") and started == ticks


def stat(pid: int) -> "tuple[str, int]":
    """Return state and start time of a process; ("", 0) when there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return "", 0
    return fields[0].decode(), int(fields[19])
