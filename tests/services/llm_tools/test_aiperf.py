"""AIPerf as a client: its command, and recorded exports, through an executable that replays them."""

import json
from pathlib import Path

import pytest

from aifactory_bench import RateStep, RecipeError, Search
from aifactory_bench.node.contract import PrepareError
from aifactory_bench.node.endpoint import Endpoint
from aifactory_bench.node.load.histogram import Histogram
from aifactory_bench_services import aiperf_node
from aifactory_bench_services.aiperf import AiperfClient, AiperfParameters

SAMPLES = Path(__file__).parent / "samples"
RECORDS, SUMMARY = "profile_export.jsonl", "profile_export_aiperf.json"


def records(case):
    text = (SAMPLES / f"aiperf-0.13.0-{case}-{RECORDS}").read_text()
    return [json.loads(line) for line in text.splitlines()]


def summary(case):
    return json.loads((SAMPLES / f"aiperf-0.13.0-{case}-{SUMMARY}").read_text())


def client_of(load, *, replicas=1, **parameters):
    given = {"model": "truth", "tokenizer": "/models/tiny", "input_tokens": 16, "output_tokens": 8, **parameters}
    return AiperfClient("bench", AiperfParameters(**given), replicas=replicas, load=load)


def distribution(measurement, name):
    return Histogram.from_json(measurement.distributions[name]["histogram"])


def reduced(context, outcome, rows, told=None):
    text = rows if isinstance(rows, str) else "".join(f"{json.dumps(row)}\n" for row in rows)
    (context.folder / RECORDS).write_text(text)
    if told is not None:
        (context.folder / SUMMARY).write_text(json.dumps(told))
    return aiperf_node.reduce(context, outcome)


# Through the executable.


def test_a_closed_loop_has_counts_rates_and_our_distributions(double, context_of, run, load, checked):
    double("closed")
    client = client_of(load(), prompts=5)
    context = context_of(client)
    measurement = checked(aiperf_node.reduce(context, run(client, context)))
    told = summary("closed")
    assert (measurement.status, measurement.reason) == ("ok", "")
    assert measurement.counts.ok == told["request_count"]["avg"] == 16
    assert (measurement.window_s, measurement.window_asked_s) == (1.0, 1.0)
    assert (measurement.tool["name"], measurement.tool["version"]) == ("aiperf", "0.13.0")
    for ours, theirs in (
        ("ttft", "time_to_first_token"),
        ("e2e", "request_latency"),
        ("tpot", "inter_token_latency"),
        ("chunk_gap", "inter_chunk_latency"),
    ):
        assert distribution(measurement, ours).mean_us == pytest.approx(1000 * told[theirs]["avg"], rel=1e-4), ours
    assert distribution(measurement, "itl") == distribution(measurement, "chunk_gap")
    assert measurement.metrics["output_tokens"]["value"] == 16 * 8
    assert measurement.metrics["repeated_prompts"]["value"] == 11
    assert measurement.start_wall_ns == min(row["metadata"]["request_start_ns"] for row in records("closed"))
    assert measurement.health.cpu_share == [None]
    assert measurement.unchecked == []


def test_an_open_loop_leaves_out_the_warm_up_and_knows_how_late_it_was_at_least(double, context_of, run, open_load, checked):
    double("gamma")
    client = client_of(open_load(process="gamma", burstiness=2.0))
    context = context_of(client)
    measurement = checked(aiperf_node.reduce(context, run(client, context)))
    rows = records("gamma")
    profiling = [row["metadata"] for row in rows if row["metadata"]["benchmark_phase"] == "profiling"]
    assert measurement.counts.ok == len(profiling) == 10
    assert measurement.phase_counts["warmup"]["ok"] == len(rows) - 10 == 6
    assert (measurement.window_s, measurement.offered_per_s) == (2.0, 5.0)
    lateness = Histogram.from_json(measurement.health.lateness)
    assert lateness.max_ns == max(one["request_start_ns"] - one["credit_issued_ns"] for one in profiling)
    assert measurement.unchecked == ["lateness"]
    assert measurement.latency["all"]["schedule"] is None
    assert measurement.totals["output_tokens"] == 16 * 8
    assert measurement.metrics["repeated_prompts"]["value"] == 0


