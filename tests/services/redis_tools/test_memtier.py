"""memtier_benchmark as a client: its command, and recorded output, through an executable that replays it."""

import copy
import json
import os
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aifactory_bench import RecipeError
from aifactory_bench.node.contract import PrepareError
from aifactory_bench.node.load.histogram import Histogram
from aifactory_bench_services import memtier_node
from aifactory_bench_services.memtier import MemtierClient, MemtierParameters
from aifactory_bench_services.redis import Operations

SAMPLES = Path(__file__).parent / "samples"
DOUBLES = Path(__file__).parent / "doubles"
MIX = json.loads((SAMPLES / "memtier-2.3.1-mix.json").read_text())


@pytest.fixture
def double(monkeypatch, tmp_path):
    """Put the replaying executable where memtier_benchmark would be; return a function that picks the case."""
    monkeypatch.setenv("PATH", f"{DOUBLES}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("MEMTIER_DOUBLE_LOG", str(tmp_path / "calls"))
    return lambda case: monkeypatch.setenv("MEMTIER_DOUBLE", case)


def client_of(load, *, replicas=1, **parameters):
    return MemtierClient("bench", MemtierParameters(**{"keys": 1000, **parameters}), replicas=replicas, load=load)


def calls(tmp_path):
    return [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]


# Through the executable.


def test_a_run_has_counts_rates_distributions_and_seconds(double, context_of, run, load, checked, tmp_path):
    double("mix")
    client = client_of(load(warmup_s=2.0, duration_s=3.0, workers=2))
    context = context_of(client)
    measurement = checked(memtier_node.reduce(context, run(client, context)))
    totals = MIX["ALL STATS"]["Totals"]
    assert (measurement.status, measurement.reason) == ("ok", "")
    assert measurement.counts.ok == totals["Count"] == 102_128
    assert measurement.counts.error == 0
    assert (measurement.window_asked_s, measurement.window_s) == (3.0, 3.002)
    assert measurement.achieved_per_s == pytest.approx(totals["Ops/sec"], rel=0.001)
    assert measurement.start_wall_ns == MIX["ALL STATS"]["Runtime"]["Start time"] * 1_000_000
    assert measurement.end_wall_ns - measurement.start_wall_ns == 3_002_000_000
    assert sorted(measurement.latency) == ["all", "get", "set"]
    for operation, name in (("get", "Gets"), ("set", "Sets"), ("all", "Totals")):
        histogram = Histogram.from_json(measurement.latency[operation]["send"])
        told = MIX["ALL STATS"][name]
        assert histogram.count == told["Count"]
        assert histogram.max_us == pytest.approx(told["Max Latency"] * 1000)
        for percent in (50, 90, 95, 99, 99.9):
            theirs = told["Percentile Latencies"][f"p{percent:.2f}"] * 1000
            assert histogram.percentile_us(percent) == pytest.approx(theirs, rel=0.002)
    assert Histogram.from_json(measurement.latency["all"]["send"]).mean_us == pytest.approx(293.10, abs=0.1), (
        "as its table says"
    )
    assert measurement.histogram_quality == "exact"
    assert [slice_["ok"] for slice_ in measurement.slices] == [33_271, 35_683, 33_164]
    assert measurement.metrics["hits"]["value"] == pytest.approx(92_860, abs=1)
    assert measurement.metrics["misses"]["value"] == 0
    assert (measurement.tool["name"], measurement.tool["version"]) == ("memtier_benchmark", "2.3.1")
    assert measurement.health.workers == 2
    assert measurement.unchecked == []
    # The warm-up is a run of its own, before the window, which leaves nothing.
    warm_up, window = calls(tmp_path)
    assert "--test-time=2" in warm_up
    assert "--test-time=3" in window
    assert [argument for argument in warm_up if "json" in argument] == []
    # The replayed progress tells of as many requests in each of the two; of the window all are counted.
    assert measurement.phase_counts["warmup"] == {"ok": totals["Count"], "error": 0, "timeout": 0, "skipped": 0}
    assert measurement.phases_s["warmup"] == 2.0
    assert "server_operations" not in measurement.absent


LAST = "[RUN #1 100%,   3 secs]  0 threads  5 conns:  {}      {} ops,   33164 (avg:   34037) ops/sec, 3.2MB/sec\n"


@pytest.mark.parametrize(
    ("stderr", "others"),
    [
        (LAST.format("", 102_128), 0),
        ("[RUN #1 67%,   2 secs]  2 threads  5 conns:       69108 ops, 1 ops/sec\r" + LAST.format("", 103_000), 872),
        (LAST.replace(" conns:", " conns 1 conn errors:").format("", 102_129), 1),
        (LAST.replace("0 threads", "2 threads").format("", 102_128), None),
        ("Saving JSON output file: r.json\n", None),
        ("", None),
    ],
)
def test_what_it_sent_in_all_is_in_its_last_words(context_of, outcome_of, load, stderr, others):
    """What a pipeline brings after the end is in no count of the JSON, and the server has counted it."""
    context = context_of(client_of(load()))
    (context.folder / "memtier.json").write_text(json.dumps(MIX))
    measurement = memtier_node.reduce(context, outcome_of(stderr=stderr))
    assert measurement.counts.ok == 102_128
    if others is None:
        assert "how many requests it sent" in measurement.absent["server_operations"]
        assert "warmup" not in measurement.phase_counts
    else:
        assert measurement.phase_counts["warmup"]["ok"] == others
        assert "server_operations" not in measurement.absent


def test_a_warm_up_that_does_not_say_what_it_sent_leaves_nothing_to_compare(context_of, outcome_of, load):
    context = context_of(client_of(load(warmup_s=1.0)))
    (context.folder / "memtier.json").write_text(json.dumps(MIX))
    (context.folder / "command-1.err").write_text(LAST.format("", 500))
    measurement = memtier_node.reduce(context, outcome_of(stderr=LAST.format("", 102_128)))
    assert measurement.phase_counts["warmup"]["ok"] == 500
    (context.folder / "command-1.err").write_text("connection dropped.\n")
    measurement = memtier_node.reduce(context, outcome_of(stderr=LAST.format("", 102_128)))
    assert "server_operations" in measurement.absent


def test_the_password_does_not_stay_in_the_file_that_memtier_writes(double, context_of, run, load, tmp_path):
    client = client_of(load())
    context = context_of(client)
    secret = context.secrets["main"]
    for case, limit_s in (("mix", 30.0), ("wrong-password", 1.0)):
        double(case)
        outcome = run(client, context, limit_s=limit_s)
        assert secret in (context.folder / "memtier.json").read_text()
        memtier_node.reduce(context, outcome)
        text = (context.folder / "memtier.json").read_text()
        assert secret not in text
        assert '"authenticate": "***"' in text or '"authenticate": "***",' in text
        assert secret not in " ".join(outcome.argv)


@pytest.mark.parametrize("case", ["server-absent", "server-killed"])
def test_exit_code_0_with_nothing_measured_is_a_failure_with_the_reason(double, context_of, run, load, case):
    double(case)
    client = client_of(load())
    context = context_of(client)
    outcome = run(client, context)
    assert outcome.exit_code == 0
    measurement = memtier_node.reduce(context, outcome)
    assert measurement.status == "failed"
    assert measurement.reason.startswith("tool output is not a success: exit code 0: ")
    assert "counted 0 requests" in measurement.reason
    assert "[RUN" not in measurement.reason
    assert "Connection" in measurement.reason or "connection" in measurement.reason


def test_a_wrong_password_hangs_and_is_cut_off_with_the_reason(double, context_of, run, load):
    double("wrong-password")
    client = client_of(load())
    context = context_of(client)
    outcome = run(client, context, limit_s=1.0)
    assert outcome.timed_out
    measurement = memtier_node.reduce(context, outcome)
    assert measurement.status == "failed"
    assert "ran past the budget" in measurement.reason
    assert "authentication failed [-WRONGPASS" in measurement.reason


def test_replies_that_are_errors_are_no_successes(double, context_of, run, load):
    """The tool counts them like any other; only its standard error tells."""
    double("error-replies")
    client = client_of(load())
    context = context_of(client)
    outcome = run(client, context)
    measurement = memtier_node.reduce(context, outcome)
    told = outcome.stderr.read_text().count("handle error response")
    assert measurement.counts.error == told > 10
    assert measurement.errors == {"NOAUTH": told}
    assert measurement.counts.ok == 48_226 - told
    outcome.stderr.write_text("server x handle error response: -NOAUTH Authentication required.\n" * 48_226)
    every = memtier_node.reduce(context, outcome)
    assert every.status == "failed"
    assert "every one of 48226 replies was an error: " in every.reason
    assert "NOAUTH" in every.reason


def test_a_missing_program_is_named(context_of, load, outcome_of):
    measurement = memtier_node.reduce(context_of(client_of(load())), outcome_of(stderr="not found", exit_code=127))
    assert measurement.status == "failed"
    assert "could not be started (exit code 127): not found" in measurement.reason


def test_an_interrupted_run_is_cut(context_of, outcome_of, load):
    context = context_of(client_of(load(duration_s=3.0)))
    (context.folder / "memtier.json").write_text(
        json.dumps(MIX).replace('"Interrupted": "false"', '"Interrupted": "true"').replace("3002", "1500")
    )
    measurement = memtier_node.reduce(context, outcome_of())
    assert (measurement.status, measurement.window_s) == ("cut", 1.5)
    assert measurement.counts.ok > 0
    assert memtier_node.reduce(context, outcome_of(exit_code=-9)).status == "cut"


def test_a_version_without_distributions_gives_its_quantiles(context_of, outcome_of, load):
    document = copy.deepcopy(MIX)
    for entry in document["ALL STATS"].values():
        entry.get("Percentile Latencies", {}).pop("Histogram log format", None)
    context = context_of(client_of(load()))
    (context.folder / "memtier.json").write_text(json.dumps(document))
    measurement = memtier_node.reduce(context, outcome_of())
    assert measurement.status == "ok"
    assert measurement.histogram_quality == "none"
    assert measurement.latency == {}
    quantiles = measurement.quantiles["all"]
    assert quantiles == {
        "p50_us": pytest.approx(199),
        "p90_us": pytest.approx(463),
        "p99_us": pytest.approx(2591),
        "p999_us": pytest.approx(6719),
        "max_us": pytest.approx(14_655),
        "count": 102_128,
    }
    assert "latency" in measurement.absent


def test_replicas_have_no_seconds_because_these_could_not_be_merged(context_of, outcome_of, load):
    context = context_of(client_of(load()), ranks=2)
    (context.folder / "memtier.json").write_text(json.dumps(MIX))
    measurement = memtier_node.reduce(context, outcome_of())
    assert measurement.slices == []
    assert "slices" in measurement.absent


# Before the window.


def test_keys_stand_under_the_names_that_memtier_asks_for(start_server, context_of, load):
    server = start_server()
    client = client_of(load(), keys=1001, value_size_bytes=10)
    for rank in (0, 1, 2):
        written = memtier_node.prepare(context_of(client, server, rank=rank, ranks=3))
        assert written["keys"] == (334 if rank < 2 else 333)
    assert server.ask("DBSIZE") == "1001"
    for key in (1, 334, 335, 1001):
        assert server.ask("STRLEN", f"memtier-{key}") == "10"
    assert server.ask("EXISTS", "memtier-0", "memtier-1002") == "0"


def test_keys_that_cannot_be_written_are_said(start_server, context_of, load):
    server = start_server()
    with pytest.raises(PrepareError, match="WRONGPASS"):
        memtier_node.prepare(context_of(client_of(load()), server, secret="wrong"))
    with pytest.raises(PrepareError, match="Connection refused"):
        memtier_node.prepare(context_of(client_of(load())))


# What it is asked to do.


def test_the_command_carries_the_load(load):
    client = client_of(
        load(concurrency=48, workers=4, warmup_s=0.0, duration_s=30.0),
        replicas=2,
        operations=Operations(get=3, set=2),
        keys=777,
        value_size_bytes=100,
        pipeline=4,
    )
    (command,) = client.get_benchmark_commands(client.load, client.parameters)
    assert command.encoded() == [
        *("memtier_benchmark", "-h", "@{endpoint.main.0.host}", "-p", "@{endpoint.main.0.port}"),
        *("-a", "default:@{endpoint.main.0.secret}", "-t", "4", "-c", "6", "--pipeline=4", "--ratio=2:3", "-d", "100"),
        *("--key-prefix=memtier-", "--key-pattern=R:R", "--key-minimum=1", "--key-maximum=777"),
        *("--distinct-client-seed", "--randomize", "--hide-histogram", "--print-percentiles=50,90,95,99,99.9"),
        *("--test-time=30", "--json-out-file=@{raw}/memtier.json"),
    ]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"process": "poisson", "rate_per_s": 100.0, "concurrency": None},
            r"process: memtier offers a closed loop[\s\S]*redis-load",
        ),
        ({"process": "constant", "rate_per_s": 100.0, "concurrency": None}, r"process: memtier[\s\S]*redis-load"),
        ({"duration_s": 1.5}, r"duration: memtier takes whole seconds, found 1\.5s[\s\S]*write 2s"),
        ({"warmup_s": 0.2}, r"warmup: memtier takes whole seconds, found 0\.2s[\s\S]*write 1s"),
        (
            {"concurrency": 50, "workers": 4},
            r"concurrency: [\s\S]*50 do not divide into 2 replicas with 4 workers[\s\S]*write 48",
        ),
        ({"concurrency": 1}, r"concurrency: [\s\S]*write 2"),
    ],
)
def test_a_load_that_it_cannot_offer_is_refused(load, changes, text):
    client = client_of(load(**changes), replicas=2)
    with pytest.raises(RecipeError, match=rf"^clients\.bench\.load\.{text}"):
        client.get_benchmark_commands(client.load, client.parameters)


