"""Data stores as jobs of a real Slurm, their generators on other nodes: from recipe to verdict."""

import json

import pytest

pytestmark = pytest.mark.timeout(240)

OF_THE_MACHINE = {
    *("lateness", "observation_age", "generator_stalled", "client_bound", "rate_not_achieved", "window_short", "unchecked"),
    "windows_apart",
}
"""Reasons that several nodes on one machine may give, rightly."""
RECIPE = """\
schema: aifactory-bench/1
name: store
services:
  store: {kind: SERVICE, resources: {time: 5m, memory: 1000MiB}, parameters: {SERVED}}
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
    "mysql": ("mysql", "innodb_buffer_pool_size: 64MiB", "sysbench", "tables: 1, table_size: 1000"),
    "postgresql": ("postgresql", "shared_buffers: 32MiB", "pgbench", "workload: select-only, scale: 4"),
    "redis": ("redis", "persistence: none", "redis-stream", ""),
}


@pytest.mark.parametrize("store", STORES)
def test_from_recipe_to_verdict(site, cli, tmp_path, store):
    """Over the network of the cluster, with the run's own password where the server knows one; both generators are merged."""
    service, served, client, loaded = STORES[store]
    text = RECIPE.replace("SERVICE", service).replace("SERVED", served).replace("CLIENT", client).replace("LOADED", loaded)
    recipe = tmp_path / "store.yaml"
    recipe.write_text(text)
    code, out, err = cli("run", recipe, "--site", site(), "--run-id", f"on-{store}", "--json")
    assert code in {0, 3}, err
    (measurement,) = json.loads(out)["points"][0]["measurements"]
    assert {reason["code"] for reason in measurement["reasons"]} <= OF_THE_MACHINE, measurement["reasons"]
    assert measurement["replicas"] == 2
    assert measurement["counts"]["ok"] > 50
    assert measurement["counts"]["error"] == measurement["counts"]["timeout"] == 0
    assert {"prepare", "measure"} <= set(measurement["phases_s"])
