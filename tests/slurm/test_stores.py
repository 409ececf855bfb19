"""Data stores as jobs of a real Slurm, their generators on other nodes: from recipe to verdict."""

import json

import pytest

pytestmark = pytest.mark.timeout(240)

OF_THE_MACHINE = {
    *("lateness", "observation_age", "generator_stalled", "client_bound", "rate_not_achieved", "window_short", "unchecked"),
    "windows_apart",
}
"""Reasons that several nodes on one machine may give, rightly."""
# A server takes all CPUs of its node: whatever is asked of it comes over the network.
RECIPE = """\
schema: aifactory-bench/1
name: store
services:
  store: {kind: SERVICE, resources: {time: 5m, cpus: 4, memory: 1000MiB}, parameters: {SERVED}}
clients:
  load:
    kind: CLIENT
    target: store
    replicas: 2
    resources: {nodes: 2, time: 5m, memory: 500MiB}
    parameters: {LOADED}
    load: {process: closed, concurrency: 4, warmup: 1s, duration: 3s}
"""
STORES = {
    "chroma": ("chroma", "program: BIN/chroma", "chroma-load", "VECTORS"),
    "chroma-python": ("chroma", "server: python, storage: memory, program: BIN/python", "chroma-load", "VECTORS"),
    "mysql": ("mysql", "innodb_buffer_pool_size: 64MiB", "sysbench", "tables: 1, table_size: 1000"),
    "postgresql": ("postgresql", "shared_buffers: 32MiB", "pgbench", "workload: select-only, scale: 4"),
    "redis": ("redis", "persistence: none", "redis-stream", ""),
}
VECTORS = "vectors: 400, dimension: 16, clusters: 10, queries: 40"
CHAIN = """\
schema: aifactory-bench/1
name: chain
services:
  vectors: {kind: chroma, resources: {time: 5m, cpus: 4, memory: 1000MiB}, parameters: {program: BIN/chroma, path: DATA}}
  llm: {kind: truth-llm, resources: {time: 5m, cpus: 4, memory: 500MiB}, parameters: {ttft: 60ms, gap: 10ms}}
clients:
  chain:
    kind: rag-load
    targets: {vectors: vectors, model: llm}
    replicas: 2
    resources: {nodes: 2, time: 5m, memory: 500MiB}
    parameters: {VECTORS, k: 3, output_tokens: 8, document_words: 20}
    load: {process: closed, concurrency: 4, warmup: 1s, duration: 3s}
"""


@pytest.fixture
def measured(cluster, request, site, cli, tmp_path):
    """Returns a function: run id, recipe -> the one measurement of its run, in which nothing went wrong but for the machine."""

    def measured(run_id, text):
        if "BIN/" in text:
            text = text.replace("BIN", request.getfixturevalue("chroma_bin"))
        recipe = tmp_path / "store.yaml"
        recipe.write_text(text.replace("VECTORS", VECTORS))
        code, out, err = cli("run", recipe, "--site", site(), "--run-id", run_id, "--json")
        assert code in {0, 3}, err
        (measurement,) = json.loads(out)["points"][0]["measurements"]
        assert {reason["code"] for reason in measurement["reasons"]} <= OF_THE_MACHINE, measurement["reasons"]
        assert measurement["replicas"] == 2
        ranks = measurement["provenance"]["ranks"]
        hosts = {rank["host"] for rank in ranks}
        servers = {server["host"] for rank in ranks for role in rank["endpoints"].values() for server in role}
        if cluster.namespaces:
            assert len(hosts) == 2
            assert not hosts & servers
        assert measurement["counts"]["error"] == measurement["counts"]["timeout"] == 0
        return measurement

    return measured


@pytest.mark.parametrize("store", STORES)
def test_from_recipe_to_verdict(measured, store):
    """Over the network of the cluster, with the run's own password where the server knows one; both generators are merged."""
    service, served, client, loaded = STORES[store]
    text = RECIPE.replace("SERVICE", service).replace("SERVED", served).replace("CLIENT", client).replace("LOADED", loaded)
    measurement = measured(f"on-{store}", text)
    assert measurement["counts"]["ok"] > 50
    assert {"prepare", "measure"} <= set(measurement["phases_s"])
    if service == "chroma":
        assert measurement["metrics"]["recall_at_k"]["value"] > 0.98
        facts = measurement["provenance"]["ranks"][0]["endpoints"]["main"][0]["facts"]
        assert facts["token_enforced"] == ("server: python" in served)


def test_a_chain_over_two_services(cluster, measured):
    """Retrieval, then generation, each on a node of its own; the vectors lie where the recipe says, and stay there."""
    data = f"{cluster.shared}/vectors"
    measurement = measured("chain", CHAIN.replace("DATA", data))
    assert measurement["counts"]["ok"] > 20
    of = measurement["distributions"]
    assert of["model_ttft"]["p50"] >= 60_000
    assert of["generate"]["p50"] >= 130_000
    stages_us = sum(of[name]["mean"] for name in ("retrieve", "assemble", "generate"))
    assert of["e2e"]["mean"] == pytest.approx(stages_us, rel=0.01)
    assert of["prompt_tokens"]["p50"] >= 76  # 3 texts of 20 words, and a question of 16
    assert measurement["metrics"]["recall_at_k"]["value"] > 0.98
    assert (cluster.here(data) / "chroma.sqlite3").stat().st_size > 0
