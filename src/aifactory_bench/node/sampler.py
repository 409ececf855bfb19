"""The monitor `node`: CPU, memory and network of the node and of the job's processes, one row of CSV a sample.

Columns carry their unit. `job_*` is the sum over the processes that `pids` names and their descendants; CPU seconds
include children that have ended, so they never fall. A field that cannot be read is empty. Loopback traffic stands apart
from the network's.
"""

import os
import threading
import time
from pathlib import Path
from typing import Callable, Iterable, Optional, Sequence, Tuple, Union

from .files import PRIVATE_FILE, make_private_folder
from .procfs import ProcessTrees, node_cpu_ticks, node_memory_used_bytes, node_network_bytes

COLUMNS = (
    "wall_ns",
    "mono_ns",
    "node_cpu_busy_share",
    "node_memory_used_bytes",
    "job_cpu_s",
    "job_rss_bytes",
    "job_threads",
    "net_rx_bytes",
    "net_tx_bytes",
    "lo_rx_bytes",
    "lo_tx_bytes",
    "load_1min",
)
_Field = Union[int, float, None]


class NodeSampler:
    """Writes samples from a thread of its own on a schedule that does not drift; one that is missed is left out."""

    def __init__(self, path: Path, interval_s: float, pids: Callable[[], Iterable[int]]) -> None:
        if interval_s <= 0:
            raise ValueError(f"the interval of the node sampler must be above 0 s, got {interval_s}")
        self._path = path
        self._interval_s = interval_s
        self._trees = ProcessTrees(pids)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="node-sampler", daemon=True)
        self._cpu_ticks: Optional[Tuple[int, int]] = None
        self._failure: Optional[str] = None

    def start(self) -> None:
        """Begin; the first row is written at once, its busy share still empty."""
        self._thread.start()

    def stop(self, limit_s: Optional[float] = None) -> Optional[str]:
        """End after one last row; return why sampling failed before, or None. What hangs past the limit is left behind."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(limit_s)
        return self._failure

    @property
    def failure(self) -> Optional[str]:
        """Why sampling has stopped by itself, or None."""
        return self._failure

    def _run(self) -> None:
        try:
            make_private_folder(self._path.parent)
            fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
            try:
                if os.fstat(fd).st_size == 0:
                    os.write(fd, (",".join(COLUMNS) + "\n").encode())
                self._sample_until_ended(fd)
            finally:
                os.close(fd)
        except Exception as error:  # a monitor never fails its job: whoever asks is told
            self._failure = f"{type(error).__name__}: {error}"

    def _sample_until_ended(self, fd: int) -> None:
        due = time.monotonic()
        while True:
            os.write(fd, _row(self._sample()))
            if self._ended.is_set():
                return
            due += self._interval_s
            behind = time.monotonic() - due
            if behind > 0:
                due += (behind // self._interval_s + 1) * self._interval_s
            self._ended.wait(max(0.0, due - time.monotonic()))

    def _sample(self) -> Sequence[_Field]:
        job = self._trees.read()
        network = node_network_bytes()
        try:
            load: Optional[float] = os.getloadavg()[0]
        except OSError:
            load = None
        return [
            time.time_ns(),
            time.monotonic_ns(),
            self._busy_share(),
            node_memory_used_bytes(),
            job.cpu_s,
            job.rss_bytes,
            job.threads,
            *(network or (None, None, None, None)),
            load,
        ]

    def _busy_share(self) -> Optional[float]:
        before, self._cpu_ticks = self._cpu_ticks, node_cpu_ticks()
        if before is None or self._cpu_ticks is None:
            return None
        busy, total = self._cpu_ticks[0] - before[0], self._cpu_ticks[1] - before[1]
        return min(1.0, max(0.0, busy / total)) if total > 0 else None


def _row(values: Sequence[_Field]) -> bytes:
    return (",".join(map(_text, values)) + "\n").encode()


def _text(value: _Field) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)
