"""LLM servers as jobs of a real Slurm, generators on two nodes each: merged exactly, and as the servers' own logs have it."""

import json
import shutil

import numpy as np
import pytest

pytestmark = pytest.mark.timeout(240)

OUTPUT = 12
RECIPE = """\
schema: aifactory-bench/1
name: llm
services:
  llm:
    kind: llama-server
    resources: {time: 5m, memory: 1000MiB}
    parameters:
      model: SHARED/small.gguf
      program: SHARED/llama/llama-server
      context: 4096
      parallel: 4
      threads: 1
      prompt_cache: false
  truth:
    kind: truth-llm
    resources: {time: 5m, memory: 500MiB}
    parameters: {ttft: 20ms, gap: 4ms}
clients:
  at-llm: {kind: openai-load, target: llm, COMMON, load: {process: closed, concurrency: 4, warmup: 300ms, duration: 3s}}
  at-truth: {kind: openai-load, target: truth, COMMON, load: {process: poisson, rate: 40/s, warmup: 300ms, duration: 3s}}
limits: {input_length: 15%}  # some words of this model are one token and some are six, and three of them are a prompt
"""
COMMON = "replicas: 2, resources: {nodes: 2, time: 5m, memory: 500MiB}, parameters: {input_tokens: 24, output_tokens: 12}"
OF_THE_MACHINE = {
    *(
        "lateness",
        "observation_age",
        "generator_stalled",
        "client_bound",
        "windows_apart",
        "rate_not_achieved",
        "server_disagrees",
    )
}
"""Reasons that four nodes on one machine may give, rightly."""


@pytest.fixture
def recipe(cluster, llama_server, tiny_gguf, tmp_path):
    """The path of a recipe; program and model lie where all nodes see them."""
    shared = cluster.here(cluster.shared)
    if not (shared / "llama").exists():
        shutil.copytree(llama_server.parent, shared / "llama")
        shutil.copy(tiny_gguf("small"), shared)
    path = tmp_path / "llm.yaml"
    path.write_text(RECIPE.replace("SHARED", cluster.shared).replace("COMMON", COMMON))
    return path


def test_from_recipe_to_verdict(cluster, site, recipe, cli, llama_timings):
    """Two services, four generators, six nodes' worth of jobs on four: counts, tokens and ranks, to the last one."""
    code, out, err = cli("run", recipe, "--site", site(), "--run-id", "llm", "--json")
    assert code in {0, 3}, err
    summary = json.loads(out)
    measured = {measurement["client"]: measurement for measurement in summary["points"][0]["measurements"]}
    jobs = cluster.here(f"{cluster.runs}/llm/jobs")
    totals = {}
    for client in ("at-llm", "at-truth"):
        measurement = measured[client]
        assert {reason["code"] for reason in measurement["reasons"]} <= OF_THE_MACHINE, measurement["reasons"]
        assert measurement["replicas"] == 2
        hosts = {rank["host"] for rank in measurement["provenance"]["ranks"]}
        assert len(hosts) == (2 if cluster.namespaces else 1)
        records = [dict(np.load(path)) for path in sorted(jobs.glob(f"afb-llm-{client}-0/*/raw/*/requests-*.npz"))]
        assert len(records) == 2
        in_window = [np.count_nonzero(part["phase"] == 1) for part in records]
        assert measurement["counts"]["ok"] == sum(in_window)
        assert min(in_window) > 20
        assert measurement["counts"]["error"] == measurement["counts"]["timeout"] == 0
        assert measurement["metrics"]["output_tokens"]["value"] == OUTPUT * sum(in_window)
        seen = [np.count_nonzero((part["phase"] == 1) & (part["first_ns"] >= 0)) for part in records]
        assert (
            measurement["distributions"]["ttft"]["count"] == sum(seen) > 0.8 * sum(in_window)
        )  # some texts are of broken letters
        totals[client] = sum(int(part["output_tokens"].sum()) for part in records)

    of_load = [timing for timing in llama_timings(jobs / "afb-llm-llm-0/0/log") if timing.output_tokens == OUTPUT]
    assert sum(timing.output_tokens for timing in of_load) == totals["at-llm"]
    (log,) = jobs.glob("afb-llm-truth-0/**/truth.jsonl")
    sent = [entry["output_tokens"] for entry in map(json.loads, log.read_text().splitlines()) if "output_tokens" in entry]
    assert sum(tokens for tokens in sent if tokens == OUTPUT) == totals["at-truth"]
    assert measured["at-truth"]["distributions"]["ttft"]["p50"] == pytest.approx(20_000, rel=0.5)
    assert [job["state"] for job in summary["jobs"]] == ["completed"] * 4
    assert cluster.leftovers() == []
