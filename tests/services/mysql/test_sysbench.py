"""sysbench as a client: the real tool on a real MariaDB."""

import os
import re
import signal
import time
from dataclasses import replace

import pytest

from aifactory_bench import RecipeError
from aifactory_bench.node.contract import PrepareError
from aifactory_bench.node.load.histogram import Histogram
from aifactory_bench_services import sysbench_node
from aifactory_bench_services.sysbench import SysbenchClient, SysbenchParameters

SECRET = "0123456789abcdef0123456789abcdef"
SMALL = {"tables": 2, "table_size": 500}


def client_of(load, **parameters):
    return SysbenchClient("bench", SysbenchParameters(**{**SMALL, **parameters}), load=load)


@pytest.fixture
def measured(context_of, run, checked):
    """Prepare, run and reduce; returns context, preparation, measurement and what the server counted."""

    def go(client, server, **options):
        changes = options.pop("changes", {})
        context = context_of(client, server, **changes)
        done = sysbench_node.prepare(context)
        before = sysbench_node.counters(server.endpoint, SECRET)
        outcome = run(client, context, **options)
        measurement = checked(sysbench_node.reduce(context, outcome))
        alive = server.process.poll() is None
        after = sysbench_node.counters(server.endpoint, SECRET) if alive else {}
        counted = {name: after[name] - before[name] for name in after if name in before}
        return context, done, measurement, counted

    return go


@pytest.mark.parametrize(
    ("workload", "statements"), [("oltp_point_select", 1), ("oltp_read_only", 16), ("oltp_read_write", 20)]
)
def test_a_real_run(mariadb, measured, load, workload, statements):
    """Counts, rate, statements and distribution belong together, and the server has counted the same."""
    client = client_of(load(warmup_s=1.0), workload=workload)
    context, done, measurement, counted = measured(client, mariadb)
    assert done["rows"] == 1000
    assert done["settings"]["innodb_flush_log_at_trx_commit"] == "0"
    assert (measurement.status, measurement.reason) == ("ok", "")
    assert (measurement.unit, measurement.process, measurement.offered_per_s) == ("transaction", "closed", None)
    assert 1.0 <= measurement.window_s < 1.5
    counts = measurement.counts
    assert counts.ok > 0
    assert measurement.achieved_per_s == pytest.approx(counts.ok / measurement.window_s)
    per_s = measurement.metrics["queries_per_s"]
    assert per_s["unit"] == "query/s"
    assert per_s["value"] == pytest.approx(measurement.achieved_per_s * statements, rel=0.02)
    warmup = measurement.phase_counts["warmup"]
    assert warmup["ok"] > 0
    assert counted["operations"] == counts.ok + warmup["ok"]
    histogram = Histogram.from_json(measurement.latency["transaction"]["send"])
    assert histogram.count == counts.ok
    assert measurement.histogram_quality == "bucketed"
    assert sum(part["ok"] for part in measurement.slices) <= counts.ok
    assert len(measurement.slices) == 1
    assert re.fullmatch(r"\d+\.\d+\.\d+", measurement.tool["version"])
    config = sysbench_node.config_of(context)
    assert config.stat().st_mode & 0o777 == 0o600
    assert SECRET in config.read_text()
    kept = [path for path in context.folder.rglob("*") if path.is_file()]
    assert kept
    assert not any(SECRET in path.read_text() for path in kept)


def test_an_open_loop_offers_its_rate(mariadb, measured, load):
    client = client_of(load(process="poisson", rate_per_s=300.0, connections=4, duration_s=2.0), workload="oltp_point_select")
    _, _, measurement, counted = measured(client, mariadb)
    assert (measurement.status, measurement.offered_per_s) == ("ok", 300)
    assert measurement.counts.ok == pytest.approx(600, abs=130)  # 5 standard deviations
    assert counted["operations"] == measurement.counts.ok + measurement.phase_counts.get("warmup", {"ok": 0})["ok"]
    assert measurement.latency["all"]["send"] is None


def test_deadlocks_are_retries_by_class_and_the_server_agrees(mariadb, measured, load):
    """Each is an attempt at a transaction that ends well, and is one transaction."""
    client = client_of(load(concurrency=8), workload="oltp_read_write", tables=1, table_size=10)
    _, _, measurement, counted = measured(client, mariadb)
    assert measurement.metrics["retries_deadlock"]["value"] == measurement.metrics["retries"]["value"] > 0
    assert (measurement.counts.error, measurement.errors) == (0, {})
    assert counted["operations"] == measurement.counts.ok + measurement.phase_counts["warmup"]["ok"]


