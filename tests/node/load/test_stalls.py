"""A generator that did not run is told from one that worked and from one that waited."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from aifactory_bench.node.contract import Context
from aifactory_bench.node.load import run_load
from aifactory_bench.node.load.stalls import Stalls

Make = Callable[..., Context]
MS = 1_000_000
SERVER = """
import socket, threading
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
def serve(connection):
    while data := connection.recv(65536):
        connection.sendall(data)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""


@pytest.fixture
def other_server() -> Iterator[tuple[int, int]]:
    """A server in a process of its own: process id and port."""
    with subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())
        process.kill()


@contextmanager
def stopped(after_s: float, for_s: float, pid: Callable[[], int]) -> Iterator[None]:
    """Stop a process after a time, and let it go on."""

    def stop() -> None:
        time.sleep(after_s)
        victim = pid()
        os.kill(victim, signal.SIGSTOP)
        time.sleep(for_s)
        os.kill(victim, signal.SIGCONT)

    thread = threading.Thread(target=stop)
    thread.start()
    try:
        yield
    finally:
        thread.join()


@pytest.mark.parametrize("process", ["closed", "poisson"])
def test_a_stopped_worker_is_stalled(
    other_server: tuple[int, int],
    line_driver: Any,
    context_of: Make,
    soon: Callable[[], int],
    workers: Callable[[], list[int]],
    process: str,
) -> None:
    """For as long as it was stopped, in one piece."""
    pid, port = other_server

    def worker() -> int:
        return next(found for found in workers() if found != pid)

    load = {"process": process, "rate_per_s": 200.0, "concurrency": 4, "connections": 4, "duration_s": 3.0}
    with stopped(1.0, 1.0, worker):
        result = run_load(context_of(**load), line_driver(port), soon(), lambda: None)
    assert result.status == "ok"
    assert 0.9 < result.health.stalled_max_s < 1.5
    assert result.health.stalled_max_s <= result.health.stalled_s < 2.0


def test_a_stopped_server_is_not_the_generators_fault(
    other_server: tuple[int, int], line_driver: Any, context_of: Make, soon: Callable[[], int]
) -> None:
    """The generator sleeps meanwhile, and wakes up on time."""
    pid, port = other_server
    with stopped(1.0, 1.0, lambda: pid):
        result = run_load(context_of(concurrency=4, duration_s=3.0), line_driver(port), soon(), lambda: None)
    assert result.status == "ok"
    assert result.latency["all"]["send"]["max_ns"] > 900 * MS
    assert result.health.stalled_max_s < 0.5


def test_a_worker_stopped_beyond_the_end_and_the_time_limit(
    other_server: tuple[int, int], line_driver: Any, context_of: Make, soon: Callable[[], int], workers: Callable[[], list[int]]
) -> None:
    """The window is as long as planned, nothing is sent after it, and answers that came meanwhile are no timeouts."""
    pid, port = other_server

    def worker() -> int:
        return next(found for found in workers() if found != pid)

    with stopped(0.7, 2.0, worker):
        load = {"concurrency": 4, "duration_s": 1.0, "timeout_s": 0.5}
        result = run_load(context_of(**load), line_driver(port), soon(), lambda: None)
    assert (result.window_s, result.end_wall_ns - result.start_wall_ns) == (1.0, 1000 * MS)
    assert result.achieved_per_s == pytest.approx(result.counts.ok / 1.0)
    assert result.counts.timeout == 0
    assert result.phase_counts["drain"]["ok"] <= 4
    assert 0.2 < result.health.stalled_s < 0.7


class TestStalls:
    """With clocks that the test holds."""

    @pytest.fixture
    def cpu_ns(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """The CPU clock."""
        cpu = [0]
        monkeypatch.setattr(time, "thread_time_ns", lambda: cpu[0])
        return cpu

    @pytest.mark.parametrize(
        ("from_ms", "to_ms", "cpu_ms", "counted_ms", "found"),
        [
            (1000, 1020, 0, 0, False),  # asleep, then the least stall
            (1000, 1021, 0, 11, True),
            (1000, 1500, 480, 0, False),  # at work
            (1000, 1500, 100, 390, True),
            (600, 1500, 0, 500, True),  # from before the window
            (1900, 9000, 0, 100, True),  # to beyond it
            (100, 900, 0, 0, True),  # before it
            (2100, 9000, 0, 0, True),  # after it
        ],
    )
    def test_what_is_neither_work_nor_sleep(
        self, cpu_ns: list[int], from_ms: int, to_ms: int, cpu_ms: int, counted_ms: int, found: bool
    ) -> None:
        """Is a stall, and counts as far as it lies in the window."""
        stalls = Stalls(1000 * MS)
        stalls.begin(from_ms * MS)
        cpu_ns[0] += cpu_ms * MS
        assert stalls.look(to_ms * MS, 2000 * MS) is found
        assert (stalls.total_ns, stalls.longest_ns) == (counted_ms * MS, counted_ms * MS)

    def test_stalls_add_up(self, cpu_ns: list[int]) -> None:
        """And the longest is kept."""
        stalls = Stalls(0)
        stalls.begin(0)
        for now_ms in (50, 55, 200, 205, 230):
            stalls.look(now_ms * MS, 2000 * MS)
        assert (stalls.total_ns, stalls.longest_ns) == ((40 + 135 + 15) * MS, 135 * MS)
