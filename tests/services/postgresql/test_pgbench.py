"""pgbench as a client: its command, and what it does against a real server."""

import json

import pytest

from aifactory_bench import RecipeError
from aifactory_bench.node.contract import PrepareError
from aifactory_bench.node.load.histogram import Histogram
from aifactory_bench_services import pgbench_node
from aifactory_bench_services.pgbench import PgbenchClient, PgbenchParameters
from aifactory_bench_services.pgbench_log_node import read_log

BAD = "\\set a random(1, 10)\nSELECT no_such_column FROM pgbench_accounts WHERE aid = :a;\n"
HISTORY = """
SELECT count(*) AS n, min(aid) AS first, max(aid) AS last, min(tid) AS first_teller, max(tid) AS last_teller,
  min(bid) AS first_branch, max(bid) AS last_branch FROM pgbench_history
"""
DEADLOCK = """\
\\set a random(1, 2)
\\set b 3 - :a
BEGIN;
UPDATE pgbench_branches SET bbalance = 1 WHERE bid = :a;
UPDATE pgbench_branches SET bbalance = 1 WHERE bid = :b;
END;
"""


def client_of(load, *, replicas=1, **parameters):
    return PgbenchClient("bench", PgbenchParameters(**{"scale": 1, **parameters}), replicas=replicas, load=load)


@pytest.fixture
def measured(server, context_of, run, checked, programs, monkeypatch):
    """Prepare, run and reduce as the node side does."""
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")

    def go(client, *, during=None, after_s=0.0, **changes):
        context = context_of(client, server.endpoint, **changes)
        prepared = pgbench_node.prepare(context)
        first = pgbench_node.counters(server.endpoint, server.secret)
        outcome = run(client, context, during=during, after_s=after_s)
        last = pgbench_node.counters(server.endpoint, server.secret)
        measurement = checked(pgbench_node.reduce(context, outcome))
        return measurement, prepared, last["operations"] - first["operations"], context

    return go


def sent_of(measurement):
    parts = (vars(measurement.counts), measurement.phase_counts["warmup"])
    return sum(part[name] for part in parts for name in ("ok", "error", "timeout"))


def histogram_of(measurement, operation, clock="send"):
    return Histogram.from_json(measurement.latency[operation][clock])


# Against the real server.


def test_a_closed_loop_measures_what_its_log_says_and_the_server_counted(measured, load):
    client = client_of(load(warmup_s=0.3, duration_s=1.1, workers=2))
    measurement, prepared, counted, context = measured(client, reset="data")
    assert (measurement.status, measurement.reason) == ("ok", "")
    assert (prepared["scale"], prepared["filled"], prepared["checkpoint"]) == (1, True, True)
    assert (measurement.unit, measurement.process) == ("transaction", "closed")
    assert measurement.window_s == measurement.window_asked_s == 1.1
    assert sent_of(measurement) == counted
    # The same from the log by hand.
    log = read_log(context.folder, "transactions", is_open=False)
    start_us = measurement.start_wall_ns // 1000
    latencies = [
        end - sent
        for thread in log.threads
        for sent, end in zip(thread.sent_us, thread.end_us, strict=True)
        if start_us <= sent < start_us + 1_100_000
    ]
    histogram = histogram_of(measurement, "select-only")
    assert measurement.counts.ok == histogram.count == len(latencies)
    assert histogram.max_us == max(latencies)
    assert histogram.mean_us == pytest.approx(sum(latencies) / len(latencies))
    assert measurement.latency["all"]["schedule"] is None
    assert [slice_["second"] for slice_ in measurement.slices] == [0, 1]
    assert sum(slice_["ok"] for slice_ in measurement.slices) == len(latencies)
    assert measurement.tool["version"].startswith("15")
    assert len(log.threads) == measurement.health.workers == 2


def test_the_server_counts_the_same_by_another_protocol(measured, load):
    client = client_of(load(duration_s=0.4), workload="simple-update", protocol="simple")
    measurement, _, counted, _ = measured(client)
    assert sent_of(measurement) == counted


