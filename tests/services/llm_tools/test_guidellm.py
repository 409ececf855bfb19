"""GuideLLM as a client: its command, and recorded reports, through an executable that replays them."""

import copy
import json
from pathlib import Path

import pytest

from aifactory_bench import RecipeError
from aifactory_bench.node.contract import PrepareError
from aifactory_bench.node.endpoint import Endpoint
from aifactory_bench.node.load.histogram import Histogram
from aifactory_bench_services import guidellm_node
from aifactory_bench_services.guidellm import GuidellmClient, GuidellmParameters

SAMPLES = Path(__file__).parent / "samples"


def sample(case):
    return json.loads((SAMPLES / f"guidellm-0.8.1-{case}.json").read_text())


def client_of(load, *, replicas=1, **parameters):
    given = {"model": "truth", "tokenizer": "/models/tiny", "input_tokens": 16, "output_tokens": 8, **parameters}
    return GuidellmClient("bench", GuidellmParameters(**given), replicas=replicas, load=load)


def distribution(measurement, name):
    return Histogram.from_json(measurement.distributions[name]["histogram"])


def reduced(context, outcome, document):
    (context.folder / "guidellm.json").write_text(document if isinstance(document, str) else json.dumps(document))
    return guidellm_node.reduce(context, outcome)


def requests_of(document, group="successful"):
    return document["benchmarks"][0]["requests"][group]


# Through the executable.


def test_a_closed_loop_has_counts_rates_and_our_distributions(double, context_of, run, load, checked):
    double("closed")
    client = client_of(load())
    context = context_of(client)
    measurement = checked(guidellm_node.reduce(context, run(client, context)))
    every = requests_of(sample("closed"))
    first = min(one["request_start_time"] for one in every)
    good = [one for one in every if one["request_start_time"] < first + 1]
    assert (measurement.status, measurement.reason) == ("ok", "")
    assert measurement.counts.ok == len(good) == 16 < len(every)
    assert (measurement.window_s, measurement.window_asked_s, measurement.achieved_per_s) == (1.0, 1.0, 16.0)
    assert (measurement.tool["name"], measurement.tool["version"]) == ("guidellm", "0.8.1")
    ttft = distribution(measurement, "ttft")
    assert ttft.mean_us == pytest.approx(1000 * sum(one["time_to_first_token_ms"] for one in good) / 16, abs=1)
    assert measurement.metrics["output_tokens"]["value"] == 16 * 8
    assert measurement.metrics["tokens_by_usage"]["value"] == 16 * 8
    assert measurement.start_wall_ns == pytest.approx(1e9 * first, abs=1000)
    # The chunks between the first and the last are not told.
    assert not {"chunk_gap", "itl", "stall"} & set(measurement.distributions)
    assert "stalls" not in measurement.metrics
    # What came in the cooldown, some of it cancelled at its end, is in no count.
    assert measurement.phase_counts["drain"]["ok"] == 2
    assert measurement.totals == {}
    assert "server_operations" in measurement.absent
    assert measurement.health.cpu_share == [None]


def test_what_was_cancelled_in_the_window_failed(context_of, outcome_of, load):
    """Without a cooldown the tool drops the slowest answers of all."""
    measurement = reduced(context_of(client_of(load(), cooldown_s=0.0)), outcome_of(), sample("cancelled"))
    assert (measurement.counts.ok, measurement.counts.error, measurement.errors) == (14, 2, {"cancelled": 2})
    assert len(requests_of(sample("cancelled"), "incomplete")) >= 2


def test_its_tpot_is_not_ours_and_its_itl_is(context_of, outcome_of, load):
    """Its "time per output token" has the time to the first token in it."""
    good = requests_of(sample("cancelled"))
    measurement = reduced(context_of(client_of(load())), outcome_of(), sample("cancelled"))
    tpot_us = distribution(measurement, "tpot").mean_us
    assert tpot_us == pytest.approx(1000 * sum(one["inter_token_latency_ms"] for one in good) / 14, rel=1e-4)
    theirs_us = 1000 * sum(one["time_per_output_token_ms"] for one in good) / 14
    assert theirs_us > 1.5 * tpot_us


def test_an_open_loop_counts_from_the_schedule(double, context_of, run, open_load, checked):
    double("poisson")
    client = client_of(open_load(), api="completions")
    context = context_of(client)
    measurement = checked(guidellm_node.reduce(context, run(client, context)))
    good = requests_of(sample("poisson"))
    due = [one["info"]["timings"]["targeted_start"] for one in good]
    within = [one for one, moment in zip(good, due, strict=True) if min(due) + 1 <= moment < min(due) + 3]
    assert measurement.counts.ok == len(within) == 8
    assert measurement.phase_counts["warmup"]["ok"] == sum(moment < min(due) + 1 for moment in due) == 5
    assert measurement.offered_per_s == 5.0
    schedule = distribution(measurement, "ttft_schedule")
    waits = [1000 * one["request_dispatch_delay"] + one["time_to_first_token_ms"] for one in within]
    assert schedule.mean_us == pytest.approx(1000 * sum(waits) / 8, abs=1)
    lateness = Histogram.from_json(measurement.health.lateness)
    assert lateness.max_us == pytest.approx(1e6 * max(one["request_dispatch_delay"] for one in within), abs=1)
    assert measurement.health.gate is None


