"""The truth server on the node: does it answer with tokens, and what has it counted."""

from typing import Any, Dict

from aifactory_bench.node.contract import NotReady
from aifactory_bench.node.endpoint import Endpoint

from .llm_counters_node import sample, totals
from .llm_http_node import HttpError, ask, ask_json
from .prometheus_text_node import parse

__all__ = ["counters", "probe", "sample"]

_PROBE_TIMEOUT_S = 1.5
_TIMEOUT_S = 10.0
_REQUESTS = "afb_truth:requests_total"
_AT_ONCE = {"ttft": 0, "tokens": 1, "error_status": 0, "fault_share": 0, "segment_bytes": 0, "stall": []}
"""The recipe's delays and faults are for clients, not for the question whether the server is there."""


def probe(endpoint: Endpoint, secret: str, parameters: "Dict[str, Any]") -> "Dict[str, Any]":
    """Return name, version and model of a server that has made a token for us.

    Raises:
        NotReady: it does not yet; the text is what it said.
    """
    body = {"model": parameters.get("model", "truth"), "prompt": "ready", "max_tokens": 1, "afb": _AT_ONCE}
    try:
        answer = ask_json(endpoint, "/v1/completions", body, secret=secret, timeout_s=_PROBE_TIMEOUT_S)
        version = ask_json(endpoint, "/version", secret=secret, timeout_s=_PROBE_TIMEOUT_S)
    except (OSError, HttpError) as error:
        raise NotReady(str(error)) from None
    if not isinstance(answer, dict) or not answer.get("choices") or not isinstance(version, dict):
        raise NotReady(f"a completion without choices: {str(answer)[:200]}")
    return {
        "server_name": "truth-server",
        "server_version": str(version.get("version", "")),
        "model": str(answer.get("model", "")),
    }


def counters(endpoint: Endpoint, secret: str) -> "Dict[str, float]":
    """Return totals of the server since its start, under the names that all servers of language models have.

    `operations` is all requests for tokens that have ended: well, with an error, given up or refused.

    Raises:
        OSError, HttpError: the server is not there, or gives no `/metrics`.
        ValueError: the page is no page of metrics.
    """
    text = ask(endpoint, "/metrics", secret=secret, timeout_s=_TIMEOUT_S)
    requests = [sample.value for sample in parse(text) if sample.name == _REQUESTS]
    return {**totals(text), "operations": sum(requests)}
