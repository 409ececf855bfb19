"""vLLM on the node: does it answer with the model, and what does it count."""

import time
from typing import Any, Dict

from aifactory_bench.node.contract import NotReady
from aifactory_bench.node.endpoint import Endpoint

from .llm_counters_node import counters, sample
from .llm_http_node import HttpError, ask, ask_json
from .openai_probe_node import first_completion, served_model

__all__ = ["counters", "probe", "sample"]


def probe(endpoint: Endpoint, secret: str, parameters: "Dict[str, Any]") -> "Dict[str, Any]":
    """Return what a server is that has completed a prompt for us: version, model, context length, revision.

    The completion may take longer than other questions, as the first one of an engine.

    Raises:
        NotReady: it does not yet; the text is what it said.
    """
    try:
        ask(endpoint, "/health")
        model = served_model(endpoint, secret, parameters.get("served_model_name") or parameters.get("model"))
        began = time.monotonic()
        first_completion(endpoint, secret, model["id"])
        first_s = time.monotonic() - began
        version = ask_json(endpoint, "/version", secret=secret)
    except (OSError, HttpError) as error:
        raise NotReady(str(error)) from None
    facts = {
        "server_name": "vllm",
        "server_version": str(version.get("version", "")) if isinstance(version, dict) else "",
        "model": model["id"],
        "model_root": model.get("root"),
        "max_model_len": model.get("max_model_len"),
        "revision": parameters.get("revision"),
        "first_completion_s": round(first_s, 6),
    }
    return {name: value for name, value in facts.items() if value is not None}
