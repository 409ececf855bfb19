"""The meeting of ranks: real processes, leftovers of earlier executions, ranks that die."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from aifactory_bench.node.barrier import Barrier, BarrierBroken
from aifactory_bench.node.files import write_json
from aifactory_bench.node.paths import RunPaths

PARTICIPANTS = {"afb-r-a-1": 2, "afb-r-b-1": 1}
RANKS = [("afb-r-a-1", 0), ("afb-r-a-1", 1), ("afb-r-b-1", 0)]

MEMBER = """
import json, sys, time
from pathlib import Path
from aifactory_bench.node.barrier import Barrier, BarrierBroken
from aifactory_bench.node.paths import RunPaths
folder, token, rank, participants, wait_s, timeout_s = sys.argv[1:]
time.sleep(float(wait_s))
barrier = Barrier(RunPaths(Path(folder)), "p0000-r1", token, int(rank), json.loads(participants))
try:
    start = barrier.meet(float(timeout_s), lambda: None)
except BarrierBroken as error:
    print(json.dumps({"broken": str(error)}))
else:
    now_ns = time.monotonic_ns()
    print(json.dumps({"mono_ns": start.mono_ns, "wall_ns": start.wall_ns, "now_ns": now_ns, "late_s": start.late_s}))
"""


@pytest.fixture
def run(tmp_path):
    """The paths of an empty run folder."""
    return RunPaths(tmp_path / "run")


@pytest.fixture
def member(run):
    """A function that starts one rank as a process; the rest are ended with the test."""
    started = []

    def start(rank, wait_s=0.0, timeout_s=20.0, participants=PARTICIPANTS):
        argv = [sys.executable, "-c", MEMBER, str(run.folder), rank[0], str(rank[1]), json.dumps(participants)]
        process = subprocess.Popen([*argv, str(wait_s), str(timeout_s)], stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def answer(process):
    output, _ = process.communicate(timeout=30)
    return json.loads(output)


def test_all_start_at_one_instant(member):
    """However late one comes; and all know it before it begins."""
    answers = [answer(process) for process in [member(rank, wait_s=0.3 * number) for number, rank in enumerate(RANKS)]]
    assert len({found["wall_ns"] for found in answers}) == 1
    # Derived from the wall clock by each on its own: apart by what lies between two readings of the clocks.
    assert max(found["mono_ns"] for found in answers) - min(found["mono_ns"] for found in answers) < 50_000_000
    assert all(found["mono_ns"] > found["now_ns"] for found in answers if not found["late_s"])


def test_one_that_has_ended_ends_it_for_all(member, run):
    """By its exit.json, long before the time is over."""
    waiting = [member(RANKS[0]), member(RANKS[1])]
    paths = run.job("afb-r-b-1").rank(0)
    paths.folder.mkdir(parents=True)
    write_json(paths.exit, {"v": 1, "outcome": "failed"})
    began = time.monotonic()
    assert ["afb-r-b-1.0 has ended" in answer(process)["broken"] for process in waiting] == [True, True]
    assert time.monotonic() - began < 10


def test_one_that_is_killed_while_waiting_ends_it_when_its_end_is_written(member, run):
    """The leader dies: its arrival is there, its go will never be."""
    leader = member(RANKS[0])
    deadline = time.monotonic() + 10
    while not (run.barriers / "p0000-r1" / "afb-r-a-1.0.json").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    leader.kill()
    waiting = [member(RANKS[1]), member(RANKS[2])]
    time.sleep(0.5)
    paths = run.job("afb-r-a-1").rank(0)
    paths.folder.mkdir(parents=True)
    write_json(paths.exit, {"v": 1, "outcome": "failed"})
    assert all("afb-r-a-1.0 has ended" in answer(process)["broken"] for process in waiting)


def test_one_that_fails_early_lets_the_others_know_why(member, run):
    """The text travels."""
    waiting = [member(RANKS[0]), member(RANKS[2])]
    Barrier(run, "p0000-r1", "afb-r-a-1", 1, PARTICIPANTS).fail("prepare: no space left")
    assert all("afb-r-a-1.1: prepare: no space left" in answer(process)["broken"] for process in waiting)


def test_the_time_ends_it_and_names_who_is_missing(member):
    """For those too whose own time is not over yet."""
    patient = member(RANKS[1], timeout_s=60)
    assert "afb-r-b-1.0 did not come within 1 s" in answer(member(RANKS[0], timeout_s=1))["broken"]
    assert "did not come" in answer(patient)["broken"]


def test_a_reason_to_stop_ends_it(run):
    """Asked at every look."""
    with pytest.raises(BarrierBroken, match="told to stop"):
        Barrier(run, "p", "afb-r-a-1", 1, PARTICIPANTS).meet(60, lambda: "told to stop")
    assert "told to stop" in (run.barriers / "p" / "afb-r-a-1.1.failed").read_text()


def test_one_rank_alone_needs_no_folder(run):
    """The most common case touches no file system."""
    start = Barrier(run, "p", "a", 0, {"a": 1}).meet(1, lambda: None)
    assert start.mono_ns > time.monotonic_ns() - 1_000_000_000
    assert not run.folder.exists()


def test_the_start_lies_as_far_ahead_as_the_slowest_needs(run):
    """What one alone needs is its own, and hardly more."""
    now_ns = time.monotonic_ns()
    alone = Barrier(run, "p", "a", 0, {"a": 1}).meet(1, lambda: None, ready_s=2.0)
    assert (alone.mono_ns - now_ns) / 1e9 >= 2.0
    assert Barrier(run, "p", "a", 0, {"a": 1}).meet(1, lambda: None).mono_ns - time.monotonic_ns() <= 50_000_000
    found = []
    slow = Barrier(run, "p", "b", 0, {"a": 1, "b": 1})
    other = threading.Thread(target=lambda: found.append(slow.meet(20, lambda: None, ready_s=3.0)))
    other.start()
    start = Barrier(run, "p", "a", 0, {"a": 1, "b": 1}).meet(20, lambda: None, ready_s=1.0)
    other.join()
    assert start.wall_ns == found[0].wall_ns
    assert (start.mono_ns - time.monotonic_ns()) / 1e9 > 1.5


def _finish_one_meeting(run):
    threads = [
        threading.Thread(target=Barrier(run, "p0000-r1", *rank, PARTICIPANTS).meet, args=(20, lambda: None)) for rank in RANKS
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (run.barriers / "p0000-r1" / "go.json").exists()


@pytest.mark.parametrize("first", RANKS)
def test_what_an_earlier_execution_left_lets_nobody_through(member, run, first):
    """A complete old meeting lies there; the new one starts only when all have come anew, whoever comes first."""
    _finish_one_meeting(run)
    old = json.loads((run.barriers / "p0000-r1" / "go.json").read_text())["start_wall_ns"]
    early = member(first)
    time.sleep(0.7)
    assert early.poll() is None
    answers = [answer(process) for process in [early, *(member(rank) for rank in RANKS if rank != first)]]
    starts = {found["wall_ns"] for found in answers}
    assert len(starts) == 1
    assert starts.pop() > old


def test_a_failure_of_an_earlier_execution_is_forgotten(run, member):
    """By the rank itself, before it comes again."""
    barrier = Barrier(run, "p0000-r1", *RANKS[2], PARTICIPANTS)
    barrier.fail("an earlier trouble")
    barrier.forget()
    barrier.forget()
    assert all("wall_ns" in answer(process) for process in [member(rank) for rank in RANKS])


def test_damaged_files_are_waited_out(run):
    """Half a document, or another one, is no arrival."""
    folder = run.barriers / "p"
    folder.mkdir(parents=True)
    for name in ("afb-r-a-1.0.json", "go.json"):
        (folder / name).write_text('{"call": ')
    with pytest.raises(BarrierBroken, match=r"afb-r-a-1\.0 did not come"):
        Barrier(run, "p", "afb-r-a-1", 1, PARTICIPANTS).meet(0.2, lambda: None)


def test_who_does_not_belong_there_is_an_error(run):
    """A plan that does not name the rank among the participants is wrong."""
    with pytest.raises(ValueError, match=r"c\.0 is none of those"):
        Barrier(run, "p", "c", 0, PARTICIPANTS)


def test_path_names(run):
    """One folder a meeting, below the run's barriers."""
    Barrier(run, "p-end", "afb-r-a-1", 0, PARTICIPANTS).fail("x")
    assert (run.barriers / "p-end" / "afb-r-a-1.0.failed").is_file()
    assert Path(run.barriers / "p-end").stat().st_mode & 0o777 == 0o700