def test_an_open_loop_has_both_clocks_and_says_who_was_late(measured, load):
    client = client_of(load(process="poisson", rate_per_s=200.0, concurrency=None, connections=4, warmup_s=0.4, duration_s=2.0))
    measurement, _, counted, _ = measured(client)
    assert measurement.status == "ok"
    assert measurement.offered_per_s == 200.0
    assert measurement.counts.ok + measurement.counts.skipped == pytest.approx(400, abs=90), "4.5 standard deviations"
    send, schedule = histogram_of(measurement, "all"), histogram_of(measurement, "all", "schedule")
    assert send.count == schedule.count == measurement.counts.ok
    assert send.sum_ns < schedule.sum_ns
    lag = Histogram.from_json(measurement.distributions["schedule_lag"]["histogram"])
    assert lag.sum_ns == schedule.sum_ns - send.sum_ns
    lateness, gate = (Histogram.from_json(getattr(measurement.health, name)) for name in ("lateness", "gate"))
    assert lateness.sum_ns + gate.sum_ns == lag.sum_ns
    assert sent_of(measurement) == counted
    assert "latency.schedule" not in measurement.absent


def test_more_than_the_server_can_do_is_a_backlog_and_no_success(measured, load):
    """One connection with a statement of 20 ms does 50 a second; 200 are due."""
    script = "SELECT pg_sleep(0.02);\n"
    client, path = scripted(load, script, process="poisson", rate_per_s=200.0, concurrency=None, connections=1, duration_s=1.5)
    measurement, _, _, _ = measured(client)
    assert 5 < measurement.achieved_per_s < 51
    due = sum(vars(measurement.counts).values())
    assert due == pytest.approx(300, abs=80)
    assert measurement.counts.skipped > 150
    assert "reckoned from the rate" in measurement.absent["counts.backlog"]
    gate = Histogram.from_json(measurement.health.gate)
    assert gate.percentile_us(50) > 300_000, "they wait for the connection, which is not the tool's doing"
    assert Histogram.from_json(measurement.health.lateness).percentile_us(50) < 20_000
    path.unlink()


def test_with_a_latency_limit_what_would_be_late_is_skipped_and_counted(measured, load):
    client, path = scripted(
        load,
        "SELECT pg_sleep(0.02);\n",
        process="poisson",
        rate_per_s=200.0,
        concurrency=None,
        connections=1,
        duration_s=0.5,
        latency_limit_s=0.05,
    )
    measurement, _, _, _ = measured(client)
    assert measurement.counts.skipped > 30
    assert measurement.metrics["above_limit"]["value"] > 0
    lag = Histogram.from_json(measurement.distributions["schedule_lag"]["histogram"])
    assert lag.percentile_us(50) < 100_000, "without the limit half of them wait for 0.3 s and more"
    path.unlink()


def scripted(load, text, **changes):
    """Return a client with a script of its own."""
    import tempfile
    from pathlib import Path

    with tempfile.NamedTemporaryFile("w", suffix=".sql", delete=False) as file:
        file.write(text)
    own = {name: changes.pop(name) for name in ("tries", "latency_limit_s") if name in changes}
    return client_of(load(**changes), script=file.name, **own), Path(file.name)


def test_deadlocks_are_errors_of_their_class_and_no_latencies(measured, load, server):
    with server.connect() as admin:
        admin.ask("ALTER DATABASE bench_bench SET deadlock_timeout = '20ms'")
    client, path = scripted(load, DEADLOCK, duration_s=0.4)
    client = PgbenchClient("bench", PgbenchParameters(scale=2, script=str(path)), load=client.load)
    measurement, _, _, context = measured(client)
    assert measurement.errors["deadlock"] == measurement.counts.error > 0
    words = read_log(context.folder, "transactions", is_open=False).words()
    assert words["deadlock"] >= measurement.counts.error
    assert histogram_of(measurement, "script").count == measurement.counts.ok > 0
    assert "server_operations" in measurement.absent
    path.unlink()