@pytest.mark.parametrize("wrong", [{"pipeline": 0}, {"keys": 0}, {"value_size_bytes": 0}])
def test_parameters_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MemtierParameters(**wrong)


def test_a_mix_of_nothing_is_refused():
    with pytest.raises(ValueError, match="above 0"):
        Operations()


# Damaged output.


def _damaged(value, random_):
    """Return the document with one thing in it replaced or gone."""
    parent, key = None, None
    while isinstance(value, dict) and value and (parent is None or random_.random() < 0.8):
        parent, key = value, random_.choice(sorted(value))
        value = value[key]
    if random_.random() < 0.3:
        del parent[key]
    else:
        parent[key] = random_.choice([None, -1, 0, 10**30, float("nan"), "x", [], {}, True, 1.5, {"Count": 3}])


@given(seed=st.integers(0, 2**32), cut=st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_output_never_raises_and_stays_a_document(context_of, outcome_of, load, checked, seed, cut):
    random_ = random.Random(seed)
    document = copy.deepcopy(MIX)
    for _ in range(random_.randrange(1, 4)):
        _damaged(document, random_)
    text = json.dumps(document)
    context = context_of(client_of(load()))
    (context.folder / "memtier.json").write_text(text[: random_.randrange(len(text))] if cut else text)
    measurement = checked(memtier_node.reduce(context, outcome_of()))
    assert measurement.status in {"ok", "cut"} or measurement.reason.startswith("tool output is not a success: ")
    assert measurement.status == "failed" or (measurement.counts.ok > 0 and measurement.window_s > 0)
    for clocks in measurement.latency.values():
        Histogram.from_json(clocks["send"])


def test_no_output_is_a_failure_with_a_reason(context_of, outcome_of, load):
    context = context_of(client_of(load()))
    for text in (None, "", "[]", "{}", '{"ALL STATS": []}', "{" * 5000, '{"ALL STATS": {"Totals": {}}}'):
        if text is not None:
            (context.folder / "memtier.json").write_text(text)
        measurement = memtier_node.reduce(context, outcome_of())
        assert measurement.status == "failed"
        assert measurement.reason.startswith("tool output is not a success: exit code 0")
