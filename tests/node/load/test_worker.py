"""Workers: several make one measurement, none outlives it, and a dead one is no result."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aifactory_bench.node.contract import Context
from aifactory_bench.node.events import read_events
from aifactory_bench.node.load import Histogram, run_load
from aifactory_bench.node.load.run import split

Make = Callable[..., Context]


def never() -> None:
    return None


def test_two_workers_are_one_measurement(server: Any, line_driver: Any, context_of: Make, soon: Callable[[], int]) -> None:
    """Counts and histograms are sums, and each worker tells its own CPU."""
    result = run_load(context_of(concurrency=5, workers=2), line_driver(server.port), soon(), never)
    assert result.health.workers == 2
    assert len(result.health.cpu_share) == 2
    assert result.counts.ok + result.phase_counts["warmup"]["ok"] == server.seen
    assert Histogram.from_json(result.latency["all"]["send"]).count == result.counts.ok
    assert server.connected == 5


def test_more_workers_than_connections_are_refused(line_driver: Any, context_of: Make, soon: Callable[[], int]) -> None:
    """One without a connection would have nothing to do, and fewer workers are not what was asked."""
    result = run_load(context_of(concurrency=2, workers=8), line_driver(1), soon(), never)
    assert result.status == "failed"
    assert "at least 8 are needed" in result.reason


@pytest.mark.parametrize("process", ["closed", "poisson"])
def test_stop_cuts_and_keeps(
    server: Any, line_driver: Any, context_of: Make, soon: Callable[[], int], workers: Callable[[], list[int]], process: str
) -> None:
    """What was measured until then is there; the window is as long as it was."""
    began = time.monotonic()
    load = {"process": process, "rate_per_s": 200.0, "concurrency": 3, "duration_s": 30.0, "workers": 2}
    result = run_load(
        context_of(**load),
        line_driver(server.port),
        soon(),
        lambda: "the service died" if time.monotonic() - began > 0.7 else None,
    )
    assert (result.status, result.reason) == ("cut", "the service died")
    assert 0.2 < result.window_s < 5
    assert result.counts.ok > 0
    assert len(result.slices) == -(-result.window_s // 1)
    assert result.achieved_per_s == pytest.approx(result.counts.ok / result.window_s, rel=0.2)
    assert time.monotonic() - began < 10
    assert workers() == []


def test_stop_in_the_warm_up_is_a_cut_without_a_window(
    server: Any, line_driver: Any, context_of: Make, soon: Callable[[], int]
) -> None:
    """Nothing counted, and no rate made of it."""
    result = run_load(context_of(concurrency=1, warmup_s=20.0), line_driver(server.port), soon(), lambda: "enough")
    assert (result.status, result.window_s, result.counts.ok, result.achieved_per_s) == ("cut", 0, 0, None)
    assert result.slices == []
    assert result.health.cpu_share == [None]


def test_requests_under_way_at_a_cut_are_no_timeouts(
    server: Any, line_driver: Any, context_of: Make, soon: Callable[[], int]
) -> None:
    """They had no time to be answered in."""
    server.reply = lambda _line: None
    began = time.monotonic()
    result = run_load(
        context_of(concurrency=2, duration_s=30.0, timeout_s=20.0, warmup_s=0.0),
        line_driver(server.port),
        soon(),
        lambda: "enough" if time.monotonic() - began > 0.4 else None,
    )
    assert result.counts.timeout == 0
    assert result.errors == {"cut": 2}
    assert time.monotonic() - began < 6


def test_a_worker_that_is_killed_makes_the_measurement_fail(
    server: Any, line_driver: Any, context_of: Make, soon: Callable[[], int], workers: Callable[[], list[int]]
) -> None:
    """With the reason; the others are ended."""
    asked = iter(range(1000))

    def stop() -> None:
        if next(asked) == 1:
            os.kill(workers()[0], signal.SIGKILL)

    result = run_load(context_of(concurrency=4, workers=2, duration_s=30.0), line_driver(server.port), soon(), stop)
    assert result.status == "failed"
    assert "was ended by SIGKILL before it brought its result" in result.reason
    assert workers() == []


def test_signals_to_the_group_do_not_cost_the_measurement(
    server: Any, line_driver: Any, context_of: Make, soon: Callable[[], int], workers: Callable[[], list[int]]
) -> None:
    """TERM and INT are the parent's business: it says when to stop."""
    asked = iter(range(1000))

    def stop() -> None:
        if next(asked) == 1:
            for pid in workers():
                os.kill(pid, signal.SIGTERM)
                os.kill(pid, signal.SIGINT)

    result = run_load(context_of(concurrency=2), line_driver(server.port), soon(), stop)
    assert result.status == "ok"


