"""`openai-load` on the node: requests of OpenAI's chat and completions."""

import ssl
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional

from aifactory_bench.node.contract import Context
from aifactory_bench.node.endpoint import Endpoint

from . import llm_client_node as client
from .llm_answer_node import Answer
from .llm_counters_node import counters
from .llm_driver_node import Dialect, LlmLoad
from .llm_http_node import HttpError, ask_json
from .llm_openai_node import read
from .llm_request_node import Maker, path_of

if TYPE_CHECKING:
    from .llm_prompts_node import Prompt

__all__ = ["counters", "driver", "prepare"]

_PATHS = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}
_ENDS_BY_ITSELF = frozenset(("ollama", "transformers"))
"""Servers, as their probes name them, that know no `ignore_eos`."""
_REFUSED = frozenset((400, 422))


def prepare(context: Context) -> "Dict[str, Any]":
    """Check the model on every server, and have each give a first answer; see `llm_client_node.prepare`."""
    return {**client.prepare(context, _flavour(context)), "exact_output": _is_exact(context)}


def driver(context: Context) -> LlmLoad:
    """Return the load that the parameters ask for; see `llm_client_node.driver`."""
    return client.driver(context, _flavour(context))


def models(endpoint: Endpoint, secret: str, tls: "Optional[ssl.SSLContext]") -> "List[str]":
    """Return the names in the server's list of models.

    Raises:
        OSError, HttpError: there is no such list.
    """
    answer = ask_json(endpoint, path_of(endpoint, "/v1/models"), secret=secret, timeout_s=30.0, tls=tls)
    entries = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(entries, list):
        raise HttpError(200, "/v1/models: the answer is no list of models")
    return [entry["id"] for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)]


def _flavour(context: Context) -> client.Flavour:
    return client.Flavour(
        path=_PATHS[context.parameters.get("api", "chat")],
        models=models,
        dialect=_dialect,
        exact_output=_is_exact(context),
        hint=lambda answer: _hint(context, answer),
    )


def _is_exact(context: Context) -> bool:
    names = {str(endpoint.facts.get("server_name", "")).lower() for endpoint in context.endpoints["main"]}
    return bool(context.parameters.get("exact_output", True)) and not names & _ENDS_BY_ITSELF


def _hint(context: Context, answer: Answer) -> str:
    if answer.status in _REFUSED and _is_exact(context):
        return "a server that knows neither ignore_eos nor min_tokens needs exact_output: false"
    return ""


def _dialect(context: Context, model: str) -> Dialect:
    parameters = context.parameters
    chat, exact = parameters.get("api", "chat") == "chat", _is_exact(context)

    def asked(prompt: "Prompt") -> "Dict[str, Any]":
        """Return what differs from request to request."""
        body: Dict[str, Any] = {"messages": prompt.messages} if chat else {"prompt": prompt.text}
        if prompt.output_tokens is not None:
            body["max_tokens"] = prompt.output_tokens
            if exact:
                body["min_tokens"] = prompt.output_tokens
        return body

    return Dialect("chat" if chat else "completion", Maker(_common(parameters, model, exact=exact), asked), read)


def _common(parameters: "Mapping[str, Any]", model: str, *, exact: bool) -> "Dict[str, Any]":
    """Return what is the same in the bodies of all requests."""
    stream = bool(parameters.get("stream", True))
    body: Dict[str, Any] = {"model": model, "stream": stream, "temperature": parameters.get("temperature", 0.0)}
    if stream:
        body["stream_options"] = {"include_usage": True}
        if parameters.get("continuous_usage"):
            body["stream_options"]["continuous_usage_stats"] = True
    if exact:
        body["ignore_eos"] = True
    if parameters.get("seed") is not None:
        body["seed"] = parameters["seed"]
    if parameters.get("truth"):
        body["afb_truth"] = True
    return {**body, **(parameters.get("extra") or {})}
