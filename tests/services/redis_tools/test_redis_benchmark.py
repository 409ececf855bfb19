"""redis-benchmark as a client: the real tool on a real server, recorded output of it, and damaged output."""

import os
import random
import re
import signal
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aifactory_bench import RecipeError
from aifactory_bench.node.contract import PrepareError
from aifactory_bench.node.load.histogram import Histogram
from aifactory_bench_services import redis_benchmark, redis_benchmark_node
from aifactory_bench_services.redis_benchmark import RedisBenchmarkClient, RedisBenchmarkParameters
from aifactory_bench_services.redis_benchmark_text_node import parse

SAMPLES = Path(__file__).parent / "samples"
RECORDED = sorted(path.name for path in SAMPLES.glob("redis-benchmark-7*.txt"))


def client_of(load, **parameters):
    return RedisBenchmarkClient("bench", RedisBenchmarkParameters(**{"keys": 500, **parameters}), load=load)


@pytest.fixture(autouse=True)
def short_allowance(monkeypatch):
    """What a run may take beyond its window is for reports of half a second; here they take milliseconds."""
    monkeypatch.setattr(redis_benchmark, "_LEAST_ALLOWANCE_S", 0.5)


# The real tool.


def test_a_real_run_has_window_count_rate_and_distribution(start_server, context_of, run, load, checked):
    server = start_server()
    client = client_of(load(warmup_s=0.5, duration_s=1.0), requests=2000)
    context = context_of(client, server)
    assert redis_benchmark_node.prepare(context)["keys"] == 500
    assert server.ask("DBSIZE") == "500"
    assert server.ask("STRLEN", "key:000000000499") == "64"
    outcome = run(client, context)
    measurement = checked(redis_benchmark_node.reduce(context, outcome))
    assert (measurement.status, measurement.reason) == ("ok", "")
    assert measurement.window_asked_s == 1.0
    assert 1.0 <= measurement.window_s < 3.0
    assert measurement.counts.ok > 0
    assert measurement.counts.ok % 2000 == 0, "the window is made of whole reports"
    assert measurement.achieved_per_s == pytest.approx(measurement.counts.ok / measurement.window_s)
    assert measurement.phases_s["warmup"] >= 0.5
    histogram = Histogram.from_json(measurement.latency["get"]["send"])
    assert histogram.count == measurement.counts.ok
    assert measurement.latency["all"] == measurement.latency["get"]
    assert measurement.latency["get"]["schedule"] is None
    assert histogram.min_us <= histogram.percentile_us(50) <= histogram.percentile_us(99) <= histogram.max_us
    assert measurement.histogram_quality == "text"
    assert measurement.tool["name"] == "redis-benchmark"
    assert re.fullmatch(r"\d+\.\d+\.\d+", measurement.tool["version"])
    assert measurement.tool["exit_code"] is None
    assert measurement.unchecked == []
    assert "latency.schedule" in measurement.absent
    assert "slices" in measurement.absent
    # The server has done at least what is claimed, and nothing but this test's reads.
    assert int(re.search(r"keyspace_hits:(\d+)", server.ask("INFO", "stats"))[1]) >= measurement.counts.ok
    assert re.search(r"keyspace_misses:0\b", server.ask("INFO", "stats"))


@pytest.mark.parametrize(
    ("parameters", "key"),
    [
        ({"test": "set", "pipeline": 16, "value_size_bytes": 1000}, "key:"),
        ({"test": "mset"}, "key:"),
        ({"test": "lpush"}, "mylist"),
        ({"test": "zadd"}, "myzset"),
        ({"test": "incr"}, "counter:"),
        ({"test": "ping_mbulk"}, None),
    ],
)
def test_every_kind_of_test_gives_a_measurement(start_server, context_of, run, load, parameters, key):
    server = start_server()
    client = client_of(load(duration_s=0.3), requests=1600, **parameters)
    context = context_of(client, server)
    redis_benchmark_node.prepare(context)
    measurement = redis_benchmark_node.reduce(context, run(client, context))
    assert measurement.status == "ok", measurement.reason
    assert list(measurement.latency) == [parameters["test"], "all"]
    assert key is None or server.ask("--scan", "--pattern", f"{key}*")


def test_a_growing_key_begins_empty(start_server, context_of, load):
    server = start_server()
    server.ask("LPUSH", "mylist", "from before")
    server.ask("SET", "somebody", "else")
    redis_benchmark_node.prepare(context_of(client_of(load(), test="rpush"), server))
    assert server.ask("--scan") == "somebody"


