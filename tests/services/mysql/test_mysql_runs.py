"""From recipe to verdict, through script, job, point loop and judgement."""

import os
import signal
import threading
import time

import pytest

from aifactory_bench import BenchmarkOrchestrator, RecipeError
from aifactory_bench_services.mysql import MySQLService
from aifactory_bench_services.sysbench import SysbenchClient

KINDS = [MySQLService, SysbenchClient]
PRIVATE = {"secret", "init.sql", "sysbench.cfg"}
RECIPE = """\
schema: aifactory-bench/1
name: mysql
services:
  db:
    kind: mysql
    parameters: {innodb_buffer_pool_size: 64MiB, innodb_flush_log_at_trx_commit: 2}
clients:
  load:
    kind: sysbench
    target: db
    parameters: {workload: oltp_read_write, tables: 2, table_size: 500}
    load: {process: closed, concurrency: 4, warmup: 1s, duration: 2s}
monitors: {service: {interval: 1s}}
"""


AT_ONCE = """\
schema: aifactory-bench/1
name: at-once
services:
  db: {kind: mysql, parameters: {innodb_buffer_pool_size: 64MiB, innodb_flush_log_at_trx_commit: 0}}
clients:
  one:
    kind: sysbench
    target: db
    parameters: {workload: oltp_read_write, tables: 1, table_size: 500}
    load: {process: closed, concurrency: 1, warmup: 0s, duration: 1s}
  other:
    kind: sysbench
    target: db
    parameters: {workload: oltp_read_write, tables: 2, table_size: 300}
    load: {process: closed, concurrency: 1, warmup: 0s, duration: 1s}
  own:
    kind: sysbench
    target: db
    parameters: {script: SCRIPT, prepare: script, tables: 3, table_size: 400}
    load: {process: closed, concurrency: 1, warmup: 0s, duration: 1s}
    after: one
repetitions: {count: 2, reset: data}
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "mysql.yaml"
    path.write_text(RECIPE)
    return path


def test_a_recipe_gives_a_measurement_with_a_verdict(programs, recipe, tmp_path):
    with BenchmarkOrchestrator(runs_dir=tmp_path / "runs", plugins=KINDS) as bench:
        run = bench.run(recipe)
        summary = run.wait()
    ((measurement,),) = (point.measurements for point in summary.points)
    # On a machine that does other things the generator's share of a core may be anything.
    assert {reason.code for reason in measurement.reasons} <= {"client_bound"}
    assert measurement.unit == "transaction"
    assert measurement.counts["ok"] > 0
    assert measurement.metrics["queries_per_s"]["value"] == pytest.approx(20 * measurement.achieved_per_s, rel=0.05)
    assert measurement.latency["transaction"]["send"].p99_us > 0
    assert measurement.latency["transaction"]["schedule"] is None
    assert len(measurement.series) == 2
    assert measurement.provenance["histogram_quality"] == "bucketed"
    (rank,) = measurement.provenance["ranks"]
    assert rank["tool"]["password_in_arguments"] is False
    facts = rank["endpoints"]["main"][0]["facts"]
    assert facts["settings"]["innodb_flush_log_at_trx_commit"] == "2"
    assert (run.folder / "summary.json").exists()
    (samples,) = run.folder.glob("jobs/*/0/samples/service.csv")
    assert len(samples.read_text().splitlines()) > 3
    secret = next(run.folder.glob("endpoints/*/secret")).read_text().strip()
    for path in run.folder.rglob("*"):
        if path.is_file() and path.name not in PRIVATE and "data" not in path.parts:
            assert secret.encode() not in path.read_bytes(), path


def test_a_server_that_is_killed_in_the_load_ends_the_run_with_a_reason(programs, recipe, tmp_path):
    recipe.write_text(RECIPE.replace("duration: 2s", "duration: 60s"))
    killed = []

    def kill(pid):
        time.sleep(1.5)
        killed.append(time.monotonic())
        os.kill(pid, signal.SIGKILL)

    with BenchmarkOrchestrator(runs_dir=tmp_path / "runs", plugins=KINDS) as bench:
        run = bench.run(recipe)
        deadline = time.monotonic() + 30
        while not list(run.folder.glob("jobs/*/0/raw/*/command-2.out")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        pid_file = next(run.folder.glob("jobs/*/0/work/data/mysqld.pid"))
        thread = threading.Thread(target=kill, args=(int(pid_file.read_text()),))
        thread.start()
        summary = run.wait()
        ended = time.monotonic()
        thread.join()
    assert ended - killed[0] < 5
    ((measurement,),) = (point.measurements for point in summary.points)
    assert (summary.verdict, measurement.verdict) == ("invalid", "invalid")
    codes = {reason.code for reason in measurement.reasons}
    assert "service_died" in codes
    assert any("SIGKILL" in reason.text or "killed" in reason.text for reason in measurement.reasons)


def test_clients_at_once_do_not_take_each_others_tables(programs, recipe, tmp_path):
    """Both make theirs, of another size, at the same moment; the server's count is that of both. A script has its own too."""
    script = tmp_path / "own.lua"
    script.write_text('require("oltp_read_only")\n')
    recipe.write_text(AT_ONCE.replace("SCRIPT", str(script)))
    with BenchmarkOrchestrator(runs_dir=tmp_path / "runs", plugins=KINDS) as bench:
        summary = bench.run(recipe).wait()
    found = [measurement for point in summary.points for measurement in point.measurements]
    assert len(found) == 6
    for measurement in found:
        assert {reason.code for reason in measurement.reasons} <= {"client_bound"}
        (rank,) = measurement.provenance["ranks"]
        assert (rank["prepare"]["made"], rank["prepare"]["database"]) == (True, f"sbtest_{measurement.client}")


def test_a_load_that_sysbench_cannot_offer_is_refused_before_anything_is_started(recipe, tmp_path):
    recipe.write_text(RECIPE.replace("process: closed, concurrency: 4", "process: constant, rate: 100/s"))
    with (
        BenchmarkOrchestrator(runs_dir=tmp_path / "runs", plugins=KINDS) as bench,
        pytest.raises(RecipeError, match=r"clients\.load\.load\.process: sysbench offers closed and poisson"),
    ):
        bench.run(recipe)
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())