def test_a_stall_is_seen_from_the_schedule_and_hardly_in_closed_loop(mariadb, measured, load):
    """The same half second: in closed loop a few transactions are slow, by the schedule a part of all of them."""
    stall = {"during": lambda: mariadb.pause(0.5), "after_s": 0.7}
    closed = client_of(load(duration_s=2.0), workload="oltp_point_select")
    opened = client_of(load(process="poisson", rate_per_s=1000.0, connections=4, duration_s=2.0), workload="oltp_point_select")
    p99_us = []
    for client, clock in ((closed, "send"), (opened, "schedule")):
        _, _, measurement, _ = measured(client, mariadb, **stall)
        assert measurement.status == "ok"
        histogram = Histogram.from_json(measurement.latency["all"][clock])
        assert histogram.max_us > 400_000
        p99_us.append(histogram.percentile_us(99))
    assert p99_us[0] < 100_000
    assert p99_us[1] > 300_000


def test_a_server_that_is_killed_ends_the_run_at_once(start_server, measured, load):
    server = start_server()
    killed = []

    def kill():
        server.process.send_signal(signal.SIGKILL)
        killed.append(time.monotonic())

    client = client_of(load(duration_s=20.0), workload="oltp_read_write")
    _, _, measurement, _ = measured(client, server, during=kill, after_s=1.5)
    assert time.monotonic() - killed[0] < 5
    assert measurement.status == "cut"
    assert "exit code 1" in measurement.reason
    assert "Lost connection" in measurement.reason
    assert measurement.latency == {}


def test_a_server_that_is_not_there(mariadb, context_of, run, load):
    client = client_of(load())
    context = context_of(client, mariadb)
    sysbench_node.prepare(context)
    nowhere = replace(context, endpoints={"main": (replace(mariadb.endpoint, port=1),)})
    measurement = sysbench_node.reduce(nowhere, run(client, nowhere))
    assert measurement.status == "failed"
    assert "Can't connect to server" in measurement.reason
    with pytest.raises(PrepareError, match=r"127\.0\.0\.1:1: the tables cannot be brought into place: .*refused"):
        sysbench_node.prepare(nowhere)


# The tables.


def made(mariadb, database="sbtest_bench"):
    rows = mariadb.ask(f"SELECT table_name, create_time FROM information_schema.tables WHERE table_schema = '{database}'")
    return {name: when for name, when in rows if name.startswith("sbtest")}


def test_tables_are_kept_made_anew_or_completed_as_the_recipe_says(mariadb, context_of, load, run):
    client = client_of(load())
    context = context_of(client, mariadb)
    sysbench_node.prepare(replace(context, reset="data"))
    mariadb.ask("UPDATE sbtest_bench.sbtest1 SET c = 'mark' WHERE id = 1")

    def marked():
        return mariadb.ask("SELECT c FROM sbtest_bench.sbtest1 WHERE id = 1") == [("mark",)]

    assert sysbench_node.prepare(context)["made"] is False
    assert marked()
    done = sysbench_node.prepare(replace(context, reset="data"))
    assert (done["made"], done["reset"]) == (True, "data")
    assert not marked()
    mariadb.ask("DELETE FROM sbtest_bench.sbtest2 LIMIT 1")
    assert sysbench_node.prepare(context)["made"] is True
    assert mariadb.ask("SELECT COUNT(*) FROM sbtest_bench.sbtest2") == [("500",)]
    larger = context_of(client_of(load(), tables=3), mariadb)
    assert sysbench_node.prepare(larger)["made"] is True
    assert set(made(mariadb)) >= {"sbtest1", "sbtest2", "sbtest3"}


def test_replicas_have_databases_of_their_own(mariadb, context_of, run, load, checked):
    """None writes the rows of another."""
    client = SysbenchClient(
        "bench", SysbenchParameters(**SMALL, workload="oltp_read_write"), load=load(concurrency=4), replicas=2
    )
    for rank in (0, 1):
        context = context_of(client, mariadb, rank=rank, ranks=2)
        assert sysbench_node.prepare(context)["database"] == f"sbtest_bench_{rank}"
        measurement = checked(sysbench_node.reduce(context, run(client, context)))
        assert measurement.status == "ok"
        assert "slices" in measurement.absent
        assert (context.folder / "command-1.out").read_text().count("Number of threads: 2") == 1
    assert set(made(mariadb, "sbtest_bench_0")) == set(made(mariadb, "sbtest_bench_1")) == {"sbtest1", "sbtest2"}


