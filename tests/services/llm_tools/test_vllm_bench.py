"""`vllm bench serve` as a client: its command, and recorded results, through an executable that replays them."""

import copy
import itertools
import json
import time
from pathlib import Path

import pytest

from aifactory_bench import RecipeError
from aifactory_bench.node.contract import PrepareError
from aifactory_bench.node.endpoint import Endpoint
from aifactory_bench.node.load.histogram import Histogram
from aifactory_bench_services import vllm_bench_node
from aifactory_bench_services.vllm_bench import VllmBenchClient, VllmBenchParameters

SAMPLES = Path(__file__).parent / "samples"


def sample(case):
    return json.loads((SAMPLES / f"vllm-bench-0.32.0-{case}.json").read_text())


def client_of(load, *, replicas=1, **parameters):
    given = {"model": "truth", "input_tokens": 16, "output_tokens": 8, **parameters}
    if load.process == "closed":
        given.setdefault("requests", 6)
    return VllmBenchClient("bench", VllmBenchParameters(**given), replicas=replicas, load=load)


def distribution(measurement, name):
    return Histogram.from_json(measurement.distributions[name]["histogram"])


def reduced(context, outcome, document):
    (context.folder / "vllm-bench.json").write_text(document if isinstance(document, str) else json.dumps(document))
    return vllm_bench_node.reduce(context, outcome)


# Through the executable.


def test_a_closed_loop_has_counts_rates_and_our_distributions(double, context_of, run, load, checked):
    double("chat")
    client = client_of(load(slo={"ttft": 0.1, "e2e": 0.133}))
    context = context_of(client)
    vllm_bench_node.prepare(context)
    measurement = checked(vllm_bench_node.reduce(context, run(client, context)))
    told = sample("chat")
    assert (measurement.status, measurement.reason) == ("ok", "")
    assert (measurement.counts.ok, measurement.counts.error) == (told["completed"], told["failed"]) == (6, 0)
    assert measurement.window_s == pytest.approx(told["duration"], rel=0.01)
    assert measurement.achieved_per_s == pytest.approx(told["request_throughput"], rel=0.01)
    assert measurement.metrics["output_tokens"]["value"] == told["total_output_tokens"]
    assert measurement.metrics["prompt_tokens"]["value"] == told["total_input_tokens"]
    assert distribution(measurement, "e2e").mean_us == pytest.approx(1000 * told["mean_e2el_ms"], rel=1e-6)
    assert (measurement.tool["name"], measurement.tool["version"]) == ("vllm bench serve", "0.32.0+cpu")
    assert abs(measurement.end_wall_ns - time.time_ns()) < 20e9
    assert measurement.sums["output_tokens"]["per_second"] == [48]
    assert [part["ok"] for part in measurement.slices] == [6]
    assert measurement.window_asked_s == 0.0
    assert measurement.metrics["slo_attainment"]["denominator"] == 6
    good = sum(latency <= 0.133 for latency in told["latencies"])
    assert measurement.metrics["slo_attainment"]["numerator"] == good
    assert 0 < good < 6
    assert measurement.latency["chat"]["schedule"] is None


def test_the_role_alone_is_no_first_token(context_of, outcome_of, load):
    """The server sends the role at once and the first token 60 ms later; this version takes the former for the latter."""
    told = sample("chat")
    assert max(told["ttfts"]) < 0.01
    measurement = reduced(context_of(client_of(load())), outcome_of(), told)
    ttft = distribution(measurement, "ttft")
    assert 60_000 <= ttft.min_us <= ttft.max_us < 70_000
    assert distribution(measurement, "tpot").percentile_us(50) == pytest.approx(10_000, rel=0.02)
    assert distribution(measurement, "chunk_gap").count == distribution(measurement, "itl").count == 6 * 7
    assert measurement.metrics["tokens_per_chunk"]["value"] == 1.0


def test_where_the_numbers_do_not_tell_the_role_apart_nothing_is_said(context_of, outcome_of, load):
    """Four tokens a chunk, and the role before: 3 chunks for 8 tokens may be anything."""
    context = context_of(client_of(load(slo={"ttft": 0.1})))
    measurement = reduced(context, outcome_of(), sample("bundled"))
    assert measurement.status == "ok"
    assert set(measurement.distributions) == {"e2e", "output_tokens", "prompt_tokens"}
    for name in ("ttft", "tpot", "chunk_gap", "stall", "itl"):
        assert f"distributions.{name}" in measurement.absent
    assert "that of the role" in measurement.absent["distributions.ttft"]
    assert "slo_attainment" not in measurement.metrics
    assert measurement.metrics["output_tokens"]["value"] == 32


