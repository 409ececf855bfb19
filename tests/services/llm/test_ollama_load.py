"""`ollama-load`: Ollama's own interface, against the truth server that speaks it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aifactory_bench.node.contract import PrepareError
from aifactory_bench_services import ollama_load_node


@pytest.mark.parametrize("api", ["generate", "chat"])
def test_first_token_gaps_and_the_servers_own_times(truth: Any, context_of: Any, measure_ollama: Any, api: str) -> None:
    run = measure_ollama(context_of(truth(ttft="40ms", gap="10ms"), api=api))
    assert run.errors == {}
    assert run.median_ms("ttft") == pytest.approx(40, abs=5)
    assert run.median_ms("added_ttft") < 2
    assert run.median_ms("tpot") == pytest.approx(10, abs=1.5)
    assert run.median_ms("server_eval") > 0
    assert run.median_ms("server_prompt_eval") > 0
    assert run.value("output_tokens") == run.counts.ok * 8
    assert run.value("tokens_by_usage") == run.value("output_tokens") > 0


def test_loading_the_model_is_kept_apart(truth: Any, context_of: Any, tmp_path: Path) -> None:
    """The first request pays for it, before the load: the load itself meets a model that is there."""
    context = context_of(truth(ttft="5ms", gap="1ms", load="300ms"))
    facts = ollama_load_node.prepare(context)
    assert facts["cold_start_s"] == pytest.approx(0.3, abs=0.1)
    assert facts["first_completion_s"] > 0.3
    again = ollama_load_node.prepare(context_of(context.endpoints["main"][0], options={"num_ctx": 128}))
    assert again["cold_start_s"] < 0.1


def test_error_lines_are_errors(truth: Any, context_of: Any, measure_ollama: Any) -> None:
    run = measure_ollama(context_of(truth(ttft="3ms", gap="2ms", error_after=2, fault_share=0.5, server_seed=2)))
    assert set(run.errors) == {"stream:error"}
    assert run.counts.ok > 0
    run = measure_ollama(context_of(truth(ttft="3ms", gap="2ms", abort_after=2, fault_share=0.4, server_seed=1)))
    assert set(run.errors) <= {"eof", "connect"}
    assert run.errors["eof"] > 0


def test_cut_lines_and_long_characters(truth: Any, context_of: Any, measure_ollama: Any) -> None:
    run = measure_ollama(context_of(truth(ttft="3ms", gap="2ms", segment_bytes=300, text="utf8", tokens_per_chunk=2)))
    assert run.errors == {}
    assert run.value("output_tokens") == run.counts.ok * 8
    assert run.value("tokens_per_chunk") == 2


def test_a_model_that_is_not_there(truth: Any, context_of: Any) -> None:
    with pytest.raises(PrepareError, match="no model 'other'; it has: truth"):
        ollama_load_node.prepare(context_of(truth(), model="other"))


def test_conversations(truth: Any, context_of: Any, measure_ollama: Any, tmp_path: Path) -> None:
    measure_ollama(context_of(truth(ttft="2ms", gap="1ms"), api="chat", turns=2, concurrency=1))
    tokens = list(np.load(next(tmp_path.glob("requests-*.npz")))["prompt_tokens"])
    assert tokens[:4] == [20, 48, 20, 48]


@pytest.mark.parametrize(("text", "sent"), [("0", 0), ("-1", -1), ("10m", "10m")])
def test_how_long_the_model_stays(text: str, sent: Any, truth: Any, context_of: Any) -> None:
    driver = ollama_load_node.driver(context_of(truth(), keep_alive=text, options={"num_ctx": 64}))
    driver.start(1)
    head, _, body = driver.pool.take().rest.partition(b"\r\n\r\n")
    found = json.loads(body)
    assert int(head) == len(body)
    assert found["keep_alive"] == sent
    assert found["options"] == {"temperature": 0.0, "num_ctx": 64, "num_predict": 8}