def test_more_threads_than_the_server_takes_are_refused_before_the_window(mariadb, context_of, load, run):
    """Of its 202 two are for what is counted and sampled meanwhile."""
    context = context_of(client_of(load(concurrency=201)), mariadb)
    with pytest.raises(
        PrepareError, match=r"concurrency is 201, and the server takes 202 connections, of which 2 .*max_connect"
    ):
        sysbench_node.prepare(context)
    assert sysbench_node.prepare(context_of(client_of(load(concurrency=200)), mariadb))["tables"] == 2


@pytest.mark.parametrize("secret", ["with blank", "#begins", '"quoted"', "line\nbreak"])
def test_a_password_that_the_tool_cannot_read_is_refused(mariadb, context_of, load, secret):
    context = context_of(client_of(load()), mariadb, secrets={"main": secret})
    with pytest.raises(PrepareError, match="cannot read the service's password"):
        sysbench_node.prepare(context)
    assert not sysbench_node.config_of(context).exists()


def test_what_the_tool_says_of_a_failed_preparation_is_told(mariadb, context_of, load, run):
    """It exits with 0 all the same."""
    context = context_of(client_of(load()), mariadb)
    sysbench_node.prepare(context)
    mariadb.ask("DROP TABLE sbtest_bench.sbtest1")
    mariadb.ask("CREATE VIEW sbtest_bench.sbtest1 AS SELECT 1 AS id")
    try:
        with pytest.raises(PrepareError, match=r"sbtest1 has 1 rows, not 500; sysbench said: FATAL: .*already exists"):
            sysbench_node.prepare(context)
    finally:
        mariadb.ask("DROP VIEW sbtest_bench.sbtest1")


def test_several_servers_are_refused(mariadb, context_of, load):
    context = context_of(client_of(load()), endpoints={"main": (mariadb.endpoint, mariadb.endpoint)})
    with pytest.raises(PrepareError, match="asks one server, and the service has 2 replicas"):
        sysbench_node.prepare(context)


# A script of the user's own.

SCRIPT = """
function prepare()
  local con = sysbench.sql.driver():connect()
  con:query("CREATE TABLE own (id INT PRIMARY KEY)")
  con:query("INSERT INTO own VALUES (1), (2), (3)")
end
function cleanup()
  sysbench.sql.driver():connect():query("DROP TABLE IF EXISTS own")
end
function thread_init()
  con = sysbench.sql.driver():connect()
end
function event()
  con:query("SELECT id FROM own WHERE id = " .. sysbench.rand.default(1, 3))
end
"""


def test_a_script_brings_its_own_tables_and_is_measured_like_any_other(mariadb, measured, load, tmp_path):
    path = tmp_path / "own.lua"
    path.write_text(SCRIPT)
    client = client_of(load(), script=str(path), prepare="script")
    _, done, measurement, counted = measured(client, mariadb)
    assert done == {"database": "sbtest_bench", "made": True, "reset": "none", "settings": done["settings"]}
    assert measurement.status == "ok"
    assert counted["Com_select"] == measurement.counts.ok == measurement.metrics["reads"]["value"]
    assert "operations" not in counted
    assert "script" in measurement.absent["server_operations"]


OF_THE_TOOL = """
require("oltp_common")
function prepare_statements()
  prepare_point_selects()
end
function event()
  execute_point_selects()
end
"""


def test_a_script_that_makes_tables_makes_those_that_the_window_reads(mariadb, measured, load, tmp_path):
    """As many, with as many rows, and none of an earlier point are left."""
    path = tmp_path / "own.lua"
    path.write_text(OF_THE_TOOL)
    mariadb.ask("DROP DATABASE IF EXISTS sbtest_bench")
    for tables, size, first in ((3, 700, True), (3, 300, False)):
        client = client_of(load(), script=str(path), prepare="script", tables=tables, table_size=size)
        context, done, measurement, _ = measured(client, mariadb, changes={"first": first})
        assert (done["made"], measurement.status) == (True, "ok")
        assert sysbench_node.prepare(replace(context, first=False))["made"] is False, "another repetition"
        counts = [mariadb.ask(f"SELECT COUNT(*) FROM sbtest_bench.{name}") for name in made(mariadb)]
        assert counts == [[(str(size),)]] * tables


def test_what_is_there_already_belongs_to_no_client(mariadb, context_of, load, run):
    client = client_of(load(), prepare="none")
    assert sysbench_node.prepare(context_of(client, mariadb))["database"] == "sbtest"
    (window,) = (command.encoded() for command in client.get_benchmark_commands(client.load, client.parameters))
    assert "--mysql-db=sbtest" in window


