"""Questions that every server with an OpenAI interface answers: which models it has, and a completion."""

from typing import Any, Dict, Optional

from aifactory_bench.node.contract import NotReady
from aifactory_bench.node.endpoint import Endpoint

from .llm_http_node import ask_json

_COMPLETION_LIMIT_S = 8.0
"""With the questions before it below the 10 s after which a probe is given up."""


def served_model(endpoint: Endpoint, secret: str, name: Optional[str]) -> "Dict[str, Any]":
    """Return the entry of a model in the server's list; name None: the first.

    Raises:
        NotReady: it is not in the list.
        OSError, HttpError: there is no such list.
    """
    answer = ask_json(endpoint, "/v1/models", secret=secret)
    entries = answer.get("data") if isinstance(answer, dict) else None
    models = [entry for entry in entries or () if isinstance(entry, dict) and isinstance(entry.get("id"), str)]
    for model in models:
        if name is None or model["id"] == name:
            return model
    there = ", ".join(model["id"] for model in models) or "none"
    raise NotReady(f"the server has no model {name!r}; it has: {there}" if name else "the server has no model yet")


def first_completion(endpoint: Endpoint, secret: str, model: str) -> None:
    """Have one token completed.

    Raises:
        NotReady: the answer holds no completion.
        OSError, HttpError: there is no answer.
    """
    request = {"model": model, "prompt": "Hello", "max_tokens": 1, "temperature": 0}
    answer = ask_json(endpoint, "/v1/completions", request, secret=secret, timeout_s=_COMPLETION_LIMIT_S)
    if not isinstance(answer, dict) or not answer.get("choices"):
        raise NotReady(f"a completion without choices: {str(answer)[:200]}")
