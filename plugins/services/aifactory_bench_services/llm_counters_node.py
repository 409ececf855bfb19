"""What servers of language models count themselves, under one set of names.

The same figure has had several names over servers and releases. Each of our names has the known series in an order of
preference: the first that a page shows is taken, and its samples are added over their labels (engine, model, reason of the
end). `a + b` is the sum of two series where a page shows both. What a page does not show is absent, never 0.
"""

from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from aifactory_bench.node.endpoint import Endpoint

from .llm_http_node import ask
from .prometheus_text_node import Sample, parse

_TIMEOUT_S = 10.0
_LLAMA_COMPUTED = "llamacpp:prompt_tokens_total"
_LLAMA_CACHED = "llamacpp:prompt_tokens_cached_total"

COUNTERS: Mapping[str, Tuple[str, ...]] = {
    # The truth server counts refused requests too, as the clients' totals do.
    "operations": ("afb_truth:requests_total", "vllm:request_success_total", "vllm:request_success"),
    "output_tokens": ("vllm:generation_tokens_total", "vllm:generation_tokens", "llamacpp:tokens_predicted_total"),
    "prompt_tokens": ("vllm:prompt_tokens_total", "vllm:prompt_tokens", f"{_LLAMA_COMPUTED} + {_LLAMA_CACHED}"),
    "ttft_s": ("vllm:time_to_first_token_seconds_sum",),
    "ttft_count": ("vllm:time_to_first_token_seconds_count",),
    "cache_hits_tokens": (
        "vllm:prefix_cache_hits_total",
        "vllm:gpu_prefix_cache_hits_total",
        "vllm:prefix_cache_hits",
        "vllm:gpu_prefix_cache_hits",
        _LLAMA_CACHED,
    ),
    "cache_queries_tokens": (
        "vllm:prefix_cache_queries_total",
        "vllm:gpu_prefix_cache_queries_total",
        "vllm:prefix_cache_queries",
        "vllm:gpu_prefix_cache_queries",
        f"{_LLAMA_COMPUTED} + {_LLAMA_CACHED}",
    ),
    "preemptions": ("vllm:num_preemptions_total", "vllm:num_preemptions"),
}
"""Totals since the server's start. llama.cpp counts prompt tokens without those that a cache had, and those apart; of releases
that count only the former, the whole is not known."""

_ADDED: Mapping[str, Tuple[str, ...]] = {
    "requests_running": ("vllm:num_requests_running", "llamacpp:requests_processing"),
    "requests_waiting": ("vllm:num_requests_waiting", "llamacpp:requests_deferred"),
}
_AVERAGED: Mapping[str, Tuple[str, ...]] = {
    "kv_cache_usage_share": ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "llamacpp:kv_cache_usage_ratio"),
}
"""Shares from 0 to 1, each engine with one of its own."""

COLUMNS: Tuple[str, ...] = (*_ADDED, *_AVERAGED, *COUNTERS)
"""Of a sample, in this order: first the state, then the totals."""


def totals(text: str) -> Dict[str, float]:
    """Return our names -> totals of a `/metrics` page, those that it shows.

    Raises:
        ValueError: it is no such page.
    """
    values = _by_name(parse(text))
    found = {name: _first(values, series) for name, series in COUNTERS.items()}
    return {name: sum(numbers) for name, numbers in found.items() if numbers is not None}


def state(text: str) -> Dict[str, Optional[float]]:
    """Return one value for each of `COLUMNS`; None where the page does not show it.

    Raises:
        ValueError: it is no such page.
    """
    values = _by_name(parse(text))
    found: Dict[str, Optional[float]] = {}
    for series, averaged in ((_ADDED, False), (_AVERAGED, True), (COUNTERS, False)):
        for name, names in series.items():
            numbers = _first(values, names)
            found[name] = None if numbers is None else sum(numbers) / (len(numbers) if averaged else 1)
    return found


def counters(endpoint: Endpoint, secret: str) -> Dict[str, float]:
    """Return a server's totals since its start.

    Raises:
        OSError, HttpError: the server is not there, or gives no `/metrics`.
        ValueError: the page is no page of metrics.
    """
    return totals(ask(endpoint, "/metrics", secret=secret, timeout_s=_TIMEOUT_S))


def sample(endpoint: Endpoint, secret: str) -> Dict[str, Optional[float]]:
    """Return what a server does now and has done: `COLUMNS`.

    Raises:
        OSError, HttpError: the server is not there, or gives no `/metrics`.
        ValueError: the page is no page of metrics.
    """
    return state(ask(endpoint, "/metrics", secret=secret, timeout_s=_TIMEOUT_S))


def _by_name(samples: Sequence[Sample]) -> Dict[str, List[float]]:
    values: Dict[str, List[float]] = {}
    for one in samples:
        values.setdefault(one.name, []).append(one.value)
    return values


def _first(values: Mapping[str, List[float]], names: Sequence[str]) -> Optional[List[float]]:
    for name in names:
        parts = name.split(" + ")
        if all(part in values for part in parts):
            return [value for part in parts for value in values[part]]
    return None
