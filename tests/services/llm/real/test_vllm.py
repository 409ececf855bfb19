"""A real vLLM on the CPU, its weights random: our client and vLLM's own, side by side on one server."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[4]
OUTPUT = 24
RECIPE = """\
schema: aifactory-bench/1
name: vllm
services:
  llm:
    kind: vllm
    parameters:
      model: {model}
      served_model_name: tiny
      dtype: float32
      load_format: dummy
      max_model_len: 1024
      kv_cache_memory: 64MiB
      enforce_eager: true
      enable_prefix_caching: false
clients:
  load:
    kind: openai-load
    target: llm
    parameters: {{input_tokens: 40, output_tokens: 24}}
    load: {{process: closed, concurrency: 2, warmup: 1s, duration: 5s}}
  bench:
    kind: vllm-bench
    target: llm
    after: load
    parameters: {{model: tiny, tokenizer: {model}, input_tokens: 40, output_tokens: 24, requests: 120}}
    load: {{process: closed, concurrency: 2, warmup: 500ms, duration: 3s}}
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """The text of a recipe; `vllm` is found on PATH, and nothing else of its environment."""
    program = ROOT / ".venv-vllm/bin/vllm"
    if not program.exists():
        text = "vLLM is not there: `.ci/llm-servers vllm` downloads and installs it"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(text)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/vllm").symlink_to(program)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    model = tmp_path / "model"
    subprocess.run([sys.executable, ROOT / "tests/services/llm/tiny_model.py", "folder", model], check=True)
    return RECIPE.format(model=model)


def test_our_client_and_vllms_own(run, recipe):
    """Counts as the server's, lengths as asked, and both clients tell the same story."""
    done = run(recipe, limit_s=400)
    assert done.code in {0, 3}, done.errors
    ours, theirs = (done.of(client) for client in ("load", "bench"))
    assert ours["counts"]["error"] == ours["counts"]["timeout"] == theirs["counts"]["error"] == 0
    assert "totals_mismatch" not in {reason["code"] for measured in (ours, theirs) for reason in measured["reasons"]}

    (records,), (rank,) = done.records(), done.ranks()
    assert ours["counts"]["ok"] == np.count_nonzero(records["phase"] == 1) > 20
    assert set(records["output_tokens"]) == {OUTPUT}
    for name in ("output_tokens", "prompt_tokens"):
        assert rank["server_after"][name] - rank["server_before"][name] == rank["totals"][name] == records[name].sum()
    assert rank["server_after"]["operations"] - rank["server_before"]["operations"] == len(records["sent_ns"])

    (rank,) = done.ranks("bench")
    assert theirs["counts"]["ok"] + rank["phase_counts"]["warmup"]["ok"] == 120
    assert theirs["counts"]["ok"] > 20
