"""The node sampler: a busy child, processes that come and go, its own cost."""

import contextlib
import csv
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from aifactory_bench.node import procfs
from aifactory_bench.node.procfs import ProcessTrees, descendants, process_stat
from aifactory_bench.node.sampler import COLUMNS, NodeSampler

BURN = "import time\nend = time.monotonic() + float('{seconds}')\nwhile time.monotonic() < end: pass"


@pytest.fixture
def child():
    """A function that starts a Python program; it is ended with the test."""
    started = []

    def start(code):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
        started.append(process)
        return process

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def rows(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_busy_child_is_seen(tmp_path, child):
    """Its CPU seconds, its memory; columns as documented."""
    process = child(BURN.format(seconds=60))
    path = tmp_path / "samples" / "node.csv"
    sampler = NodeSampler(path, 0.1, lambda: [process.pid])
    sampler.start()
    time.sleep(1.5)
    assert sampler.stop() is None
    found = rows(path)
    assert tuple(found[0]) == COLUMNS
    assert found[0]["node_cpu_busy_share"] == ""
    assert float(found[-1]["job_cpu_s"]) - float(found[0]["job_cpu_s"]) > 0.2
    assert int(found[-1]["job_rss_bytes"]) > 1 << 20
    assert int(found[-1]["job_threads"]) == 1
    assert all(0 <= float(row["node_cpu_busy_share"]) <= 1 for row in found[2:] if row["node_cpu_busy_share"])
    assert int(found[-1]["node_memory_used_bytes"]) > 1 << 20
    assert path.stat().st_mode & 0o777 == 0o600


def test_samples_keep_to_the_schedule(tmp_path, monkeypatch):
    """However long a sample takes, the next ones lie at whole numbers of intervals; missed ones do not come in a burst."""
    path = tmp_path / "node.csv"
    sampler = NodeSampler(path, 0.2, lambda: [os.getpid()])
    read = sampler._trees.read
    monkeypatch.setattr(sampler._trees, "read", lambda: (time.sleep(0.09), read())[1])
    sampler.start()
    time.sleep(2.5)
    sampler.stop()
    times = [int(row["mono_ns"]) / 1e9 for row in rows(path)]
    offsets = [(moment - times[0]) / 0.2 for moment in times[1:-1]]
    assert 3 <= len(offsets) <= 13
    # Had each waited 0.2 s after the last, they would lie anywhere.
    assert statistics.median(abs(offset - round(offset)) for offset in offsets) < 0.2


def test_stopping_is_prompt_and_leaves_a_last_row(tmp_path):
    """Also with a long interval."""
    path = tmp_path / "node.csv"
    sampler = NodeSampler(path, 3600, lambda: [os.getpid()])
    sampler.start()
    time.sleep(0.3)
    began = time.monotonic()
    sampler.stop()
    assert time.monotonic() - began < 2
    assert len(rows(path)) == 2


def test_seconds_do_not_fall_when_processes_vanish(child):
    """Roots that end, and grandchildren whose parent does not wait for them."""
    code = (
        "import os, sys, time\nif os.fork() == 0:\n    end = time.process_time() + 0.5\n"
        "    while time.process_time() < end: pass\n"
        "    time.sleep(0.3)\n    os._exit(0)\nprint('up', flush=True)\ntime.sleep(60)"
    )
    parent, other = child(code), child("import time; time.sleep(60)")
    roots = [parent.pid, other.pid]
    trees = ProcessTrees(lambda: roots)
    trees._search_due = 0.0
    seconds, deadline = [0.0], time.monotonic() + 10
    while seconds[-1] < 0.45 and time.monotonic() < deadline:
        trees._search_due = 0.0
        seconds.append(trees.read().cpu_s)
        time.sleep(0.05)
    assert seconds[-1] >= 0.45
    parent.kill()
    parent.wait()
    for _ in range(10):
        seconds.append(trees.read().cpu_s)
        time.sleep(0.05)
    assert seconds == sorted(seconds)
    assert seconds[-1] >= 0.45


def test_seconds_of_a_child_that_was_waited_for_are_counted_once(child):
    """The kernel adds them to the parent's account."""
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    process = child(
        f"import subprocess, sys, time\nsubprocess.run([sys.executable, '-c', {burn!r}])\n"
        "print('done', flush=True)\ntime.sleep(60)"
    )
    trees = ProcessTrees(lambda: [process.pid])
    seen = 0.0
    stop = threading.Event()

    def watch():
        nonlocal seen
        while not stop.is_set():
            trees._search_due = 0.0
            seen = trees.read().cpu_s
            time.sleep(0.02)

    thread = threading.Thread(target=watch)
    thread.start()
    process.stdout.readline()
    time.sleep(0.2)
    stop.set()
    thread.join()
    # The kernel counts in ticks of 10 ms, and rounds user and system time down, of the child and of its parent.
    assert 0.3 - 0.04 < seen <= process_stat(process.pid).cpu_s + 0.05


def test_descendants_without_the_kernels_list(child, monkeypatch):
    """A kernel without CONFIG_PROC_CHILDREN: the same, found from the parents."""
    process = child("import os, time\nos.fork() or os.fork()\ntime.sleep(60)")
    deadline = time.monotonic() + 10
    while len(descendants([process.pid])) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    expected = descendants([process.pid])
    assert len(expected) == 3
    monkeypatch.setattr(procfs, "_kernel_lists_children", lambda: False)
    assert descendants([process.pid]) == expected


def test_a_name_with_brackets_and_blanks_is_read(tmp_path):
    """The second field of a stat line may hold anything."""
    link = tmp_path / "a) (b"
    link.symlink_to("/bin/sleep")
    process = subprocess.Popen([str(link), "60"])
    try:
        deadline = time.monotonic() + 5
        while "a) (b" not in Path(f"/proc/{process.pid}/stat").read_text() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert process_stat(process.pid).parent == os.getpid()
    finally:
        process.kill()
        process.wait()
    assert process_stat(process.pid) is None


def test_a_folder_that_cannot_be_written_is_told_not_raised(tmp_path):
    """The job goes on without samples."""
    (tmp_path / "file").write_text("")
    sampler = NodeSampler(tmp_path / "file" / "node.csv", 0.1, lambda: [os.getpid()])
    sampler.start()
    assert "Error" in sampler.stop()
    with pytest.raises(ValueError, match="above 0"):
        NodeSampler(tmp_path / "node.csv", 0, list)


def test_cpu_cost_is_small(tmp_path):
    """Far below the half of a hundredth of a core at one sample a second, with room for a slow machine."""
    sampler = NodeSampler(tmp_path / "node.csv", 1.0, lambda: [os.getpid()])
    sampler._sample()
    began = time.thread_time()
    for _ in range(50):
        sampler._sample()
    assert (time.thread_time() - began) / 50 < 0.005