def test_a_statement_that_fails_ends_the_tool_with_its_words(measured, load):
    client, path = scripted(load, BAD, duration_s=0.4)
    measurement, _, _, _ = measured(client)
    assert measurement.status == "failed"
    assert "tool output is not a success: exit code 2" in measurement.reason
    assert 'ERROR:  column "no_such_column" does not exist' in measurement.reason
    path.unlink()


def test_replicas_write_rows_of_their_own(measured, load, server):
    """Of 5 branches with 100,000 accounts and 10 tellers each, the first has 2 and the second 3."""
    seen = []
    for rank in (0, 1):
        client = client_of(load(duration_s=0.4, concurrency=4), workload="tpcb-like", replicas=2, scale=5)
        changes = {"rank": rank, "ranks": 2, "reset": "data"}
        measurement, prepared, counted, _ = measured(client, **changes)
        assert sent_of(measurement) == counted
        assert measurement.status == "ok"
        assert prepared.get("scale") == (5 if rank == 0 else None)
        with server.connect("bench_bench") as admin:
            rows = admin.ask(HISTORY)
            admin.ask("TRUNCATE pgbench_history")
            seen.append({name: int(value) for name, value in rows[0].items()})
    for rank, (branches, above) in enumerate(((range(1, 3), 0), (range(3, 6), 200_000))):
        found = seen[rank]
        assert found["n"] > 20
        assert (found["first_branch"], found["last_branch"]) == (branches[0], branches[-1])
        assert above < found["first"] < found["last"] <= above + 100_000 * len(branches)
        assert branches[0] * 10 - 9 <= found["first_teller"] < found["last_teller"] <= branches[-1] * 10


def test_a_sample_is_scaled_to_what_the_tool_counted(measured, load):
    client = client_of(load(duration_s=1.0), sampling=0.5)
    measurement, _, counted, context = measured(client)
    assert measurement.status == "ok", measurement.reason
    assert sent_of(measurement) == pytest.approx(counted, abs=2)
    written = histogram_of(measurement, "all").count
    assert written >= 1000
    assert measurement.counts.ok == pytest.approx(2 * written, rel=0.3)
    assert measurement.metrics["sampling"]["value"] == 0.5
    assert measurement.achieved_per_s == measurement.metrics["tool_rate"]["value"], "the tool has counted all of them"
    assert measurement.start_wall_ns // 1000 < read_log(context.folder, "transactions", is_open=False).span_us()[1] - 10**6
    assert "whole run" in measurement.absent["counts.sampled"]


@pytest.mark.parametrize("sampling", [0.0002, 1e-6])
def test_a_sample_that_is_too_small_is_no_measurement(measured, load, sampling):
    """Five transactions give no rate, and none at all were not sent in the warm-up."""
    measurement, _, _, _ = measured(client_of(load(duration_s=0.4), sampling=sampling))
    assert measurement.status == "failed"
    assert f"a sample of {sampling:g} holds" in measurement.reason
    assert "at least 1000 are needed" in measurement.reason
    assert "warm-up" not in measurement.reason


def test_the_window_of_a_sample_does_not_begin_with_what_was_written_down(recorded):
    """The same window, whichever transaction is the first of the sample; what is in it is too little here."""
    for drop in (0, 10):
        measurement = recorded(drop=drop, sampling=0.5)
        assert measurement.start_wall_ns == 1_795_814_912_000_000_000 + (3_000 - 500 - 1_200) * 1_000_000
        assert "holds" in measurement.reason


def test_the_data_is_made_anew_only_where_it_is_asked_for_or_another(measured, load, server, context_of):
    client = client_of(load(duration_s=0.2), scale=1)
    measured(client, reset="data")
    with server.connect("bench_bench") as admin:
        admin.ask("UPDATE pgbench_accounts SET abalance = 7 WHERE aid = 1")
        prepared = pgbench_node.prepare(context_of(client, server.endpoint))
        assert (prepared["filled"], prepared["command"]) == (False, "pgbench -i -q -I v")
        assert admin.ask("SELECT abalance AS a FROM pgbench_accounts WHERE aid = 1") == [{"a": "7"}]
        assert pgbench_node.prepare(context_of(client, server.endpoint, reset="data"))["filled"]
        assert admin.ask("SELECT abalance AS a FROM pgbench_accounts WHERE aid = 1") == [{"a": "0"}]
        admin.ask("DELETE FROM pgbench_accounts WHERE aid = 100000")
        assert pgbench_node.prepare(context_of(client, server.endpoint))["filled"], "half a table is none"


