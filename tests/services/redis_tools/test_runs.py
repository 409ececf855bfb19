"""Tools from recipe to verdict, through the script, the job and the point loop."""

import json
import os
from pathlib import Path

import pytest

from aifactory_bench import BenchmarkOrchestrator, RecipeError
from aifactory_bench_services.memtier import MemtierClient
from aifactory_bench_services.redis_benchmark import RedisBenchmarkClient

DOUBLES = Path(__file__).parent / "doubles"
RECIPE = """\
schema: aifactory-bench/1
name: tools
services:
  cache: {kind: redis}
clients:
  native:
    kind: redis-benchmark
    target: cache
    parameters: {keys: 200, requests: 1000, test: set}
    load: {process: closed, concurrency: 4, warmup: 200ms, duration: 500ms}
  memtier:
    kind: memtier
    target: cache
    after: native
    parameters: {keys: 200, operations: {get: 10, set: 1}, value_size: 32B}
    load: {process: closed, concurrency: 10, workers: 2, warmup: 1s, duration: 3s}
  without:
    kind: memtier
    target: cache
    after: memtier
    environment: {MEMTIER_DOUBLE: server-killed}
    parameters: {keys: 200}
    load: {process: closed, concurrency: 10, warmup: 0s, duration: 3s}
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "tools.yaml"
    path.write_text(RECIPE)
    return path


def counters_of(folder, client):
    """Return the server's counters before and after the one point of a client."""
    documents = [json.loads(path.read_text()) for path in folder.rglob("measurements/p*.json")]
    (document,) = [document for document in documents if document["client"] == client]
    return document["server_before"], document["server_after"]


def test_tools_give_measurements_with_verdicts(recipe, tmp_path, monkeypatch):
    """Both tools measure; the one that exits with 0 and has measured nothing is invalid, with the reason."""
    monkeypatch.setenv("PATH", f"{DOUBLES}{os.pathsep}{os.environ['PATH']}")
    with BenchmarkOrchestrator(runs_dir=tmp_path / "runs", plugins=[RedisBenchmarkClient, MemtierClient]) as bench:
        run = bench.run(recipe)
        summary = run.wait()
    measurements = {each.client: each for point in summary.points for each in point.measurements}
    native, memtier, without = measurements["native"], measurements["memtier"], measurements["without"]
    # On a machine that does other things the generator's share of a core may be anything.
    assert {reason.code for reason in (*native.reasons, *memtier.reasons)} <= {"client_bound"}
    before, after = counters_of(run.folder, "native")
    assert after["operations"] - before["operations"] >= native.counts["ok"]
    assert after["total_net_input_bytes"] > before["total_net_input_bytes"]
    assert native.counts["ok"] > 0
    assert native.latency["set"]["send"].p99_us > 0
    assert native.latency["set"]["schedule"] is None
    assert native.unchecked == memtier.unchecked == ()
    assert "slices" in native.absent
    assert memtier.counts["ok"] == 102_128
    assert memtier.latency["get"]["send"].p50_us == pytest.approx(199, rel=0.002)
    assert (summary.verdict, without.verdict) == ("invalid", "invalid")
    assert any("tool output is not a success: exit code 0: " in reason.text for reason in without.reasons)
    secret = next(run.folder.glob("endpoints/*/secret")).read_text().strip()
    for path in run.folder.rglob("*"):
        if path.is_file() and path.name not in {"secret", "redis.conf"}:
            assert secret.encode() not in path.read_bytes(), path


def test_the_server_has_counted_something_else(recipe, tmp_path, monkeypatch):
    """What replays memtier's output asks the server nothing: its own count before and after shows it."""
    monkeypatch.setenv("PATH", f"{DOUBLES}{os.pathsep}{os.environ['PATH']}")
    head, _, clients = RECIPE.partition("clients:\n")
    memtier = clients[clients.index("  memtier:") : clients.index("  without:")].replace("    after: native\n", "")
    recipe.write_text(f"{head}clients:\n{memtier}")
    with BenchmarkOrchestrator(runs_dir=tmp_path / "runs", plugins=[MemtierClient]) as bench:
        run = bench.run(recipe)
        (measurement,) = run.wait().points[0].measurements
    (mismatch,) = [reason for reason in measurement.reasons if reason.code != "client_bound"]
    assert mismatch.code == "totals_mismatch"
    # Of the window and of the warm-up, a run of its own.
    assert "the clients counted 204,256 operations, the server 0" in mismatch.text
    before, after = counters_of(run.folder, "memtier")
    assert before["operations"] == after["operations"] > 0


def test_an_open_loop_is_refused_before_anything_is_started(recipe, tmp_path):
    recipe.write_text(RECIPE.replace("process: closed, concurrency: 4", "process: poisson, rate: 100/s"))
    with (
        BenchmarkOrchestrator(runs_dir=tmp_path / "runs", plugins=[RedisBenchmarkClient, MemtierClient]) as bench,
        pytest.raises(RecipeError, match=r"clients\.native\.load\.process: redis-benchmark offers a closed loop only"),
    ):
        bench.run(recipe)