@pytest.mark.parametrize(
    ("chat", "release", "chunks", "outcome", "left"),
    [
        (True, (0, 32), [0, 60, 70, 80], "exact", [0, 60, 70, 80]),  # 4 tokens: no chunk too many
        (True, (0, 32), [0, 58, 68, 78, 88], "exact", [58, 68, 78, 88]),  # the role, long before
        (True, (0, 32), [60, 60, 70, 80, 90], "exact", [60, 70, 80, 90]),  # the role, with the first token
        (True, (0, 32), [0, 60, 70, 80, 90, 90], "exact", [60, 70, 80, 90]),  # the role and the end
        (True, (0, 32), [10, 70, 80, 90, 90], "unknown", [10, 70, 80, 90, 90]),  # the role or the end
        (True, (0, 33), [60, 70, 80, 90, 90], "exact", [60, 70, 80, 90]),  # the end
        (True, (0, 33), [60, 80], "near", [60, 80]),  # several tokens a chunk
        (False, (0, 32), [60, 70, 80, 90, 90], "exact", [60, 70, 80, 90]),  # the end
        (False, None, [60, 80], "near", [60, 80]),
        (True, None, [60, 60, 80], "near", [60, 60, 80]),
        (True, None, [0, 60, 80], "unknown", [0, 60, 80]),
    ],
)
def test_chunks_without_a_token_are_found_by_their_number(chat, release, chunks, outcome, left):
    document = sample("chat")
    for name in ("start_times", "ttfts", "itls", "input_lens", "output_lens", "errors"):
        document[name] = document[name][:1]
    document["ttfts"] = [0.001 + chunks[0] / 1000]
    document["itls"] = [[(second - first) / 1000 for first, second in itertools.pairwise(chunks)]]
    document["output_lens"] = [4]
    requests = vllm_bench_node._requests(document, is_open=False)
    assert vllm_bench_node._take_content(requests, chat=chat, release=release) == outcome
    (answer,) = requests.answers
    assert [round((stamp - answer.sent_ns) / 1e6) - 1 for stamp in answer.chunk_ns] == left
    assert (answer.first_ns, answer.last_ns) == (answer.chunk_ns[0], answer.chunk_ns[-1])


def test_an_open_loop_leaves_out_the_warm_up_and_counts_the_wait_for_a_place(double, context_of, run, open_load, checked):
    double("completions")
    client = client_of(open_load(connections=3), api="completions", tokenizer="/models/tiny")
    context = context_of(client)
    assert vllm_bench_node.prepare(context) == {"prompts": "made by the tool"}
    measurement = checked(vllm_bench_node.reduce(context, run(client, context)))
    told = sample("completions")
    made = [start - wait for start, wait in zip(told["start_times"], told["queue_times"], strict=True)]
    zero = min(told["start_times"])
    within = [index for index, moment in enumerate(made) if zero + 1 <= moment < zero + 3]
    assert measurement.status == "ok"
    assert measurement.counts.ok == len(within)
    assert measurement.phase_counts["warmup"]["ok"] == 15 - len(within) == 11
    assert (measurement.window_s, measurement.window_asked_s, measurement.offered_per_s) == (2.0, 2.0, 5.0)
    schedule = Histogram.from_json(measurement.latency["completions"]["schedule"])
    waits = [told["latencies"][index] + told["queue_times"][index] for index in within]
    assert schedule.max_us == pytest.approx(1e6 * max(waits), rel=1e-6)
    gate = Histogram.from_json(measurement.health.gate)
    assert gate.max_us == pytest.approx(1e6 * max(told["queue_times"][index] for index in within), rel=1e-3)
    assert measurement.health.lateness is None
    assert sum(part["ok"] for part in measurement.slices) == len(within)
    assert len(measurement.sums["in_flight"]["per_second"]) == 2