def test_without_transactions_the_server_counts_nothing_comparable(mariadb, measured, load):
    client = client_of(load(concurrency=16), workload="oltp_read_only", skip_trx=True)
    _, _, measurement, counted = measured(client, mariadb)
    assert measurement.health.workers == min(16, len(os.sched_getaffinity(0))), "threads beyond the cores use none"
    assert measurement.status == "ok"
    assert counted["Com_begin"] == 0
    assert "operations" not in counted
    assert "server_operations" in measurement.absent


# What becomes of a recipe.


def test_the_commands_carry_the_load(load):
    client = client_of(
        load(concurrency=8, warmup_s=2.0, duration_s=10.0),
        workload="oltp_read_write",
        key_distribution="pareto",
        prepared_statements=False,
    )
    warmup, window = (command.encoded() for command in client.get_benchmark_commands(client.load, client.parameters))
    assert warmup[0] == "sysbench"
    assert warmup[1:3] == ["--config-file=@{folder}/sysbench.cfg", "@{folder}/report.lua"]
    assert {
        "--afb-script=oltp_read_write",
        "--mysql-db=sbtest_bench",
        "--tables=2",
        "--table-size=500",
        "--rand-type=pareto",
        "--db-ps-mode=disable",
        "--threads=@{share.concurrency}",
        "--time=10",
        "--rand-seed=@{seed.point}",
        "--report-interval=1",
        "--histogram=on",
    } <= set(window)
    assert not any(argument.startswith("--rate=") for argument in window)
    assert "--time=2" in warmup
    assert not any(argument.startswith("--rand-seed") for argument in warmup), "the window must not read the same rows again"
    assert not any("secret" in argument for argument in (*warmup, *window))
    opened = client_of(load(process="poisson", rate_per_s=500.0))
    (window,) = (command.encoded() for command in opened.get_benchmark_commands(opened.load, opened.parameters))
    assert {"--rate=@{share.rate}", "--threads=@{share.connections}"} <= set(window)


def test_a_container_sees_the_folder_of_a_script(load):
    assert client_of(load(), script="/home/me/scripts/own.lua").get_binds() == ["/home/me/scripts"]
    assert client_of(load()).get_binds() == []


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"process": "constant", "rate_per_s": 100.0, "concurrency": None}, r"process: .*closed and poisson, found 'constant'"),
        ({"workers": 2}, r"workers: sysbench is one process, found 2"),
        ({"duration_s": 1.5}, r"duration: .*whole seconds, found 1\.5s[\s\S]*write 2s"),
        ({"warmup_s": 0.5}, r"warmup: .*whole seconds"),
        ({"concurrency": 1}, r"concurrency: 1 for 3 replicas"),
        ({"process": "poisson", "rate_per_s": 100.0, "concurrency": None}, r"rate: .*100/s[\s\S]*write 99/s"),
        ({"process": "poisson", "rate_per_s": 1.0, "concurrency": None}, r"rate: .*[\s\S]*write 3/s"),
    ],
)
def test_a_load_that_it_cannot_offer_is_refused(load, changes, text):
    client = SysbenchClient("bench", replicas=3, load=load(**changes))
    with pytest.raises(RecipeError, match=rf"^clients\.bench\.load\.{text}"):
        client.get_benchmark_commands(client.load, client.parameters)


@pytest.mark.parametrize(
    "wrong",
    [
        {"tables": 0},
        {"table_size": 0},
        {"script": "own.lua"},
        {"script": "/own.txt"},
        {"script": "/o'wn.lua"},
        {"range_size": 0},
    ],
)
def test_parameters_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=r"must be|script"):
        SysbenchParameters(**wrong)


def test_a_script_that_prepares_must_be_there():
    with pytest.raises(ValueError, match="needs a `script`"):
        SysbenchParameters(prepare="script")


def test_a_script_in_place_of_a_workload():
    assert SysbenchParameters().workload == "oltp_read_only"
    assert SysbenchParameters(script="/s.lua").workload is None
    with pytest.raises(ValueError, match=r"workload: `script` stands in its place; found oltp_read_only beside /s\.lua"):
        SysbenchParameters(script="/s.lua", workload="oltp_read_only")


def test_a_script_that_asks_nothing_is_no_measurement(mariadb, measured, load, tmp_path):
    path = tmp_path / "own.lua"
    path.write_text("function event() end\n")
    _, _, measurement, _ = measured(client_of(load(), script=str(path), prepare="none"), mariadb)
    assert (measurement.status, measurement.counts.ok) == ("failed", 0)
    assert measurement.reason.endswith("; the script sent no query")


def test_nothing_can_be_made_anew_where_nothing_is_made(mariadb, context_of, load, run):
    context = context_of(client_of(load(), prepare="none"), mariadb, reset="data")
    with pytest.raises(PrepareError, match="with `prepare: none` nothing is made anew"):
        sysbench_node.prepare(context)
