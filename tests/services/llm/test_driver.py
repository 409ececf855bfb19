"""Loads on a server whose truth is known: measured right, or told with the reason."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aifactory_bench_services import llm_client_node

CLOSE_MS = 2.0


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_first_token_and_gaps_are_the_truth(truth: Any, context_of: Any, measure: Any, api: str) -> None:
    run = measure(context_of(truth(ttft="60ms", gap="10ms"), api=api))
    assert run.errors == {}
    assert run.counts.ok >= 8
    assert run.median_ms("added_ttft") < CLOSE_MS
    assert run.median_ms("ttft") == pytest.approx(60, abs=5)
    assert run.median_ms("tpot") == pytest.approx(10, abs=CLOSE_MS)
    assert run.median_ms("e2e") == pytest.approx(60 + 7 * 10, abs=10)
    assert run.histogram("observed_age").count == run.counts.ok * 8
    assert run.value("output_tokens") == run.counts.ok * 8
    assert run.value("prompt_tokens") == run.counts.ok * 20
    assert run.value("prompt_tokens_by_asked") == 1
    assert run.value("other_length") == 0
    assert run.value("requests_made_late") == 0


def test_the_role_at_once_is_not_the_first_token(truth: Any, context_of: Any, measure: Any) -> None:
    run = measure(context_of(truth(ttft="100ms", gap="2ms", role="at_once", empty_before=2)))
    assert run.median_ms("header") < 50
    assert run.median_ms("added_ttft") < CLOSE_MS
    least_us = run.histogram("ttft").min_us
    assert least_us is not None
    assert least_us >= 100_000


def test_four_tokens_a_chunk(truth: Any, context_of: Any, measure: Any) -> None:
    """Chunks are not tokens: time per output token is a quarter of the gap, and the gap stays what it is."""
    run = measure(context_of(truth(ttft="20ms", gap="20ms", tokens_per_chunk=4), output_tokens=16, continuous_usage=True))
    assert run.median_ms("chunk_gap") == pytest.approx(20, abs=CLOSE_MS)
    assert run.median_ms("tpot") == pytest.approx(5, abs=0.5)
    assert run.value("tokens_per_chunk") == 4
    assert run.value("tokens_by_chunk_usage") == run.value("output_tokens") > 0
    run = measure(context_of(truth(ttft="20ms", gap="20ms", tokens_per_chunk=4, usage="own"), output_tokens=16))
    assert run.value("output_tokens") == run.counts.ok * 16
    assert run.median_ms("tpot") == pytest.approx(3 * 20 / 15, abs=0.5)  # k_1 unknown: 1, as vLLM has it
    assert run.value("tokens_by_usage") == run.value("output_tokens") > 0


def test_whatever_the_form_of_the_stream(truth: Any, context_of: Any, measure: Any) -> None:
    endpoint = truth(
        ttft="5ms", gap="3ms", segment_bytes=400, text="utf8", line_end="crlf", comment_every=2, empty_every=3, finish="own"
    )
    for api in ("chat", "completions"):
        run = measure(context_of(endpoint, api=api))
        assert run.errors == {}
        assert run.counts.ok > 5
        assert run.value("output_tokens") == run.counts.ok * 8
        assert run.value("tokens_per_chunk") == 1


def test_errors_inside_streams_are_errors(truth: Any, context_of: Any, measure: Any) -> None:
    for event in (False, True):
        options = {"error_event": True} if event else {}
        run = measure(context_of(truth(ttft="5ms", gap="2ms", error_after=3, fault_share=0.5, server_seed=2, **options)))
        assert set(run.errors) == {"stream:error"}
        assert run.texts == {"stream:error": "made to fail"}
        assert run.counts.ok > 0
        assert run.histogram("ttft").count == run.counts.ok
        assert run.histogram("ttft_failed").count == run.counts.error
        assert run.value("failed_output_tokens") == 3 * run.counts.error


@pytest.mark.parametrize(("abort", "error"), [("close", "eof"), ("reset", "reset")])
def test_broken_off_streams_are_errors(truth: Any, context_of: Any, measure: Any, abort: str, error: str) -> None:
    endpoint = truth(ttft="5ms", gap="5ms", abort_after=4, abort=abort, fault_share=0.3, server_seed=4)
    run = measure(context_of(endpoint, duration_s=1.0, slo={"ttft": 5.0}))
    assert set(run.errors) <= {error, "connect"}
    assert run.errors[error] > 0
    assert run.histogram("ttft").count == run.counts.ok > 0
    attainment = run.measurement.metrics["slo_attainment"]
    assert attainment["denominator"] == run.counts.ok + run.counts.error
    assert attainment["numerator"] == run.counts.ok
    # What had come before the end is kept: in a distribution of its own, in the totals, and as a row of the records.
    failed = run.histogram("ttft_failed")
    assert 0 < failed.count <= run.errors[error]
    assert failed.min_ns > 5e6


def test_streams_without_an_end_are_errors(truth: Any, context_of: Any, measure: Any, tmp_path: Path) -> None:
    run = measure(context_of(truth(ttft="5ms", gap="2ms", error_status=503, fault_share=0.5, server_seed=5)))
    assert set(run.errors) == {"http:503"}
    assert run.texts == {"http:503": "made to fail"}
    columns = np.load(next(tmp_path.glob("requests-*.npz")))
    assert set(columns["status"]) == {200, 503}


def test_a_capped_open_loop_counts_from_the_schedule(truth: Any, context_of: Any, measure: Any) -> None:
    """8 requests come every 10 ms to one connection whose answers take 50 ms: the mean is 190 ms, not 50."""
    endpoint = truth(ttft="22ms", gap="4ms")
    context = context_of(
        endpoint, process="constant", rate_per_s=100.0, concurrency=None, connections=1, warmup_s=0.0, duration_s=0.08
    )
    run = measure(context)
    assert run.counts.ok == 8
    mean_us = run.histogram("e2e_schedule").mean_us
    assert mean_us is not None
    assert mean_us / 1000 == pytest.approx(190, abs=25)
    assert run.median_ms("e2e") == pytest.approx(50, abs=8)


def test_a_burst_goes_out_at_once(truth: Any, context_of: Any, measure: Any, tmp_path: Path) -> None:
    """Requests made ahead, on connections made ahead: about 10 us each. The best of several: others use the machine."""
    burst = {"process": "burst", "burst_size": 100, "burst_every_s": 0.15, "connections": 100, "concurrency": None}
    run = measure(context_of(truth(ttft="30ms", gap="1ms"), duration_s=1.5, warmup_s=0.0, output_tokens=1, **burst))
    assert run.counts.ok == 1000
    assert run.value("requests_made_late") == 0
    with np.load(next(tmp_path.glob("requests-*.npz"))) as columns:
        due, sent = columns["scheduled_ns"], columns["sent_ns"]
    spreads_ms = [np.ptp(sent[due == one]) / 1e6 for one in np.unique(due)]
    assert len(spreads_ms) == 10
    assert min(spreads_ms) < 4


def test_several_servers_and_workers(truth: Any, context_of: Any, measure: Any, tmp_path: Path) -> None:
    endpoints = [truth(ttft="5ms", gap="1ms", prompt_tokens=number) for number in (7, 9)]
    run = measure(context_of(*endpoints, workers=2, concurrency=8))
    assert run.errors == {}
    paths = sorted(tmp_path.glob("requests-*.npz"))
    assert [path.name for path in paths] == ["requests-0.npz", "requests-1.npz"]
    assert {number for path in paths for number in np.load(path)["prompt_tokens"].tolist()} == {7, 9}


def test_conversations_carry_what_was_said(truth: Any, context_of: Any, measure: Any, tmp_path: Path) -> None:
    """Each turn is the last one, the server's answer, and as much again: the prompt grows by both."""
    measure(context_of(truth(ttft="2ms", gap="1ms"), turns=3, concurrency=1, input_tokens=20, output_tokens=8))
    tokens = list(np.load(next(tmp_path.glob("requests-*.npz")))["prompt_tokens"])
    assert len(tokens) > 6
    assert tokens[:6] == [20, 48, 76, 20, 48, 76]