def test_a_wait_for_a_place_is_not_told_apart_from_lateness(context_of, outcome_of, open_load):
    context = context_of(client_of(open_load(connections=1), api="completions"))
    measurement = reduced(context, outcome_of(), sample("poisson"))
    assert measurement.health.lateness is None
    assert Histogram.from_json(measurement.health.gate).count == 8
    assert "all connections were taken" in measurement.absent["health.lateness"]


def test_tokens_between_first_and_last_are_taken_as_even(context_of, outcome_of, load):
    """A stream over two seconds has its tokens in both."""
    document = sample("closed")
    one = requests_of(document)[0]
    timings = one["info"]["timings"]
    start = timings["request_start"]
    timings.update(first_token_iteration=start + 0.1, last_token_iteration=start + 1.5, request_end=start + 1.6)
    document["benchmarks"][0]["requests"]["successful"] = [one]
    document["benchmarks"][0]["requests"]["incomplete"] = []
    measurement = reduced(context_of(client_of(load(duration_s=2.0))), outcome_of(), document)
    assert measurement.sums["output_tokens"]["per_second"] == [5, 3]
    assert "taken as even" in measurement.absent["sums.output_tokens.exact"]


def test_without_usage_tokens_are_chunks(context_of, outcome_of, load):
    document = sample("closed")
    for one in requests_of(document):
        one["output_metrics"] = {}
    measurement = reduced(context_of(client_of(load())), outcome_of(), document)
    assert "tokens_by_usage" not in measurement.metrics
    assert measurement.metrics["tokens_by_chunks"]["value"] == 16 * 8


def test_failures_are_errors_and_in_no_distribution(context_of, outcome_of, load):
    measurement = reduced(context_of(client_of(load())), outcome_of(), sample("errors"))
    assert (measurement.counts.ok, measurement.counts.error, measurement.errors) == (14, 6, {"HTTPStatusError": 6})
    assert distribution(measurement, "ttft").count == 14


def test_nothing_that_succeeded_is_a_failure_with_the_classes(double, context_of, run, load):
    double("absent")
    client = client_of(load())
    context = context_of(client)
    outcome = run(client, context)
    assert outcome.exit_code == 0
    measurement = guidellm_node.reduce(context, outcome)
    assert measurement.status == "failed"
    assert measurement.reason.endswith("every one of 8 requests of the window failed: ConnectError (8)")


def test_times_that_run_backwards_are_put_in_order_and_told(context_of, outcome_of, load):
    """The tool reads the wall clock, which may be set while it runs."""
    document = sample("closed")
    timings = requests_of(document)[3]["info"]["timings"]
    timings["first_token_iteration"] = timings["request_start"] - 5
    measurement = reduced(context_of(client_of(load())), outcome_of(), document)
    assert measurement.counts.ok == 16
    assert "of 1 requests ran backwards" in measurement.absent["clock"]
    assert distribution(measurement, "ttft").min_us == 0


def test_a_run_that_was_stopped_is_cut(context_of, outcome_of, load):
    measurement = reduced(context_of(client_of(load(duration_s=60.0))), outcome_of(stopped=True), sample("closed"))
    assert (measurement.status, measurement.reason) == ("cut", "it was stopped before its end")
    assert measurement.window_s == pytest.approx(1.5, abs=0.05)


def test_a_tool_that_cannot_start_says_why(context_of, outcome_of, load):
    measurement = guidellm_node.reduce(
        context_of(client_of(load())), outcome_of(stderr="\u2502 ModuleNotFoundError: no torch \u2502\n", exit_code=1)
    )
    assert measurement.status == "failed"
    why = "exit code 1: ModuleNotFoundError: no torch; it left no guidellm.json"
    assert measurement.reason == f"tool output is not a success: {why}"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda document: document["metadata"].update(version=1), "is a report of version 1, known is 2"),
        (lambda document: document.pop("metadata"), "is a report of version None"),
        (lambda document: document.update(benchmarks=[]), "does not hold one benchmark"),
        (lambda document: document["benchmarks"].append({}), "does not hold one benchmark"),
        (lambda document: document["benchmarks"][0]["requests"].update(errored=None), "has no errored requests"),
        (lambda document: requests_of(document)[0]["info"].clear(), "has no time of sending"),
        (
            lambda document: [requests_of(document, name).clear() for name in ("successful", "errored")],
            "it tells of no request",
        ),
    ],
)
def test_a_foreign_or_broken_report_is_a_failure_with_the_reason(context_of, outcome_of, load, change, text):
    document = copy.deepcopy(sample("closed"))
    change(document)
    measurement = reduced(context_of(client_of(load())), outcome_of(), document)
    assert measurement.status == "failed"
    assert text in measurement.reason


