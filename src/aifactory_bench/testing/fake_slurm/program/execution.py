"""Processes of executed jobs: how they are started, told to end, and found."""

import os
import signal
import sys
import time

from .store import Store, alive

MARK = "FAKE_SLURM_FOLDER"
"""Variable in the environment of every job; its value is the folder of the cluster."""
LAUNCH_LIMIT_S = 3.0
"""After this time an executor that has not reported is started once more; only one of them is let in."""

TERMINATE = signal.SIGTERM
KILL = signal.SIGUSR1
"""What tells an executor to end its job: with a warning, or at once."""
_AT_ONCE = ("NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL")


def start_text(folder: str, command: str) -> "list[str]":
    """Return what runs a command of the cluster in the folder, without its arguments."""
    place = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    # Isolated and without site-packages: a third of the start-up time, and nothing of the caller's environment counts.
    run = f"import sys; sys.path.insert(0, {place!r}); from program.main import main; main()"
    return [sys.executable, "-IS", "-c", run, folder, command]


class Effects:
    """What a transaction asks of processes. Made within it, done after it."""

    def __init__(self, store: Store) -> None:
        self._folder = store.folder
        self._launches: list[int] = []
        self._signals = store.signals
        if store.setting("closed"):
            return
        columns = "key, state, outcome, exit_signal, pid, ticks, launched"
        running = f"SELECT {columns} FROM jobs WHERE mode = 'execute' AND state IN ('RUNNING', 'COMPLETING')"  # noqa: S608
        now = time.time()
        for key, state, outcome, number, pid, ticks, launched in store.query(running):
            if state == "RUNNING" and pid is None and not launched <= now < launched + LAUNCH_LIMIT_S:
                store.query("UPDATE jobs SET launched = ? WHERE key = ?", now, key)
                self._launches.append(key)
            elif state == "COMPLETING" and alive(pid, ticks):
                # Whoever looks at the queue says it again, in case the one who said it first was killed.
                self._signals.append((pid, KILL if outcome in _AT_ONCE or number == signal.SIGKILL else TERMINATE))

    def do(self) -> None:
        """Start executors and send signals."""
        for pid, number in self._signals:
            send(pid, number)
        for key in self._launches:
            _launch(self._folder, key)


def send(pid: int, number: int) -> None:
    """Send a signal to a process, which may have ended."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _launch(folder: str, key: int) -> None:
    """Start the executor of a job, as a process of nobody's."""
    null = os.open(os.devnull, os.O_RDWR)
    try:
        # The shell ends at once; what it leaves behind is no child of a test, which would have to wait for it.
        pid = os.posix_spawn(
            "/bin/sh",
            ["/bin/sh", "-c", '"$@" &', "sh", *start_text(folder, "slurmstepd"), str(key)],
            dict(os.environ) | {MARK: folder},
            file_actions=[(os.POSIX_SPAWN_DUP2, null, fd) for fd in (0, 1, 2)],
            setsid=True,
        )
    finally:
        os.close(null)
    os.waitpid(pid, 0)


def processes_of(folder: str) -> "list[int]":
    """Return the processes of a cluster: jobs and their executors, and calls that have not ended."""
    mark, place = os.fsencode(f"{MARK}={folder}"), os.fsencode(folder)
    found = []
    for pid in processes():
        words = _read(f"/proc/{pid}/cmdline").split(b"\0")
        if (words[1:3] == [b"-IS", b"-c"] and words[4:5] == [place]) or mark in _read(f"/proc/{pid}/environ").split(b"\0"):
            found.append(pid)
    return found


def descendants(pid: int) -> "list[int]":
    """Return the processes that a process has started, and they, and so on."""
    children: dict[int, list[int]] = {}
    for other in processes():
        fields = _read(f"/proc/{other}/stat").rpartition(b")")[2].split()
        if fields and fields[0] != b"Z":
            children.setdefault(int(fields[1]), []).append(other)
    found, at = [pid], 0
    while at < len(found):
        found += children.get(found[at], [])
        at += 1
    return found[1:]


def processes() -> "list[int]":
    """Return the ids of all processes but our own."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:  # it has ended, or is not ours
        return b""
