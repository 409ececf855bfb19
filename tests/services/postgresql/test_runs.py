"""Whole runs against a real server: from recipe to verdict, and what becomes of them when the server stalls or dies."""

import os
import signal
import time
from pathlib import Path

import pytest

from aifactory_bench.node.load.histogram import Histogram
from aifactory_bench_services import pgbench_node
from aifactory_bench_services.pgbench import PgbenchClient, PgbenchParameters

RECIPE = """\
schema: aifactory-bench/1
name: postgresql
services:
  db:
    kind: postgresql
    parameters:
      {shared_buffers: 32MiB, fsync: false, synchronous_commit: false, checkpoint_timeout: 10m, jit: false, autovacuum: false}
clients:
  closed:
    kind: pgbench
    target: db
    parameters: {workload: tpcb-like, scale: 4}
    load: {process: closed, concurrency: 4, workers: 2, warmup: 400ms, duration: 1s}
  open:
    kind: pgbench
    target: db
    after: closed
    replicas: 2
    parameters: {workload: simple-update, scale: 4}
    load: {process: poisson, rate: 100/s, connections: 4, warmup: 400ms, duration: 1s}
monitors: {service: {interval: 500ms}}
"""
LONG = """\
schema: aifactory-bench/1
name: postgresql
services:
  db: {kind: postgresql, parameters: {fsync: false}}
clients:
  load:
    kind: pgbench
    target: db
    parameters: {scale: 1}
    load: {process: closed, concurrency: 4, warmup: 500ms, duration: 20s}
"""
AT_ONCE = """\
schema: aifactory-bench/1
name: at-once
services:
  db: {kind: postgresql, parameters: {fsync: false, autovacuum: false}}
clients:
  one:
    kind: pgbench
    target: db
    parameters: {scale: 1}
    load: {process: closed, concurrency: 1, warmup: 0s, duration: 400ms}
  other:
    kind: pgbench
    target: db
    parameters: {workload: tpcb-like, scale: 2}
    load: {process: closed, concurrency: 2, warmup: 0s, duration: 400ms}
repetitions: {count: 2, reset: data}
"""
EXTERNAL = """\
schema: aifactory-bench/1
name: external
services:
  db: {{external: {{url: "postgresql://127.0.0.1:{port}", secret: "env:DB_PASSWORD"}}}}
clients:
  load:
    kind: pgbench
    target: db
    parameters: {{scale: 1}}
    load: {{process: closed, concurrency: 2, warmup: 0s, duration: 400ms}}
"""
BUSY = {"client_bound", "lateness", "observation_age"}
"""What a machine that does other things may be found to be."""


def test_from_recipe_to_verdict(run_recipe):
    ran = run_recipe(RECIPE)
    assert ran.folder.is_dir(), ran.text
    closed, opened = ran.measurements["closed"], ran.measurements["open"]
    for measurement in (closed, opened):
        assert {reason["code"] for reason in measurement["reasons"]} <= BUSY, ran.text
        assert measurement["counts"]["ok"] > 20
        assert measurement["counts"]["error"] == 0
    assert closed["latency"]["tpcb-like"]["schedule"] is None
    assert opened["latency"]["simple-update"]["schedule"]["p50_us"] > 0
    assert opened["distributions"]["schedule_lag"]["count"] == opened["counts"]["ok"]
    assert len(opened["provenance"]["ranks"]) == 2
    rank = closed["provenance"]["ranks"][0]
    assert rank["tool"]["password_in_arguments"] is False
    assert rank["prepare"]["command"] == "pgbench -i -q -s 4"
    facts = rank["endpoints"]["main"][0]["facts"]
    settings = {
        "fsync": "off",
        "synchronous_commit": "off",
        "shared_buffers": "32MB",
        "checkpoint_timeout": "10min",
        "jit": "off",
    }
    assert facts["settings"].items() >= settings.items()
    # What client and server counted is the same, to the last transaction.
    document = ran.rank("closed")
    counted = document["server_after"]["operations"] - document["server_before"]["operations"]
    parts = (document["counts"], document["phase_counts"]["warmup"])
    assert counted == sum(part[name] for part in parts for name in ("ok", "error"))
    # The secret is where it has to be, and nowhere else.
    secret = next(ran.folder.glob("endpoints/*/secret")).read_text().strip()
    holding = {path.name for path in ran.folder.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()}
    assert holding == {"secret", "password"}
    (sampled,) = ran.folder.glob("jobs/*-db-0/0/samples/service.csv")
    assert len(sampled.read_text().splitlines()) > 3
    assert sampled.stat().st_mode & 0o077 == 0
    log = next(ran.folder.glob("jobs/*-db-0/0/log")).read_text()
    assert "database system is shut down" in log, "it was stopped as it wants to be"
    assert "ERROR" not in log


