"""Ollama on the node: is it there, does it have the model, and has it loaded it.

A model may take minutes to load, and a probe has seconds: a thread asks for it, and the probe looks whether it is done.
"""

import threading
import time
from typing import Any, Dict, Optional, Tuple

from aifactory_bench.node.contract import NotReady
from aifactory_bench.node.endpoint import Endpoint

from .llm_http_node import HttpError, ask_json

_LOAD_LIMIT_S = 6 * 3600.0
"""Longer than any service may take to get ready."""
_LATEST = ":latest"


class _Loading:
    """A model on its way into memory."""

    def __init__(self, endpoint: Endpoint, model: str) -> None:
        self.began = time.monotonic()
        self.load_s: Optional[float] = None
        self.first_completion_s: Optional[float] = None
        self.error = ""
        self.ended = False
        threading.Thread(target=self._run, args=(endpoint, model), name="load-model", daemon=True).start()

    def _run(self, endpoint: Endpoint, model: str) -> None:
        try:
            # No prompt: the model is loaded and nothing else.
            ask_json(endpoint, "/api/generate", {"model": model, "stream": False}, timeout_s=_LOAD_LIMIT_S)
            loaded = time.monotonic()
            self.load_s = loaded - self.began
            request = {"model": model, "prompt": "Hello", "stream": False, "options": {"num_predict": 1}}
            answer = ask_json(endpoint, "/api/generate", request, timeout_s=_LOAD_LIMIT_S)
            if not isinstance(answer, dict) or not answer.get("done"):
                raise HttpError(200, f"/api/generate: no whole answer: {str(answer)[:200]}")
            self.first_completion_s = time.monotonic() - loaded
        except (OSError, HttpError) as error:
            self.error = str(error)
        self.ended = True


_loading: "Dict[Tuple[str, int, str], _Loading]" = {}
"""By address and start of the server."""


def alive(endpoint: Endpoint, secret: str, parameters: "Dict[str, Any]") -> "Dict[str, Any]":
    """Return the version of a server that answers.

    Raises:
        NotReady: it does not yet.
    """
    try:
        answer = ask_json(endpoint, "/api/version")
    except (OSError, HttpError) as error:
        raise NotReady(str(error)) from None
    return {"server_name": "ollama", "server_version": str(answer.get("version", "")) if isinstance(answer, dict) else ""}


def probe(endpoint: Endpoint, secret: str, parameters: "Dict[str, Any]") -> "Dict[str, Any]":
    """Return what a server is that holds the model and has completed a prompt for us.

    `model_load_s` is the cold start: from the question for the model to its answer. Of a server that ran before it may
    hold the model already. Without a parameter `model` it is the first of the server's list.

    Raises:
        NotReady: it does not yet; the text is what it said.
    """
    facts = alive(endpoint, secret, parameters)
    try:
        entry = _entry(ask_json(endpoint, "/api/tags"), parameters.get("model"))
        server = (endpoint.host, endpoint.port, endpoint.nonce)
        loading = _loading.get(server)
        if loading is None or (loading.ended and loading.error):
            loading = _loading[server] = _Loading(endpoint, entry["name"])
        _wait(loading, entry["name"])
        running = _running(ask_json(endpoint, "/api/ps"), entry["name"])
    except (OSError, HttpError) as error:
        raise NotReady(str(error)) from None
    details = entry.get("details")
    details = details if isinstance(details, dict) else {}
    known = {
        "model": parameters.get("model") or entry["name"],
        "digest": entry.get("digest"),
        "quantization": details.get("quantization_level"),
        "model_format": details.get("format"),
        "model_family": details.get("family"),
        "model_parameters": details.get("parameter_size"),
        "model_size_bytes": entry.get("size"),
        "vram_bytes": running.get("size_vram"),
        "max_model_len": running.get("context_length"),
        "model_load_s": None if loading.load_s is None else round(loading.load_s, 6),
        "first_completion_s": None if loading.first_completion_s is None else round(loading.first_completion_s, 6),
    }
    return {**facts, **{name: value for name, value in known.items() if value is not None}}


def _wait(loading: _Loading, model: str) -> None:
    end = time.monotonic() + 1.0
    while not loading.ended and time.monotonic() < end:
        time.sleep(0.01)
    if loading.error:
        raise NotReady(f"the model {model} cannot be loaded: {loading.error}")
    if not loading.ended:
        raise NotReady(f"the model {model} is being loaded for {time.monotonic() - loading.began:.0f} s")


def _entry(answer: Any, name: Optional[str]) -> "Dict[str, Any]":
    entries = answer.get("models") if isinstance(answer, dict) else None
    models = [entry for entry in entries or () if isinstance(entry, dict) and isinstance(entry.get("name"), str)]
    for entry in models:
        if name is None or entry["name"] in (name, name + _LATEST):
            return entry
    there = ", ".join(entry["name"] for entry in models) or "none"
    raise NotReady(f"the server has no model {name!r}; it has: {there}" if name else "the server has no model")


def _running(answer: Any, name: str) -> "Dict[str, Any]":
    entries = answer.get("models") if isinstance(answer, dict) else None
    for entry in entries or ():
        if isinstance(entry, dict) and entry.get("name") == name:
            return entry
    return {}
