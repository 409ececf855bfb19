"""Retrieval, then generation: a real store of vectors, a model whose times are known before, one request over both."""

import json

import pytest

from aifactory_bench.node.endpoint import Endpoint
from aifactory_bench_services import rag_load_node
from aifactory_bench_services.llm_http_node import HttpError

OF_THE_MACHINE = {"lateness", "observation_age", "generator_stalled", "client_bound", "rate_not_achieved", "low_n"}
"""Reasons that a machine with other work gives, rightly."""
RECIPE = """\
schema: aifactory-bench/1
name: rag-test
services:
  vectors: {kind: chroma}
  llm:
    kind: truth-llm
    parameters: {MODEL}
clients:
  chain:
    kind: rag-load
    targets: {vectors: vectors, model: llm}
    parameters: {vectors: 300, dimension: 16, clusters: 10, queries: 40, k: 3, output_tokens: 8, document_words: 20}
    load: {LOAD, warmup: 200ms, duration: 2s}
"""


@pytest.fixture
def measured(run_recipe):
    """Returns a function: model, load -> the measurement."""

    def measured(model, load):
        run = run_recipe(RECIPE.replace("MODEL", model).replace("LOAD", load))
        (measurement,) = [each for point in run.wait().points for each in point.measurements]
        measured.folder = run.folder
        return measurement

    return measured


@pytest.mark.parametrize("load", ["process: closed, concurrency: 2", "process: constant, rate: 8/s, connections: 16"])
def test_stages_add_up(measured, load):
    """The model takes 60 ms to the first token and 7 gaps of 10 ms; what was found is in the prompt, by its length."""
    measurement = measured("ttft: 60ms, gap: 10ms", load)
    assert {reason.code for reason in measurement.reasons} <= OF_THE_MACHINE, measurement.reasons
    assert measurement.counts["error"] == measurement.counts["timeout"] == 0
    assert measurement.counts["ok"] >= 5
    of = measurement.distributions
    assert of["model_ttft"]["p50"] >= 60_000
    assert of["generate"]["p50"] >= 130_000
    assert of["retrieve"]["p50"] > 0
    assert of["ttft"]["p50"] >= of["model_ttft"]["p50"] + 500
    # Sums of means, as percentiles do not add up.
    stages_us = sum(of[name]["mean"] for name in ("retrieve", "assemble", "generate"))
    assert of["e2e"]["mean"] == pytest.approx(stages_us, rel=0.01)
    assert of["output_tokens"]["p50"] == 8
    # 3 texts of 20 words, a question of 16, and the task around them.
    assert 76 <= of["prompt_tokens"]["p50"] <= 100
    assert measurement.metrics["recall_at_k"]["value"] > 0.98
    send = measurement.latency["chain"]["send"]
    assert send.p50_us == pytest.approx(of["e2e"]["p50"], rel=0.02)
    if "rate" in load:
        assert of["e2e_schedule"]["p50"] >= of["e2e"]["p50"]
        assert measurement.latency["chain"]["schedule"].p50_us >= send.p50_us


def test_counters_of_both_services_are_kept_apart(measured):
    """The model's tell of every request that went on to it; the store's say that nothing was written. None is compared."""
    measurement = measured("ttft: 5ms, gap: 1ms", "process: closed, concurrency: 2")
    (path,) = measured.folder.rglob("measurements/p*.json")
    document = json.loads(path.read_text())
    before, after = document["server_before"], document["server_after"]
    assert before["vectors.vectors_inserted"] == after["vectors.vectors_inserted"] == 300
    sent = sum(document["counts"].values()) + sum(document["phase_counts"]["warmup"].values())
    assert after["model.operations"] - before["model.operations"] == pytest.approx(sent, abs=1)
    assert after["model.output_tokens"] > before["model.output_tokens"]
    assert "operations" not in after
    assert "several services" in measurement.absent["server_operations"]


def test_a_model_without_metrics_takes_nothing_from_the_store(monkeypatch):
    """Ollama has no such page; where there is no server at all that is told."""
    at = Endpoint("llm", 0, "127.0.0.1", 9, "http://127.0.0.1:9")

    def none(endpoint, secret):
        raise HttpError(404, "/metrics: not found")

    monkeypatch.setattr(rag_load_node, "counters_of_model", none)
    assert rag_load_node.counters(at, "") == {}
    monkeypatch.undo()
    with pytest.raises(OSError, match="refused"):
        rag_load_node.counters(at, "")


def test_errors_say_their_stage(measured):
    """Half of the model's answers break off; the others are measured, and what failed is no latency."""
    measurement = measured("ttft: 5ms, gap: 1ms, error_after: 4, fault_share: 0.3, seed: 4", "process: closed, concurrency: 1")
    assert set(measurement.errors) == {"generate:stream:error"}, measurement.reasons
    assert measurement.counts["ok"] > 0
    assert measurement.distributions["e2e"]["count"] == measurement.counts["ok"]
    assert measurement.verdict == "invalid"


def test_a_real_model(run_recipe, llama_server, tiny_gguf):
    """llama-server completes what a real Chroma has found; tokens are as many as were asked for."""
    llm = (
        f"kind: llama-server\n    parameters: {{model: {tiny_gguf('small')}, program: {llama_server}, alias: tiny, "
        "context: 8192, parallel: 2, threads: 1, prompt_cache: false}"
    )
    recipe = RECIPE.replace("kind: truth-llm\n    parameters: {MODEL}", llm)
    summary = run_recipe(recipe.replace("LOAD", "process: closed, concurrency: 2")).wait()
    (measurement,) = [each for point in summary.points for each in point.measurements]
    assert {reason.code for reason in measurement.reasons} <= OF_THE_MACHINE, (measurement.reasons, measurement.errors)
    assert measurement.counts["error"] == measurement.counts["timeout"] == 0
    of = measurement.distributions
    assert of["output_tokens"]["max"] == of["output_tokens"]["p50"] == 8
    assert of["prompt_tokens"]["p50"] > 76
    assert of["e2e"]["mean"] > of["ttft"]["mean"] > of["retrieve"]["mean"] > 0
    assert measurement.metrics["recall_at_k"]["value"] > 0.98
