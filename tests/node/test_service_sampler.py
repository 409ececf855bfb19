"""The monitor of the service's own figures: what it writes, what it tells of failures, and that it always ends."""

import csv
import threading
import time
from itertools import pairwise

import pytest

from aifactory_bench.node.monitors import Monitors
from aifactory_bench.node.paths import RankPaths
from aifactory_bench.node.service_sampler import ServiceSampler


@pytest.fixture
def sampled(tmp_path):
    """Returns a function: samples a reader until a condition holds; gives the rows and the failures."""

    def sampled(read, until, interval_s=0.02):
        path = tmp_path / "samples" / "service.csv"
        sampler = ServiceSampler(path, interval_s, read)
        sampler.start()
        end = time.monotonic() + 10
        while not until() and time.monotonic() < end:
            time.sleep(0.005)
        sampler.stop(5.0)
        with path.open(newline="") as stream:
            return list(csv.DictReader(stream)), sampler.take_failures()

    return sampled


def test_rows(sampled):
    """Clocks in whole nanoseconds, whole numbers as such, nothing for what is not known."""
    calls = []

    def read():
        calls.append(time.time_ns())
        return {"tokens": 12345678901.0, "share": 0.125, "none": None, "n": 3, "bad": float("nan")}

    rows, failures = sampled(read, lambda: len(calls) >= 3)
    assert failures == []
    assert len(rows) == len(calls)
    first = rows[0]
    assert list(first) == ["wall_ns", "mono_ns", "tokens", "share", "none", "n", "bad"]
    assert (first["tokens"], first["share"], first["none"], first["n"]) == ("12345678901", "0.125", "", "3")
    assert first["bad"] == "nan"
    assert 0 <= calls[0] - int(first["wall_ns"]) < 1e9
    steps = [int(after["mono_ns"]) - int(before["mono_ns"]) for before, after in pairwise(rows)]
    assert all(step > 0 for step in steps)


def test_failures_are_told_once_a_series_and_asking_goes_on(sampled):
    """A busy server that does not answer in time leaves a hole, and no flood of events."""
    calls = []

    def read():
        calls.append(1)
        if len(calls) in {2, 3, 5}:
            raise OSError(f"call {len(calls)}")
        return {"a": len(calls)}

    rows, failures = sampled(read, lambda: len(calls) >= 6)
    assert [row["a"] for row in rows][:3] == ["1", "4", "6"]
    assert failures == ["OSError: call 2", "OSError: call 5"]


def test_other_figures_than_before_are_a_failure(sampled):
    """Columns cannot change their meaning in the middle of a file; their order does not matter."""
    answers = [{"a": 1, "b": 2}, {"b": 4, "a": 3}, {"a": 5}]
    calls = []

    def read():
        calls.append(1)
        return answers[min(len(calls), len(answers)) - 1]

    rows, failures = sampled(read, lambda: len(calls) >= 3)
    assert [(row["a"], row["b"]) for row in rows] == [("1", "2"), ("3", "4")]
    assert failures == ["ValueError: other figures than before: a; the first had a, b"]


def test_a_question_that_hangs_holds_nothing_up(tmp_path):
    """It is left behind, and what it says later is nobody's failure."""
    let_go = threading.Event()

    def read():
        let_go.wait(10)
        raise OSError("too late")

    sampler = ServiceSampler(tmp_path / "service.csv", 0.02, read)
    sampler.start()
    began = time.monotonic()
    sampler.stop(0.1)
    assert time.monotonic() - began < 5
    let_go.set()
    sampler.stop(5.0)
    assert sampler.take_failures() == []


def test_a_folder_that_cannot_be_written_is_a_failure(tmp_path):
    """The job goes on."""
    (tmp_path / "samples").write_text("a file")
    sampler = ServiceSampler(tmp_path / "samples" / "service.csv", 0.02, lambda: {"a": 1})
    sampler.start()
    sampler.stop(5.0)
    (failure,) = sampler.take_failures()
    assert "samples" in failure


@pytest.mark.parametrize("interval_s", [0, -1.0])
def test_an_interval_is_above_zero(tmp_path, interval_s):
    """Else it would ask without a pause."""
    with pytest.raises(ValueError, match="above 0 s"):
        ServiceSampler(tmp_path / "service.csv", interval_s, dict)


@pytest.mark.parametrize(("options", "written"), [({"service": {"interval_s": 0.1}}, True), ({"node": {}}, False)])
def test_only_what_is_asked_for_is_watched(tmp_path, options, written):
    """`service: off` in a recipe is an entry that is not there."""
    asked = threading.Event()

    def read():
        asked.set()
        return {"a": 1}

    monitors = Monitors(RankPaths(tmp_path), options)
    monitors.start_service(read)
    monitors.start_service(read)
    assert asked.wait(5.0 if written else 0.2) is written
    monitors.let_service_go()
    monitors.stop()
    assert (tmp_path / "samples" / "service.csv").exists() is written
    assert monitors.take_failures() == []


def test_an_interval_that_makes_no_sense_fails_the_monitor_alone(tmp_path):
    """Told as a failure of the monitor."""
    monitors = Monitors(RankPaths(tmp_path), {"service": {"interval_s": 0}})
    monitors.start_service(dict)
    ((monitor, text),) = monitors.take_failures()
    assert monitor == "service"
    assert "above 0 s" in text