def test_a_server_without_password_is_measured_too(start_server, context_of, run, load):
    server = start_server(secret="")
    client = client_of(load(duration_s=0.2), requests=1000)
    context = context_of(client, server)
    redis_benchmark_node.prepare(context)
    assert redis_benchmark_node.reduce(context, run(client, context)).status == "ok"


def test_no_server_ends_with_the_reason_though_the_tool_would_spin_forever(context_of, run, load):
    client = client_of(load(duration_s=0.5))
    context = context_of(client)
    began = time.monotonic()
    measurement = redis_benchmark_node.reduce(context, run(client, context))
    assert time.monotonic() - began < 20
    assert measurement.status == "failed"
    assert measurement.reason.startswith("tool output is not a success: ")
    assert "Connection refused" in measurement.reason
    assert measurement.counts.ok == 0


def test_no_server_and_the_point_out_of_budget(context_of, run, load):
    client = client_of(load(duration_s=20.0))
    context = context_of(client)
    outcome = run(client, context, limit_s=1.0)
    assert outcome.timed_out
    measurement = redis_benchmark_node.reduce(context, outcome)
    assert measurement.status == "failed"
    assert "ran past the budget" in measurement.reason


def test_no_server_at_prepare_names_the_place(context_of, load):
    for test in ("get", "lpush"):
        context = context_of(client_of(load(), test=test))
        with pytest.raises(PrepareError, match=rf"127\.0\.0\.1:{context.endpoints['main'][0].port}.*Connection refused"):
            redis_benchmark_node.prepare(context)


def test_a_server_that_is_killed_in_the_window_leaves_what_was_measured(start_server, context_of, run, load):
    server = start_server()
    client = client_of(load(duration_s=8.0), requests=500)
    context = context_of(client, server)
    redis_benchmark_node.prepare(context)
    outcome = run(client, context, during=lambda: server.signal(signal.SIGKILL), after_s=1.5)
    measurement = redis_benchmark_node.reduce(context, outcome)
    # Killed between two reports, where it connects anew, the tool tries again without a word until its time is over.
    assert measurement.status == "cut" or outcome.exit_code == redis_benchmark_node.ENDED_BY_TIME
    assert bool(measurement.reason) == (measurement.status == "cut")
    assert 0 < measurement.window_s < 0.9 * 8.0
    assert measurement.counts.ok > 0


def test_a_server_that_is_killed_before_the_first_report_leaves_nothing(start_server, context_of, run, load):
    server = start_server()
    client = client_of(load(duration_s=3.0), requests=100_000_000)
    context = context_of(client, server)
    outcome = run(client, context, during=lambda: server.signal(signal.SIGKILL), after_s=0.5)
    measurement = redis_benchmark_node.reduce(context, outcome)
    assert measurement.status == "failed"
    assert measurement.reason.startswith("tool output is not a success: ")


def test_a_wrong_password_is_said_and_not_shown(start_server, context_of, run, load):
    server = start_server()
    client = client_of(load(duration_s=0.5))
    context = context_of(client, server, secret="not-the-password")
    with pytest.raises(PrepareError, match="WRONGPASS"):
        redis_benchmark_node.prepare(context)
    outcome = run(client, context)
    measurement = redis_benchmark_node.reduce(context, outcome)
    assert measurement.status == "failed"
    assert "WRONGPASS" in measurement.reason
    assert "not-the-password" not in repr(measurement)
    assert "***" in outcome.argv


def test_an_error_reply_ends_the_point(start_server, context_of, run, load):
    server = start_server()
    client = client_of(load(duration_s=0.5), test="lpush")
    context = context_of(client, server)
    redis_benchmark_node.prepare(context)
    server.ask("SET", "mylist", "not a list")
    measurement = redis_benchmark_node.reduce(context, run(client, context))
    assert measurement.status == "failed"
    assert "WRONGTYPE" in measurement.reason


def test_a_stall_is_in_the_window(start_server, context_of, run, load):
    """The server stands still for a second: the window holds it, and the longest latency shows it."""
    server = start_server()
    client = client_of(load(duration_s=2.0), requests=1000)
    context = context_of(client, server)
    redis_benchmark_node.prepare(context)

    def stall():
        server.signal(signal.SIGSTOP)
        time.sleep(1.0)
        server.signal(signal.SIGCONT)

    measurement = redis_benchmark_node.reduce(context, run(client, context, during=stall, after_s=0.7))
    assert measurement.status == "ok"
    assert Histogram.from_json(measurement.latency["all"]["send"]).max_us > 900_000