def test_what_was_made_of_the_extensions_is_told(load, server, context_of, measured):
    client = client_of(load())
    services = {"main": {"extensions": ["pgcrypto"]}}
    prepared = pgbench_node.prepare(context_of(client, server.endpoint, service_parameters=services))
    assert list(prepared["extensions"]) == ["pgcrypto"]
    assert prepared["extensions"]["pgcrypto"][0].isdecimal()


def test_no_server_and_no_program_are_told(context_of, load, server, monkeypatch, tmp_path):
    client = client_of(load())
    gone = server.endpoint.__class__("db", 0, "127.0.0.1", 1, "postgresql://127.0.0.1:1")
    with pytest.raises(PrepareError, match=r"127\.0\.0\.1:1: the tables cannot be filled: .*refused"):
        pgbench_node.prepare(context_of(client, gone))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(pgbench_node, "locate", lambda _name: None)
    with pytest.raises(PrepareError, match=r"the program 'pgbench' was not found"):
        pgbench_node.prepare(context_of(client, server.endpoint, reset="data"))


def test_no_replicas_of_the_server(context_of, load, server):
    context = context_of(client_of(load()), server.endpoint, endpoints={"main": (server.endpoint, server.endpoint)})
    with pytest.raises(PrepareError, match="asks one server, and the service has 2 replicas"):
        pgbench_node.prepare(context)


# The command.


def test_the_command_of_a_point(load):
    client = client_of(
        load(process="poisson", rate_per_s=100.0, concurrency=None, connections=60, warmup_s=2.0, duration_s=3.5)
    )
    client.parameters = PgbenchParameters(latency_limit_s=0.1, sampling=0.5)
    (command,) = client.get_benchmark_commands(client.load, client.parameters)
    assert command.encoded() == [
        *("pgbench", "-n", "-M", "prepared", "-b", "select-only", "-c", "@{share.connections}", "-j", "1"),
        *("-T", "8", "--random-seed=@{seed}", "-R", "@{share.rate}", "-L", "100", "--failures-detailed", "--max-tries=1"),
        *("--log", "--log-prefix=@{raw}/transactions", "--sampling-rate=0.5", "@{endpoint.main.0.url}/bench_bench"),
    ]


def test_the_password_is_in_the_environment_alone(load):
    client = client_of(load())
    text = client.generate_slurm_script()
    assert text.count(".secret}") == 1
    assert '"PGPASSWORD": "@{endpoint.main.0.secret}"' in text
    assert json.dumps(client.get_benchmark_commands(client.load, client.parameters)[0].encoded()).count("secret") == 0


@pytest.mark.parametrize(
    ("changes", "parameters", "text"),
    [
        (
            {"process": "constant", "rate_per_s": 1.0, "concurrency": None},
            {},
            r"load\.process: pgbench offers closed and poisson",
        ),
        ({"workers": 3, "concurrency": 4}, {}, r"load\.concurrency: 4 for 2 replicas with 3 threads each"),
        ({"concurrency": 8}, {"workload": "tpcb-like", "scale": 4}, r"parameters\.scale: 4 for 8 connections[\s\S]*write 8"),
        ({}, {"scale": 1}, r"parameters\.scale: 1 for 2 replicas"),
    ],
)
def test_a_load_that_it_cannot_offer_is_refused(load, changes, parameters, text):
    client = client_of(load(**changes), replicas=2, **{"scale": 100, **parameters})
    with pytest.raises(RecipeError, match=rf"^clients\.bench\.{text}"):
        client.get_benchmark_commands(client.load, client.parameters)