def test_several_tokens_a_chunk_are_a_gap_a_chunk_and_no_itl(context_of, outcome_of, load):
    measurement = reduced(context_of(client_of(load())), outcome_of(), records("bundled"), summary("bundled"))
    assert distribution(measurement, "chunk_gap").percentile_us(50) == pytest.approx(10_000, rel=0.05)
    assert distribution(measurement, "tpot").percentile_us(50) == pytest.approx(10_000 / 7, rel=0.05)
    assert measurement.metrics["tokens_per_chunk"]["value"] == 4.0
    assert "itl" not in measurement.distributions
    assert "distributions.itl" in measurement.absent


def test_failures_are_errors_and_in_no_distribution(context_of, outcome_of, load):
    measurement = reduced(context_of(client_of(load())), outcome_of(), records("errors"), summary("errors"))
    assert (measurement.counts.ok, measurement.counts.error) == (8, 4)
    assert measurement.errors == {"Service Unavailable 503": 4}
    assert distribution(measurement, "ttft").count == 8


def test_nothing_that_succeeded_is_a_failure_with_the_classes_and_its_last_words(double, context_of, run, load):
    double("absent")
    client = client_of(load())
    context = context_of(client)
    measurement = aiperf_node.reduce(context, run(client, context))
    assert measurement.status == "failed"
    assert "exit code 1" in measurement.reason
    assert "every one of 12 requests of the window failed: ClientConnectorError (12)" in measurement.reason
    assert "\u2502" not in measurement.reason


def test_requests_that_were_cancelled_failed(context_of, outcome_of, load):
    rows = records("closed")
    rows[4]["metadata"]["was_cancelled"] = True
    measurement = reduced(context_of(client_of(load())), outcome_of(), rows, summary("closed"))
    assert (measurement.counts.ok, measurement.errors) == (15, {"cancelled": 1})


def test_an_answer_without_a_stream_has_an_end_alone(context_of, outcome_of, load):
    rows = records("closed")
    for row in rows:
        row["metrics"] = {name: row["metrics"][name] for name in ("usage_prompt_tokens", "usage_completion_tokens")}
    measurement = reduced(context_of(client_of(load())), outcome_of(), rows, summary("closed"))
    assert measurement.counts.ok == 16
    assert "ttft" not in measurement.distributions
    assert distribution(measurement, "e2e_body").count == 16


def test_records_of_a_run_that_was_stopped_are_kept(context_of, outcome_of, load):
    text = "".join(f"{json.dumps(row)}\n" for row in records("closed"))
    measurement = reduced(context_of(client_of(load(duration_s=60.0))), outcome_of(stopped=True), text[:-40])
    assert measurement.status == "cut"
    assert measurement.counts.ok == 15
    assert measurement.window_s < 1.2
    assert measurement.tool["version"] is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it left no profile_export.jsonl"),
        ("{\n", "line 1 of profile_export.jsonl is no whole JSON document"),
        ("[]\n", "line 1 of profile_export.jsonl is no record of a request of aiperf"),
        ('{"metadata": {"benchmark_phase": "profiling"}, "metrics": {}}\n', "has the credit_issued_ns None"),
        ('{"metadata": {"benchmark_phase": "other"}, "metrics": {}}\n', "is no record of a request of aiperf"),
        ("x\n{}\n", "line 1 of profile_export.jsonl is no whole JSON document"),
    ],
)
def test_foreign_or_broken_records_are_a_failure_with_the_reason(context_of, outcome_of, load, text, why):
    measurement = reduced(context_of(client_of(load())), outcome_of(), text)
    assert measurement.status == "failed"
    assert measurement.reason.startswith("tool output is not a success: exit code 0; ")
    assert why in measurement.reason


def test_a_run_that_did_not_get_past_its_warm_up_is_a_failure(context_of, outcome_of, open_load):
    rows = [row for row in records("gamma") if row["metadata"]["benchmark_phase"] == "warmup"]
    measurement = reduced(context_of(client_of(open_load())), outcome_of(), rows)
    assert measurement.status == "failed"
    assert "tells of no request after the warm-up" in measurement.reason