def test_a_killed_server_ends_the_run_with_its_reason(run_recipe):
    killed = []

    def kill(folder: Path) -> None:
        until = time.monotonic() + 60
        while not list(folder.glob("jobs/*-load-0/0/raw/*/transactions.*")):
            assert time.monotonic() < until
            time.sleep(0.05)
        time.sleep(1.5)
        (pid_file,) = folder.glob("jobs/*-db-0/0/work/data/postmaster.pid")
        os.kill(int(pid_file.read_text().splitlines()[0]), signal.SIGKILL)
        killed.append(time.monotonic())

    ran = run_recipe(LONG, during=kill)
    took_s = time.monotonic() - killed[0]
    assert took_s < 8, "5 s on a machine that does nothing else"
    measurement = ran.measurements["load"]
    assert measurement["verdict"] == "invalid"
    texts = " ".join(reason["text"] for reason in measurement["reasons"])
    assert "was ended by SIGKILL" in texts
    assert {"service_died", "cut"} <= {reason["code"] for reason in measurement["reasons"]}
    assert ran.code != 0


def test_a_server_that_already_runs_is_measured_too(run_recipe, server, monkeypatch):
    monkeypatch.setenv("DB_PASSWORD", server.secret)
    ran = run_recipe(EXTERNAL.format(port=server.port))
    assert (ran.folder / "summary.json").exists(), ran.text
    measurement = ran.measurements["load"]
    assert {reason["code"] for reason in measurement["reasons"]} <= BUSY, ran.text
    assert measurement["counts"]["ok"] > 20
    assert measurement["provenance"]["ranks"][0]["tool"]["argv"][-1] == f"postgresql://127.0.0.1:{server.port}/bench_load"


def test_clients_at_once_do_not_take_each_others_tables(run_recipe):
    """Both fill their tables, of another size, at the same moment; the server's count is that of both."""
    ran = run_recipe(AT_ONCE)
    assert (ran.folder / "summary.json").exists(), ran.text
    for name, scale in (("one", 1), ("other", 2)):
        measurement = ran.measurements[name]
        assert {reason["code"] for reason in measurement["reasons"]} <= BUSY, ran.text
        assert measurement["counts"]["ok"] > 20
        assert measurement["counts"]["error"] == 0
        prepared = measurement["provenance"]["ranks"][0]["prepare"]
        assert (prepared["scale"], prepared["database"]) == (scale, f"bench_{name}")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can try")
def test_as_root_there_is_one_clear_error(run_recipe):
    ran = run_recipe(LONG, root=True)
    assert ran.code != 0
    assert "PostgreSQL does not run as root: start the job as another user" in ran.text
    assert "Traceback" not in ran.text


def test_a_stall_is_in_the_latency_from_the_schedule_alone(server, context_of, run, load, programs, monkeypatch):
    """Half a second without the server: a closed loop hides it from its p99, an open loop from the schedule does not."""
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")

    def stall() -> None:
        processes = [server.process.pid, *children_of(server.process.pid)]
        for number, pause_s in ((signal.SIGSTOP, 0.5), (signal.SIGCONT, 0.0)):
            for pid in processes:
                os.kill(pid, number)
            time.sleep(pause_s)

    p99_us = {}
    for process in ("closed", "poisson"):
        offered = {"concurrency": None, "connections": 4, "rate_per_s": 500.0} if process == "poisson" else {}
        client = PgbenchClient("bench", PgbenchParameters(scale=1), load=load(process=process, duration_s=1.9, **offered))
        context = context_of(client, server.endpoint)
        pgbench_node.prepare(context)
        measurement = pgbench_node.reduce(context, run(client, context, during=stall, after_s=1.0))
        assert measurement.status == "ok"
        clocks = {name: Histogram.from_json(found) for name, found in measurement.latency["all"].items() if found}
        p99_us[process] = {name: histogram.percentile_us(99) for name, histogram in clocks.items()}
        assert clocks["send"].max_us > 400_000
    assert p99_us["closed"]["send"] < 100_000
    assert p99_us["poisson"]["send"] < 200_000
    assert p99_us["poisson"]["schedule"] > 300_000


def children_of(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(entry.parent.name))
    return found