def constant(moments, *, ttft=0.05):
    """Return a result with one answer of 8 tokens for each moment of sending."""
    count = len(moments)
    return {
        "start_times": [1000.0 + moment for moment in moments],
        "ttfts": [ttft] * count,
        "itls": [[0.01] * 7] * count,
        "input_lens": [16] * count,
        "output_lens": [8] * count,
        "errors": [""] * count,
        "queue_times": [0.0] * count,
    }


@pytest.mark.parametrize("jitter_s", [-0.001, 0.0, 0.001])
def test_a_window_of_a_constant_rate_holds_what_was_due_in_it(context_of, outcome_of, open_load, jitter_s):
    """5 a second for 1 s and 2 s are 15, the first 5 of them for the warm-up, whatever the sixth is off by."""
    moments = [number / 5 + (jitter_s if number in (5, 14) else 0.0) for number in range(15)]
    context = context_of(client_of(open_load(process="constant"), api="completions"))
    measurement = reduced(context, outcome_of(), constant(moments))
    assert (measurement.phase_counts["warmup"]["ok"], measurement.counts.ok) == (5, 10)
    assert measurement.achieved_per_s == 5.0
    assert [part["ok"] for part in measurement.slices] == [5, 5]


def test_requests_that_the_tool_made_too_late_count_as_due_and_not_as_achieved(context_of, outcome_of, open_load):
    moments = [number / 3 for number in range(15)]  # asked for: 5 a second
    context = context_of(client_of(open_load(process="constant"), api="completions"))
    measurement = reduced(context, outcome_of(), constant(moments))
    assert measurement.phase_counts["warmup"]["ok"] + measurement.counts.ok == 15
    assert measurement.counts.ok == 12
    assert measurement.achieved_per_s == pytest.approx(3.0)
    late = Histogram.from_json(measurement.latency["all"]["schedule"]).max_us
    assert late > 1e6 * (moments[-1] - 2.9)


def test_a_version_without_waits_has_no_latency_from_schedule(context_of, outcome_of, open_load):
    document = sample("completions")
    del document["queue_times"]
    measurement = reduced(context_of(client_of(open_load(), api="completions")), outcome_of(), document)
    assert measurement.status == "ok"
    assert measurement.latency["all"]["schedule"] is None
    assert measurement.health.gate is None
    assert "latency.schedule" in measurement.absent


@pytest.mark.parametrize(("case", "errors"), [("errors", {"Service Unavailable": 2}), ("aborts", {"ClientPayloadError": 2})])
def test_failures_are_errors_and_in_no_distribution(context_of, outcome_of, load, case, errors):
    measurement = reduced(context_of(client_of(load(), requests=8)), outcome_of(), sample(case))
    assert (measurement.counts.ok, measurement.counts.error, measurement.errors) == (6, 2, errors)
    assert distribution(measurement, "ttft").count == distribution(measurement, "e2e").count == 6
    assert measurement.totals == {}


def test_an_error_inside_of_a_stream_shows_as_a_short_answer(context_of, outcome_of, load):
    """The tool takes all four for successes."""
    assert (sample("error-event")["completed"], sample("error-event")["failed"]) == (4, 0)
    measurement = reduced(context_of(client_of(load(), requests=4)), outcome_of(), sample("error-event"))
    assert measurement.metrics["short_answers"]["value"] == 4
    assert measurement.unchecked == ["error_share"]


def test_nothing_that_succeeded_is_a_failure_with_the_classes(context_of, outcome_of, load):
    measurement = reduced(context_of(client_of(load(), requests=4)), outcome_of(), sample("absent"))
    assert measurement.status == "failed"
    assert measurement.reason.endswith("every one of 4 requests of the window failed: ClientConnectorError (4)")


def test_a_run_that_was_over_within_the_warm_up_is_a_failure(context_of, outcome_of, load):
    measurement = reduced(context_of(client_of(load(warmup_s=5.0))), outcome_of(), sample("chat"))
    assert measurement.status == "failed"
    assert "all of the 6 requests that it tells of were sent in the warm-up" in measurement.reason