# What it is asked to do.


def test_the_command_of_a_closed_loop(load):
    client = client_of(load(concurrency=4, workers=2, duration_s=30.0, timeout_s=45.0), prompts=500)
    (command,) = client.get_benchmark_commands(client.load, client.parameters)
    assert command.encoded() == [
        *("aiperf", "profile", "--config", "@{folder}/aiperf.yaml", "--model", "truth", "--url", "@{endpoint.main.0.url}"),
        *("--endpoint-type", "chat", "--streaming", "--use-server-token-count", "--tokenizer", "/models/tiny"),
        *("--isl", "16", "--osl", "8", "--extra-inputs", "ignore_eos:true", "--num-dataset-entries", "500"),
        *("--concurrency", "@{share.concurrency}", "--benchmark-duration", "30", "--benchmark-grace-period", "45"),
        *("--request-timeout-seconds", "45", "--workers-max", "2", "--random-seed", "@{seed.point}"),
        *("--artifact-dir", "@{raw}", "--ui", "none", "--no-server-metrics", "--no-gpu-telemetry"),
    ]


def test_the_command_of_an_open_loop(open_load):
    client = client_of(open_load(process="gamma", burstiness=0.5, rate_per_s=7.5), replicas=3)
    argv = client.get_benchmark_commands(client.load, client.parameters)[0].encoded()
    at = {name: argv[place + 1] for place, name in enumerate(argv) if name.startswith("--") and place + 1 < len(argv)}
    assert (at["--request-rate"], at["--arrival-pattern"], at["--arrival-smoothness"]) == ("@{share.rate}", "gamma", "0.5")
    assert (at["--concurrency"], at["--warmup-duration"]) == ("@{share.connections}", "1")
    # One prompt for each request: 7.5 a second for 3 s, shared by three.
    assert at["--num-dataset-entries"] == "8"


def test_the_last_request_of_a_constant_rate_is_sent(open_load):
    """It would be due when the time is over."""
    client = client_of(open_load(process="constant", rate_per_s=4.0, duration_s=10.0), replicas=2)
    argv = client.get_benchmark_commands(client.load, client.parameters)[0].encoded()
    assert argv[argv.index("--benchmark-duration") + 1] == "10.25"


def test_the_key_is_in_the_environment_and_neither_in_an_argument_nor_in_the_file(
    double, context_of, run, load, calls, tmp_path
):
    double("closed")
    client = client_of(load())
    run(client, context_of(client))
    (call,) = calls()
    assert call["environment"] == {"OPENAI_API_KEY": "throwaway0123456789", "HF_HUB_OFFLINE": ""}
    assert "throwaway" not in " ".join(call["argv"])
    assert "throwaway" not in (tmp_path / "aiperf.yaml").read_text()


def test_several_replicas_of_the_service_are_refused(context_of, load):
    endpoints = {"main": tuple(Endpoint("llm", number, "h", 80, "http://h:80") for number in range(2))}
    with pytest.raises(PrepareError, match="aiperf asks one server"):
        aiperf_node.prepare(context_of(client_of(load()), endpoints=endpoints))
    assert aiperf_node.prepare(context_of(client_of(load()))) == {}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"rate_per_s": None, "rates": (RateStep(2.0, 5.0),)}, r"rates: aiperf measures one load a point[\s\S]*matrix"),
        (
            {"process": "burst", "rate_per_s": None, "burst_size": 4},
            r"process: aiperf offers closed, constant, poisson and gamma",
        ),
        (
            {"rate_per_s": None, "search": Search(find="rate", most=9.0, slo={"ttft": 0.1})},
            r"search: aiperf measures one",
        ),
    ],
)
def test_a_load_that_it_cannot_offer_is_refused(open_load, changes, text):
    client = client_of(open_load(**changes))
    with pytest.raises(RecipeError, match=rf"^clients\.bench\.load\.{text}"):
        client.get_benchmark_commands(client.load, client.parameters)