def test_a_product_that_breaks_is_named(server: Any, line_driver: Any, context_of: Make, soon: Callable[[], int]) -> None:
    """With its error and where it was raised, not as a traceback."""
    result = run_load(context_of(concurrency=1), line_driver(server.port, broken=True), soon(), never)
    assert result.status == "failed"
    assert result.reason.startswith("worker 0: ArithmeticError: the product is broken (conftest.py:")


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_exception_in_the_parent_leaves_no_worker(
    server: Any,
    line_driver: Any,
    context_of: Make,
    soon: Callable[[], int],
    workers: Callable[[], list[int]],
    error: type[BaseException],
) -> None:
    """Ctrl-C included."""

    def stop() -> None:
        raise error

    with pytest.raises(error):
        run_load(context_of(concurrency=2, workers=2, duration_s=30.0), line_driver(server.port), soon(), stop)
    assert workers() == []


def test_workers_end_with_a_parent_that_is_killed(server: Any, tmp_path: Path) -> None:
    """Even by SIGKILL, when nobody can tell them."""
    program = """
import sys, time, importlib.util
from pathlib import Path
spec = importlib.util.spec_from_file_location("kit", sys.argv[1])
kit = importlib.util.module_from_spec(spec); spec.loader.exec_module(kit)
from aifactory_bench.node.load import run_load
from aifactory_bench.node.load.run import split
context = kit.context_of.__wrapped__(Path(sys.argv[3]))(concurrency=2, workers=2, duration_s=60.0)
run_load(context, kit.LineDriver(int(sys.argv[2])), time.monotonic_ns(), lambda: None)
"""
    argv = [sys.executable, "-c", program, str(Path(__file__).with_name("conftest.py")), str(server.port), str(tmp_path)]
    with subprocess.Popen(argv) as parent:
        deadline = time.monotonic() + 20
        while server.connected < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert server.connected == 2
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        assert len(children) == 2
        parent.kill()
    deadline = time.monotonic() + 5
    while any(alive(pid) for pid in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in children)


def alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_phases_are_events(server: Any, line_driver: Any, context_of: Make, soon: Callable[[], int], tmp_path: Path) -> None:
    """As they begin."""
    run_load(context_of(concurrency=1), line_driver(server.port), soon(), never)
    events = [event for event, _ in read_events(tmp_path / "events-0.jsonl")]
    assert [event["data"]["name"] for event in events][:2] == ["warmup", "measure"]


@pytest.mark.parametrize(
    ("load", "text"),
    [
        ({"process": "uniform"}, "unknown arrival process 'uniform'"),
        ({"process": "poisson", "rate_per_s": None}, "rate_per_s must be above 0"),
        ({"concurrency": 0}, "concurrency 0"),
        ({"process": "constant", "rate_per_s": 1.0, "connections": 0}, "connections 0"),
        ({"duration_s": 0.0}, "longer than 0 s"),
    ],
)
def test_a_load_that_cannot_be_run_says_why(
    line_driver: Any, context_of: Make, soon: Callable[[], int], load: dict[str, Any], text: str
) -> None:
    """As a failed measurement, as everything else."""
    result = run_load(context_of(**load), line_driver(1), soon(), never)
    assert result.status == "failed"
    assert text in result.reason


def test_too_few_connections_for_all_ranks(line_driver: Any, context_of: Make, soon: Callable[[], int]) -> None:
    """Rather than a rank that measures nothing."""
    result = run_load(context_of(0, 3, concurrency=2), line_driver(1), soon(), never)
    assert result.status == "failed"
    assert "at least 3 are needed" in result.reason


def test_connections_are_spread_over_servers_and_generators_alike(line_driver: Any, server: Any, context_of: Make) -> None:
    """Two ranks of two workers share ten connections to three servers: every part gets its number, every server its share."""
    driver = line_driver(server.port, server.port, server.port)
    plans = [plan for rank in range(2) for plan in split(context_of(rank, 2, concurrency=10, workers=2), driver, 0)]
    assert [len(plan.addresses) for plan in plans] == [3, 3, 2, 2]
    numbers = [address.number for plan in plans for address in plan.addresses]
    assert sorted(numbers.count(number) for number in range(3)) == [3, 3, 4]
