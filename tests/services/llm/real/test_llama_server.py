"""The LLM client on a real server, whose own log says what was done and how long it took: nothing here is taken on trust."""

import os
import signal
import time

import numpy as np
import pytest

OUTPUT = 16
RECIPE = """\
schema: aifactory-bench/1
name: real
services:
  llm:
    kind: llama-server
    parameters:
      {{model: {model}, program: {program}, alias: tiny, context: 4096, parallel: 4, threads: 1, prompt_cache: {cache}}}
clients:
  load:
    kind: openai-load
    target: llm
    parameters: {{{parameters}}}
    load: {{{load}}}
limits: {{input_length: 15%}}
"""
"""Of this model's words some are one token and some are six, and ten of them are a prompt."""
OF_THE_MACHINE = {"lateness", "observation_age", "generator_stalled", "client_bound", "rate_not_achieved"}
"""Reasons that a machine with other work gives, rightly."""


@pytest.fixture
def recipe(llama_server, tiny_gguf):
    """Returns a function: what differs -> a recipe's text."""

    def write(parameters, load, *, shape="small", cache="false"):
        return RECIPE.format(model=tiny_gguf(shape), program=llama_server, parameters=parameters, load=load, cache=cache)

    return write


def good(run):
    """Return the measurement of a run in which nothing failed, whatever else this machine had to do."""
    assert run.code in {0, 3}, run.errors
    measurement = run.measurement
    assert run.reasons <= OF_THE_MACHINE, measurement["reasons"]
    assert measurement["counts"]["error"] == measurement["counts"]["timeout"] == 0, measurement["errors"]
    return measurement


@pytest.mark.parametrize(
    ("api", "load"),
    [
        ("chat", "process: closed, concurrency: 3, warmup: 300ms, duration: 2s"),
        ("completions", "process: poisson, rate: 40/s, warmup: 300ms, duration: 2s"),
    ],
)
def test_counts_are_the_servers(run, recipe, llama_timings, api, load):
    """Requests, tokens and lengths, from three sides: our records, the server's counters, the server's log."""
    done = run(recipe(f"api: {api}, input_tokens: 40, output_tokens: {OUTPUT}", load))
    measurement = good(done)
    (records,), (rank,) = done.records(), done.ranks()
    in_window = records["phase"] == 1
    assert measurement["counts"]["ok"] == np.count_nonzero(in_window) > 15
    assert set(records["output_tokens"]) == {OUTPUT}  # the server ignores its end of text, or lengths would differ
    assert {records["token_source_names"][number] for number in records["token_source"]} == {b"usage"}

    of_load = [timing for timing in llama_timings(done.log()) if timing.output_tokens == OUTPUT]
    assert len(of_load) == len(in_window)
    assert sum(timing.prompt_tokens for timing in of_load) == records["prompt_tokens"].sum()

    rose = {name: rank["server_after"][name] - rank["server_before"][name] for name in ("output_tokens",)}
    assert rose["output_tokens"] == rank["totals"]["output_tokens"] == OUTPUT * len(in_window)
    assert measurement["metrics"]["output_tokens"]["value"] == OUTPUT * measurement["counts"]["ok"]
    assert measurement["metrics"]["prompt_tokens"]["value"] == records["prompt_tokens"][in_window].sum()


def test_times_are_the_servers(run, recipe, llama_timings):
    """One request at a time, some milliseconds a token: each of them beside what the server says of it."""
    load = "process: closed, concurrency: 1, warmup: 500ms, duration: 4s"
    done = run(recipe("api: completions, input_tokens: 32, output_tokens: 24", load, shape="paced"))
    measurement = good(done)
    (records,) = done.records()
    timings = [timing for timing in llama_timings(done.log()) if timing.output_tokens == 24]
    assert len(timings) == len(records["sent_ns"]) > 5
    prompt_ms = np.array([timing.prompt_ms for timing in timings])
    token_ms = np.array([timing.output_ms / (timing.output_tokens - 1) for timing in timings])
    assert np.median(token_ms) > 1

    ttft_ms = (records["first_ns"] - records["sent_ns"]) / 1e6
    beyond_ms = ttft_ms - prompt_ms  # HTTP, the tokenizer, the queue's turn, and the first token's own sampling
    assert beyond_ms.min() > -0.5
    assert np.median(beyond_ms) < 0.1 * np.median(prompt_ms) + 10
    tpot_ms = (records["last_ns"] - records["first_ns"]) / (records["output_tokens"] - 1) / 1e6
    assert set(records["chunks"]) == {24}  # of this model's tokens none is held back
    assert np.median(np.abs(tpot_ms / token_ms - 1)) < 0.03

    in_window = records["phase"] == 1
    for name, values_ms in (("ttft", ttft_ms), ("tpot", tpot_ms)):
        told = measurement["distributions"][name]
        assert told["count"] == np.count_nonzero(in_window)
        assert told["mean"] / 1e3 == pytest.approx(values_ms[in_window].mean(), rel=0.02)


def test_a_conversation(run, recipe, llama_timings):
    """Each turn says again what was said before, and the server has it in its cache: told by usage, and true by its log."""
    parameters = "api: chat, input_tokens: 40, output_tokens: 16, turns: 3"
    done = run(recipe(parameters, "process: closed, concurrency: 1, warmup: 300ms, duration: 2s", cache="true"))
    measurement = good(done)
    (records,) = done.records()
    asked, cached = records["prompt_tokens"], records["cached_tokens"]
    whole = len(asked) // 3 * 3
    by_turn = asked[:whole].reshape(-1, 3)
    assert (np.diff(by_turn) > OUTPUT).all()
    # A token at the seam may be made anew with what follows it.
    assert (cached[:whole].reshape(-1, 3)[:, 1:] >= by_turn[:, :-1] - 2).mean() > 0.9
    timings = [timing for timing in llama_timings(done.log()) if timing.output_tokens == OUTPUT]
    assert [timing.prompt_tokens for timing in timings] == list(asked - cached)
    in_window = records["phase"] == 1
    share = cached[in_window].sum() / asked[in_window].sum()
    assert 0.3 < measurement["metrics"]["cached_share"]["value"] == pytest.approx(share)


def test_a_server_that_is_killed(command, ended, recipe, until, phase_begun, pids_of):
    """What was measured is shown, is invalid, and says why; nothing is left."""
    load = "process: closed, concurrency: 3, warmup: 300ms, duration: 60s"
    child = command(recipe("api: chat, input_tokens: 40, output_tokens: 16", load))
    until(lambda: phase_begun("measure"))
    time.sleep(1)
    (pid,) = pids_of("llama-server")
    os.kill(pid, signal.SIGKILL)
    done = ended(child, limit_s=30)
    assert done.code == 3
    measurement = done.measurement
    assert measurement["verdict"] == "invalid"
    assert "service_died" in done.reasons, measurement["reasons"]
    assert measurement["counts"]["ok"] > 10
    (job,) = [job for job in done.summary["jobs"] if job["name"] == "llm"]
    assert job["state"] == "failed"