def test_a_tool_that_cannot_start_says_why(double, context_of, run, load):
    double("no-package")
    client = client_of(load())
    context = context_of(client)
    vllm_bench_node.prepare(context)
    measurement = vllm_bench_node.reduce(context, run(client, context))
    assert measurement.status == "failed"
    assert "exit code 1" in measurement.reason
    assert "No package metadata was found for vllm" in measurement.reason
    assert "it left no vllm-bench.json" in measurement.reason


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ("", "it left no vllm-bench.json"),
        ("[]", "holds no JSON object"),
        ('{"completed": 3', "is no whole JSON document"),
        ("[" * 5000, "is no whole JSON document"),
        ('{"gets": 3}', "has no start_times, ttfts, itls, input_lens, output_lens, errors"),
        (json.dumps({**sample("chat"), "ttfts": [0.1]}), "does not fit together"),
        (json.dumps({**sample("chat"), "start_times": [None] * 6}), "was sent at None"),
        (json.dumps({**sample("chat"), "itls": [["x"]] * 6}), "the gaps of request 0"),
        (json.dumps(sample("plain")), "not the result of vllm bench serve --save-detailed"),
        (
            json.dumps({name: [] for name in ("start_times", "ttfts", "itls", "input_lens", "output_lens", "errors")}),
            "no request",
        ),
    ],
)
def test_a_foreign_or_broken_result_is_a_failure_with_the_reason(context_of, outcome_of, load, document, text):
    measurement = reduced(context_of(client_of(load())), outcome_of(), document)
    assert measurement.status == "failed"
    assert measurement.reason.startswith("tool output is not a success: exit code 0; ")
    assert text in measurement.reason


def test_a_result_of_a_tool_that_ended_badly_is_cut(context_of, outcome_of, load):
    measurement = reduced(context_of(client_of(load())), outcome_of(stderr="Boom", exit_code=3), sample("chat"))
    assert (measurement.status, measurement.reason) == ("cut", "exit code 3: Boom")
    assert measurement.counts.ok == 6


def test_times_of_another_clock_end_with_the_tool(context_of, outcome_of, load):
    """The recorded times are of another machine's clock."""
    outcome = outcome_of()
    measurement = reduced(context_of(client_of(load())), outcome, sample("chat"))
    ended_ns = outcome.start_wall_ns + round(outcome.duration_s * 1e9)
    assert measurement.end_wall_ns == pytest.approx(ended_ns, abs=1000)


# What it is asked to do.


def test_the_command_of_a_closed_loop(load):
    client = client_of(load(concurrency=4), replicas=2, requests=100)
    (command,) = client.get_benchmark_commands(client.load, client.parameters)
    assert command.encoded() == [
        *("vllm", "bench", "serve", "--backend", "openai-chat", "--base-url", "@{endpoint.main.0.url}"),
        *("--endpoint", "/v1/chat/completions", "--model", "truth"),
        *("--skip-tokenizer-init", "--dataset-name", "custom", "--dataset-path", "@{raw}/prompts.jsonl"),
        *("--skip-chat-template", "--disable-shuffle", "--extra-body", '{"max_completion_tokens": 8, "ignore_eos": true}'),
        *("--num-prompts", "@{share.requests}", "--max-concurrency", "@{share.concurrency}", "--request-rate", "inf"),
        *("--burstiness", "1", "--seed", "@{seed.point}", "--percentile-metrics", "ttft,tpot,itl,e2el"),
        *("--metric-percentiles", "50,90,99,99.9", "--save-result", "--save-detailed", "--result-dir", "@{raw}"),
        *("--result-filename", "vllm-bench.json", "--ready-check-timeout-sec", "0", "--disable-tqdm"),
    ]


@pytest.mark.parametrize(
    ("changes", "burstiness"),
    [({"process": "constant"}, "inf"), ({"process": "poisson"}, "1"), ({"process": "gamma", "burstiness": 0.25}, "0.25")],
)
def test_the_command_of_an_open_loop(open_load, changes, burstiness):
    client = client_of(open_load(rate_per_s=7.5, **changes), replicas=3, api="completions", tokenizer="/models/tiny")
    argv = client.get_benchmark_commands(client.load, client.parameters)[0].encoded()
    at = {name: argv[place + 1] for place, name in enumerate(argv) if name.startswith("--") and place + 1 < len(argv)}
    assert (at["--backend"], at["--endpoint"]) == ("openai", "/v1/completions")
    assert (at["--tokenizer"], at["--dataset-name"]) == ("/models/tiny", "random")
    assert (at["--random-input-len"], at["--random-output-len"]) == ("16", "8")
    # 7.5 a second for 3 s are 22.5, shared by three: 7.5 each.
    assert (at["--num-prompts"], at["--request-rate"], at["--burstiness"]) == ("8", "@{share.rate}", burstiness)
    assert at["--max-concurrency"] == "@{share.connections}"