def test_a_report_that_is_too_long_is_named_as_the_cause(start_server, context_of, run, load):
    server = start_server()
    client = client_of(load(duration_s=0.3), requests=100_000_000)
    context = context_of(client, server)
    redis_benchmark_node.prepare(context)
    measurement = redis_benchmark_node.reduce(context, run(client, context))
    assert measurement.status == "failed"
    assert "no report was finished in its time" in measurement.reason
    assert "`requests`" in measurement.reason


def test_a_missing_program_is_named(context_of, run, load, monkeypatch, tmp_path):
    only = tmp_path / "bin"
    only.mkdir()
    (only / "timeout").symlink_to("/usr/bin/timeout")
    monkeypatch.setenv("PATH", str(only))
    client = client_of(load())
    context = context_of(client)
    measurement = redis_benchmark_node.reduce(context, run(client, context))
    assert measurement.status == "failed"
    assert "redis-benchmark" in measurement.reason
    assert "redis-tools" in measurement.reason


# What it is asked to do.


def test_the_command_carries_the_load(load):
    client = client_of(
        load(concurrency=8, warmup_s=2.0, duration_s=10.0), test="set", pipeline=4, value_size_bytes=100, keys=77
    )
    (command,) = client.get_benchmark_commands(client.load, client.parameters)
    argv = command.encoded()
    assert argv[:4] == ["timeout", "--foreground", "--kill-after=5", "12.5"]
    options = dict(zip(argv[5:-1:2], argv[6:-1:2], strict=True))
    assert options == {
        "-h": "@{endpoint.main.0.host}",
        "-p": "@{endpoint.main.0.port}",
        "--user": "default",
        "-a": "@{endpoint.main.0.secret}",
        "-c": "@{share.concurrency}",
        "-P": "4",
        "-n": str(200 * 8 * 4),
        "-r": "77",
        "-d": "100",
        "-t": "set",
    }
    assert argv[-1] == "-l"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"process": "poisson", "rate_per_s": 100.0, "concurrency": None},
            r"closed loop only, found 'poisson'[\s\S]*redis-load",
        ),
        ({"process": "constant", "rate_per_s": 100.0, "concurrency": None}, r"closed loop only[\s\S]*redis-load"),
        ({"workers": 2}, r"one worker only, found 2[\s\S]*memtier"),
    ],
)
def test_a_load_that_it_cannot_offer_is_refused(load, changes, text):
    client = RedisBenchmarkClient("bench", load=load(**changes))
    with pytest.raises(RecipeError, match=rf"^clients\.bench\.load\.[\s\S]*{text}"):
        client.get_benchmark_commands(client.load, client.parameters)


def test_replicas_are_refused_as_their_rates_do_not_add_up(load):
    """Their sum was 10 % more than what the server did: while one connects anew, the other has the server for itself."""
    client = RedisBenchmarkClient("bench", replicas=2, load=load())
    with pytest.raises(RecipeError, match=r"^clients\.bench\.replicas: [\s\S]*do not add up, found 2[\s\S]*redis-load"):
        client.get_benchmark_commands(client.load, client.parameters)


@pytest.mark.parametrize("wrong", [{"pipeline": 0}, {"keys": 0}, {"value_size_bytes": 0}, {"requests": 0}])
def test_parameters_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RedisBenchmarkParameters(**wrong)


# Recorded output.


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_output_agrees_with_its_own_summary(name):
    reports = parse((SAMPLES / name).read_text())
    assert reports
    for report in reports:
        histogram = report.histogram()
        told = {name: value * 1000 for name, value in report.summary_ms.items()}
        assert report.requests * 0.98 <= histogram.count <= report.requests
        assert histogram.max_us == told["max"]
        assert histogram.mean_us == pytest.approx(told["avg"], abs=0.6)
        assert histogram.percentile_us(50) == pytest.approx(told["p50"], rel=0.002)
        assert histogram.percentile_us(95) == pytest.approx(told["p95"], rel=0.002)
        assert histogram.percentile_us(99) == pytest.approx(told["p99"], rel=0.002)
        assert histogram.min_us == told["min"]
        assert report.seconds == pytest.approx(report.requests / report.per_s)


