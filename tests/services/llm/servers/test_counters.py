"""What servers count, under one set of names: pages as they were recorded, and pages that are none."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifactory_bench_services.llm_counters_node import COLUMNS, state, totals
from aifactory_bench_services.prometheus_text_node import Sample, parse

VLLM = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="tiny"} 3.0
vllm:num_requests_running{engine="1",model_name="tiny"} 2.0
vllm:num_requests_waiting{engine="0",model_name="tiny"} 7.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="tiny",reason="capacity"} 7.0
vllm:kv_cache_usage_perc{engine="0",model_name="tiny"} 0.5
vllm:kv_cache_usage_perc{engine="1",model_name="tiny"} 0.25
vllm:prefix_cache_queries_total{engine="0",model_name="tiny"} 250.0
vllm:prefix_cache_queries_created{engine="0",model_name="tiny"} 1.7958130502430313e+09
vllm:prefix_cache_hits_total{engine="0",model_name="tiny"} 128.0
vllm:num_preemptions_total{engine="0",model_name="tiny"} 0.0
vllm:prompt_tokens_total{engine="0",model_name="tiny"} 250.0
vllm:prompt_tokens_cached_total{engine="0",model_name="tiny"} 128.0
vllm:generation_tokens_total{engine="0",model_name="tiny"} 22.0
vllm:request_success_total{engine="0",finished_reason="stop",model_name="tiny"} 1.0
vllm:request_success_total{engine="0",finished_reason="length",model_name="tiny"} 4.0
vllm:request_success_total{engine="0",finished_reason="abort",model_name="tiny"} 2.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.001",model_name="tiny"} 0.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf",model_name="tiny"} 4.0
vllm:time_to_first_token_seconds_count{engine="0",model_name="tiny"} 4.0
vllm:time_to_first_token_seconds_sum{engine="0",model_name="tiny"} 0.27144837379455566
"""
"""Lines as vLLM 0.32.0 wrote them, values of a second engine added."""
OLD_VLLM = """\
vllm:gpu_cache_usage_perc{model_name="m"} 0.125
vllm:gpu_prefix_cache_queries_total{model_name="m"} 10.0
vllm:gpu_prefix_cache_hits_total{model_name="m"} 4.0
vllm:generation_tokens_total{model_name="m"} 5.0
"""
"""Names of earlier releases."""
LLAMA = """\
# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed, excluding cached tokens
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total 60
# HELP llamacpp:prompt_tokens_cached_total Number of prompt tokens reused from the cache
# TYPE llamacpp:prompt_tokens_cached_total counter
llamacpp:prompt_tokens_cached_total 104
llamacpp:prompt_seconds_total 0.00562
llamacpp:tokens_predicted_total 22
llamacpp:requests_processing 1
llamacpp:requests_deferred 2
"""
"""As build 11434 wrote them."""


def test_vllm():
    """Added over engines and reasons; nothing of another name gets in."""
    assert totals(VLLM) == {
        "operations": 7,
        "output_tokens": 22,
        "prompt_tokens": 250,
        "ttft_s": 0.27144837379455566,
        "ttft_count": 4,
        "cache_hits_tokens": 128,
        "cache_queries_tokens": 250,
        "preemptions": 0,
    }
    now = state(VLLM)
    assert tuple(now) == COLUMNS
    assert (now["requests_running"], now["requests_waiting"], now["kv_cache_usage_share"]) == (5, 7, 0.375)
    assert now["output_tokens"] == 22


def test_earlier_names_of_vllm():
    """The same figures from releases that called them otherwise; what is not there is absent."""
    assert totals(OLD_VLLM) == {"output_tokens": 5, "cache_hits_tokens": 4, "cache_queries_tokens": 10}
    now = state(OLD_VLLM)
    assert tuple(now) == COLUMNS
    assert now["kv_cache_usage_share"] == 0.125
    assert now["operations"] is None


def test_the_truth_server():
    """All requests, refused ones too, before those that ended well."""
    text = 'afb_truth:requests_total{model_name="m"} 9\nvllm:request_success_total{finished_reason="stop"} 4\n'
    assert totals(text) == {"operations": 9}


def test_a_page_with_old_and_new_names_is_not_counted_twice():
    """While a series is renamed both are shown."""
    assert totals(VLLM + 'vllm:gpu_prefix_cache_hits_total{model_name="m"} 128.0\n')["cache_hits_tokens"] == 128


def test_llama():
    """Prompt tokens are counted in two parts; the number of requests is not counted at all."""
    assert totals(LLAMA) == {"output_tokens": 22, "prompt_tokens": 164, "cache_hits_tokens": 104, "cache_queries_tokens": 164}
    assert (state(LLAMA)["requests_running"], state(LLAMA)["requests_waiting"]) == (1, 2)


def test_llama_that_does_not_count_what_its_cache_had():
    """Without those the whole is not known, and must not be compared with the clients'."""
    old = "".join(line for line in LLAMA.splitlines(keepends=True) if "cached" not in line)
    assert totals(old) == {"output_tokens": 22}


def test_an_empty_page():
    """Nothing is known, and nothing is 0."""
    assert totals("") == {}
    assert set(state("").values()) == {None}


@pytest.mark.parametrize(
    ("line", "sample"),
    [
        ("a 1", ("a", {}, 1.0)),
        ("a{} 1", ("a", {}, 1.0)),
        ('a:b_c{x="y",} 2 1795813050', ("a:b_c", {"x": "y"}, 2.0)),
        (r'a{x="q\"}{ # z\\",y="\n"} 3 # {trace="1"} 4', ("a", {"x": 'q"}{ # z\\', "y": "\n"}, 3.0)),
        ('a{le="0.1"} 3 # {trace="1"} 4 1234.5', ("a", {"le": "0.1"}, 3.0)),
        ('a{x="y"} +Inf', ("a", {"x": "y"}, math.inf)),
        ("\ta \t 1e-3\t", ("a", {}, 0.001)),
    ],
)
def test_lines(line, sample):
    """Labels with anything in them, time stamps, exemplars."""
    assert parse(f"# HELP a text\n\n{line}\n# EOF\n") == [Sample(*sample)]


def test_not_a_number_is_one():
    """An empty summary has it."""
    (sample,) = parse("a NaN")
    assert math.isnan(sample.value)


@pytest.mark.parametrize("text", ["a", "a{x} 1", "1 2", "<html>", 'a{x="y} 1', "a b", "a 1 2 3", '{"error": "no metrics"}'])
def test_what_is_no_page_of_metrics(text):
    """It is shown."""
    with pytest.raises(ValueError, match="of metrics") as raised:
        parse(text)
    assert text[:10] in str(raised.value)


@given(st.dictionaries(st.from_regex(r"[a-z_]\w*", fullmatch=True).filter(str.isascii), st.text()), st.floats(allow_nan=False))
def test_what_was_written_is_read(labels, value):
    """Whatever labels hold."""

    def escaped(text):
        return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")

    inside = ",".join(f'{name}="{escaped(text)}"' for name, text in labels.items())
    assert parse(f"a{{{inside}}} {value!r}\n") == [Sample("a", labels, value)]