def test_steps_of_rates_are_refused(load):
    from aifactory_bench import RateStep

    steps = (RateStep(1.0, 5.0),)
    client = client_of(load(process="poisson", rates=steps, concurrency=None, connections=4))
    with pytest.raises(RecipeError, match=r"load\.rates: pgbench has one rate a point"):
        client.get_benchmark_commands(client.load, client.parameters)


@pytest.mark.parametrize("wrong", [{"scale": 0}, {"script": "x.sql"}, {"script": "/a@3"}, {"sampling": 0.0}, {"tries": 0}])
def test_parameters_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        PgbenchParameters(**wrong)


# Recorded and damaged output.


def outcome_of(tmp_path, text, **changes):
    from aifactory_bench.node.contract import ToolOutcome

    (tmp_path / "out").write_text(text)
    (tmp_path / "err").write_text(changes.pop("stderr", ""))
    fields = {"argv": ("no-such/pgbench", "-T", "3"), "exit_code": 0, "timed_out": False, "stopped": False}
    fields |= {"start_wall_ns": 1_795_814_912_000_000_000, "duration_s": 2.1, "cpu_s": 0.1}
    return ToolOutcome(**{**fields, "stdout": tmp_path / "out", "stderr": tmp_path / "err", **changes})


@pytest.fixture
def recorded(context_of, load, samples, tmp_path, server):
    """Return what is made of the recorded open loop, or of a part of it."""
    import shutil

    def go(keep=None, drop=0, ranks=1, sampling=1.0, **changes):
        client = client_of(
            load(process="poisson", rate_per_s=100.0, concurrency=None, connections=3, workers=2, warmup_s=0.5, duration_s=1.2),
            sampling=sampling,
        )
        context = context_of(client, server.endpoint, ranks=ranks)
        for path in (samples / "open").glob("transactions.*"):
            shutil.copy(path, context.folder)
            if drop:
                lines = path.read_text().splitlines(keepends=True)
                (context.folder / path.name).write_text("".join(lines[drop:]))
            if keep is not None:
                data = path.read_bytes()
                (context.folder / path.name).write_bytes(data[: round(keep * len(data))])
        text = (samples / "open/summary").read_text()
        if "processed" in changes:
            text = text.replace("processed: 176", f"processed: {changes.pop('processed')}")
        return pgbench_node.reduce(context, outcome_of(tmp_path, text, **changes))

    return go


def test_the_recorded_run_is_taken(recorded):
    measurement = recorded()
    assert (measurement.status, measurement.counts.error) == ("ok", 0)
    assert 70 < measurement.counts.ok < 150
    assert 1 <= measurement.counts.skipped <= 4
    assert measurement.metrics["tool_rate"]["value"] > 0


def test_windows_of_replicas_are_one_however_long_each_took_to_start_up(recorded):
    """Of one of them the first transactions came later."""
    quick, slow = recorded(ranks=2, processed=0), recorded(ranks=2, drop=10, processed=0)
    assert quick.counts.ok == slow.counts.ok > 0
    assert (quick.start_wall_ns, quick.end_wall_ns) == (slow.start_wall_ns, slow.end_wall_ns)
    assert quick.phases_s["warmup"] > slow.phases_s["warmup"] > 0.5, "none is without the warm-up that was asked for"
    alone, later = recorded(), recorded(drop=10, processed=0)
    assert alone.start_wall_ns < later.start_wall_ns, "one alone has its warm-up from its first transaction on"


def test_half_of_it_after_an_abort_is_cut_and_nothing_of_it_is_no_measurement(recorded):
    died = "pgbench: error: client 0 aborted in command 4 (SQL) of script 0; perhaps the backend died while processing\n"
    half = recorded(keep=0.5, exit_code=2, stderr=died)
    assert (half.status, half.errors["aborted"]) == ("cut", 1)
    assert half.window_s < half.window_asked_s * 0.7
    assert "exit code 2" in half.reason
    assert "backend died" in half.reason
    nothing = recorded(keep=0.0, exit_code=1, stderr="pgbench: error: connection refused\n")
    assert nothing.status == "failed"
    assert nothing.reason.startswith("tool output is not a success: exit code 1: pgbench: error: connection refused")