def test_an_unfinished_report_is_not_one(samples):
    whole = (samples / "redis-benchmark-7.0.15-get-loop.txt").read_text()
    assert len(parse(whole)) == whole.count("throughput summary")
    first_end = whole.index("throughput summary")
    assert parse(whole[:first_end]) == []


def test_output_of_release_6_0_is_read(context_of, outcome_of, load, samples):
    """Before 6.2 there are shares only, no counts, and errors are not told from answers."""
    text = (samples / "redis-benchmark-6.0-format.txt").read_text()
    (report,) = parse(text)
    assert (report.test, report.requests, report.seconds) == ("GET", 100_000, pytest.approx(1.2, abs=0.001))
    histogram = report.histogram()
    assert histogram.count == 100_000
    assert histogram.percentile_us(50) == pytest.approx(300, rel=0.002)
    assert histogram.max_us == 3000
    measurement = redis_benchmark_node.reduce(context_of(client_of(load())), outcome_of(text, exit_code=124))
    assert measurement.status == "ok"
    assert measurement.unchecked == ["error_share"], "the version is not known here either"


def test_latencies_at_the_tools_own_limit_are_told_apart(context_of, outcome_of, load, samples):
    """The server stood still for 3.6 s, and the tool says 3.0 s."""
    text = (samples / "redis-benchmark-7.0.15-get-server-stopped-3.6s.txt").read_text()
    measurement = redis_benchmark_node.reduce(context_of(client_of(load(concurrency=10))), outcome_of(text, exit_code=124))
    assert measurement.window_s > 3.6
    assert Histogram.from_json(measurement.latency["get"]["send"]).max_us == 3_000_319
    assert "3 s" in measurement.absent["latency.max_us"]


def test_warm_up_is_left_out_and_the_window_ends_where_it_should(context_of, outcome_of, load, samples):
    text = (samples / "redis-benchmark-7.0.15-set-pipeline-16-loop.txt").read_text()
    reports = parse(text)
    assert len(reports) >= 4
    client = client_of(
        load(warmup_s=reports[0].seconds * 0.9, duration_s=reports[1].seconds + reports[2].seconds * 0.5), test="set"
    )
    measurement = redis_benchmark_node.reduce(context_of(client), outcome_of(text, exit_code=124))
    assert measurement.counts.ok == reports[1].requests + reports[2].requests
    assert measurement.window_s == pytest.approx(reports[1].seconds + reports[2].seconds)
    assert measurement.metrics["reports"]["value"] == 2
    assert measurement.start_wall_ns == 1_700_000_000_000_000_000 + round(reports[0].seconds * 1e9)


# Damaged output.


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_damaged_output_never_raises_and_never_makes_numbers_up(data, tmp_path_factory):
    text = (SAMPLES / data.draw(st.sampled_from(RECORDED))).read_text()
    random_ = random.Random(data.draw(st.integers(0, 2**32)))
    for _ in range(data.draw(st.integers(1, 6))):
        at = random_.randrange(len(text) + 1)
        end = min(len(text), at + random_.choice((1, 3, 40, 900)))
        text = random_.choice(
            (text[:at], text[:at] + text[end:], text[:at] + os.urandom(4).hex() + text[end:], text[end:] + text[:at])
        )
    for report in parse(text):
        histogram = report.histogram()
        assert histogram.count <= report.requests
        assert Histogram.from_json(histogram.to_json()) == histogram
        assert report.seconds > 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nothing\n",
        "====== GET ======\n",
        "\0" * 50,
        "====== GET ======\n  0 requests completed in nan seconds\n",
        "é\r" * 99,
    ],
)
def test_output_that_is_none_is_a_failure_with_a_reason(context_of, outcome_of, load, text):
    for code in (0, 1, 124, 127, -9):
        measurement = redis_benchmark_node.reduce(context_of(client_of(load())), outcome_of(text, exit_code=code))
        assert measurement.status == "failed"
        assert measurement.reason.startswith("tool output is not a success: ")


def test_rc_0_alone_is_no_success(context_of, outcome_of, load, samples):
    """The endless loop cannot end by itself with 0: what it left is cut."""
    text = (samples / "redis-benchmark-7.0.15-get-loop.txt").read_text()
    measurement = redis_benchmark_node.reduce(context_of(client_of(load())), outcome_of(text, exit_code=0))
    assert measurement.status == "cut"