def test_prompts_of_a_file(truth: Any, context_of: Any, measure: Any, tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "one two three", "output_tokens": 2}\n{"prompt": "one", "output_tokens": 5}\n')
    measure(context_of(truth(ttft="2ms", gap="1ms"), api="completions", prompts=str(path), salt=False))
    columns = np.load(next(tmp_path.glob("requests-*.npz")))
    assert set(zip(columns["prompt_tokens"].tolist(), columns["output_tokens"].tolist(), strict=True)) == {(3, 2), (1, 5)}


def test_answers_in_one_piece_have_no_first_token(truth: Any, context_of: Any, measure: Any) -> None:
    run = measure(context_of(truth(ttft="10ms", gap="5ms"), stream=False))
    assert run.errors == {}
    assert run.histogram("ttft").count == 0
    assert run.median_ms("e2e") == pytest.approx(10 + 7 * 5, abs=6)
    assert run.value("output_tokens") == run.counts.ok * 8


def test_a_server_of_another_length_is_told(truth: Any, context_of: Any, measure: Any) -> None:
    run = measure(context_of(truth(ttft="2ms", gap="1ms", tokens=5)))
    assert run.value("other_length") == run.counts.ok > 0


def test_answers_that_come_too_late_time_out(truth: Any, context_of: Any, measure: Any) -> None:
    run = measure(context_of(truth(ttft="2ms", gap="1ms", stall="5:2s"), timeout_s=0.3, duration_s=0.5))
    assert run.counts.timeout > 0
    assert run.counts.ok == 0
    assert run.histogram("ttft_failed").count == run.counts.timeout


def test_requests_that_are_not_ready_are_counted(
    truth: Any, context_of: Any, measure: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llm_client_node, "expected", lambda _load, _parts: 1)
    run = measure(context_of(truth(ttft="20ms", gap="1ms"), output_tokens=1, warmup_s=0.0))
    assert run.value("requests_made_late") >= 3
    assert run.errors == {}