def test_half_a_report_is_a_failure(context_of, outcome_of, load):
    text = json.dumps(sample("closed"))
    measurement = reduced(context_of(client_of(load())), outcome_of(), text[: len(text) // 2])
    assert measurement.status == "failed"
    assert "is no whole JSON document" in measurement.reason


# What it is asked to do.


def test_the_command_of_a_closed_loop(load):
    client = client_of(load(concurrency=4, warmup_s=0.5, duration_s=1.5, timeout_s=30.0))
    (command,) = client.get_benchmark_commands(client.load, client.parameters)
    backend = "kind=openai_http,target=@{endpoint.main.0.url},model=truth,request_format=/v1/chat/completions"
    assert command.encoded() == [
        *("guidellm", "run", "--disable-console", "--backend", f"{backend},validate_backend=false,timeout=30"),
        *(
            "--profile",
            "kind=concurrent,streams=@{share.concurrency},warmup.value=0.5,warmup.mode=duration,cooldown.value=10,cooldown.mode=duration",
        ),
        *("--constraint", "kind=max_duration,seconds=12", "--tokenizer", "kind=huggingface_auto,model=/models/tiny"),
        *("--data", "kind=synthetic_text,prompt_tokens=16,output_tokens=8", "--seed", "kind=static,value=@{seed.point}"),
        *("--metrics", "kind=generative,sample_size=0", "--output", "kind=json,path=@{raw}/guidellm.json"),
    ]


@pytest.mark.parametrize("process", ["constant", "poisson"])
def test_the_command_of_an_open_loop(open_load, process):
    client = client_of(open_load(process=process), api="completions")
    argv = client.get_benchmark_commands(client.load, client.parameters)[0].encoded()
    profile = argv[argv.index("--profile") + 1]
    assert profile.startswith(f"kind={process},rate=@{{share.rate}},max_concurrency=@{{share.connections}},warmup.value=1,")
    assert "request_format=/v1/completions," in argv[argv.index("--backend") + 1]


def test_key_and_processes_are_in_the_environment(double, context_of, run, load, calls):
    double("closed")
    client = client_of(load(workers=3))
    context = context_of(client)
    measurement = guidellm_node.reduce(context, run(client, context))
    (call,) = calls()
    assert call["environment"] == {
        "GUIDELLM__SPEC__BACKEND__API_KEY": "throwaway0123456789",
        "GUIDELLM__MAX_WORKER_PROCESSES": "3",
        "HF_HUB_OFFLINE": "1",
    }
    assert "throwaway" not in " ".join(call["argv"])
    assert measurement.health.workers == 3


def test_several_replicas_of_the_service_are_refused(context_of, load):
    endpoints = {"main": tuple(Endpoint("llm", number, "h", 80, "http://h:80") for number in range(2))}
    with pytest.raises(PrepareError, match="guidellm asks one server"):
        guidellm_node.prepare(context_of(client_of(load()), endpoints=endpoints))
    assert guidellm_node.prepare(context_of(client_of(load()))) == {}


def test_poisson_from_several_processes_is_refused(open_load):
    """All of them would draw the same gaps."""
    client = client_of(open_load(workers=2))
    with pytest.raises(RecipeError, match=r"workers: 2 with process: poisson[\s\S]*write workers: 1"):
        client.get_benchmark_commands(client.load, client.parameters)
    client = client_of(open_load(process="constant", workers=2))
    assert client.get_benchmark_commands(client.load, client.parameters)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"process": "gamma", "rate_per_s": 5.0, "concurrency": None},
            r"process: guidellm offers closed, constant and poisson, found 'gamma'",
        ),
        ({"process": "trace", "trace": "/x", "concurrency": None}, r"process: guidellm offers"),
    ],
)
def test_a_load_that_it_cannot_offer_is_refused(load, changes, text):
    client = client_of(load(**changes))
    with pytest.raises(RecipeError, match=rf"^clients\.bench\.load\.{text}"):
        client.get_benchmark_commands(client.load, client.parameters)


def test_workers_that_differ_from_point_to_point_are_refused(load):
    client = client_of(load(workers=2))
    with pytest.raises(RecipeError, match=r"workers: guidellm learns of them once a job, found 2 and 3"):
        client.get_benchmark_commands(load(workers=3), client.parameters)


def test_a_tokenizer_is_needed():
    with pytest.raises(TypeError, match="tokenizer"):
        GuidellmParameters(model="truth")