def test_the_key_is_in_the_environment_and_in_no_argument(double, context_of, run, load, calls):
    double("chat")
    client = client_of(load())
    context = context_of(client)
    vllm_bench_node.prepare(context)
    run(client, context)
    (call,) = calls()
    assert call["environment"] == {"OPENAI_API_KEY": "throwaway0123456789", "HF_HUB_OFFLINE": "1"}
    assert "throwaway" not in " ".join(call["argv"])


def test_prompts_are_written_for_a_tool_without_a_tokenizer_and_never_twice(context_of, load, open_load):
    texts = []
    for rank, point in ((0, "p0000-r1"), (1, "p0000-r1"), (0, "p0000-r2")):
        context = context_of(client_of(load(), requests=7), rank=rank, ranks=2, point=point)
        assert vllm_bench_node.prepare(context) == {"prompts": 4 - rank}
        lines = (context.folder / "prompts.jsonl").read_text().splitlines()
        prompts = [json.loads(line) for line in lines]
        assert {prompt["output_tokens"] for prompt in prompts} == {8}
        assert {len(prompt["prompt"].split()) for prompt in prompts} == {16}
        texts += [prompt["prompt"] for prompt in prompts]
    assert len(set(texts)) == len(texts) == 4 + 3 + 4
    client = client_of(open_load(rate_per_s=7.5), replicas=3)
    vllm_bench_node.prepare(context_of(client))
    argv = client.get_benchmark_commands(client.load, client.parameters)[0].encoded()
    assert argv[argv.index("--num-prompts") + 1] == "8"
    assert len((context_of(client).folder / "prompts.jsonl").read_text().splitlines()) == 8


def test_several_replicas_of_the_service_are_refused(context_of, load):
    endpoints = {"main": tuple(Endpoint("llm", number, "h", 80, "http://h:80") for number in range(2))}
    with pytest.raises(PrepareError, match="asks one server, and the service has 2 replicas"):
        vllm_bench_node.prepare(context_of(client_of(load()), endpoints=endpoints))


@pytest.mark.parametrize(
    ("changes", "parameters", "text"),
    [
        ({}, {"requests": None}, r"parameters\.requests: missing; vllm bench serve has no duration[\s\S]*requests: 1000"),
        ({}, {"requests": 1}, r"parameters\.requests: 1 for 2 replicas"),
        (
            {"process": "poisson", "rate_per_s": 5.0, "concurrency": None},
            {"requests": 9},
            r"parameters\.requests: is for process: closed",
        ),
        (
            {"process": "burst", "burst_size": 5, "concurrency": None},
            {},
            r"load\.process: vllm bench serve offers closed, [\s\S]*'burst'",
        ),
        ({"workers": 2}, {}, r"load\.workers: vllm bench serve is one process, found 2[\s\S]*replicas"),
        ({"concurrency": 1}, {}, r"load\.concurrency: 1 for 2 replicas"),
    ],
)
def test_a_load_that_it_cannot_offer_is_refused(load, changes, parameters, text):
    client = client_of(load(**changes), replicas=2, **parameters)
    with pytest.raises(RecipeError, match=rf"^clients\.bench\.{text}"):
        client.get_benchmark_commands(client.load, client.parameters)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"model": "a,b"}, "must be made of letters"),
        ({"model": ""}, "must be"),
        ({"model": "-x"}, "must be"),
        ({"tokenizer": "tiny"}, "must be an absolute path"),
        ({"tokenizer": "/models/a b"}, "must be made of letters"),
        ({"input_tokens": 0}, "input_tokens"),
        ({"requests": 0}, "requests"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(wrong, text):
    with pytest.raises(ValueError, match=text):
        VllmBenchParameters(**{"model": "truth", **wrong})


def test_no_sample_is_changed_by_reading(context_of, outcome_of, load):
    document = sample("chat")
    before = copy.deepcopy(document)
    vllm_bench_node._requests(document, is_open=False)
    assert document == before
