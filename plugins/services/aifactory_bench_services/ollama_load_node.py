"""`ollama-load` on the node: requests of Ollama's own interface."""

import ssl
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional

from aifactory_bench.node.contract import Context
from aifactory_bench.node.endpoint import Endpoint

from . import llm_client_node as client
from .llm_driver_node import Dialect, LlmLoad
from .llm_http_node import HttpError, ask_json
from .llm_ollama_node import read
from .llm_request_node import Maker, path_of

if TYPE_CHECKING:
    from .llm_prompts_node import Prompt

_PATHS = {"generate": "/api/generate", "chat": "/api/chat"}


def prepare(context: Context) -> "Dict[str, Any]":
    """Check the model on every server, and have each give a first answer; see `llm_client_node.prepare`."""
    return client.prepare(context, _flavour(context))


def driver(context: Context) -> LlmLoad:
    """Return the load that the parameters ask for; see `llm_client_node.driver`."""
    return client.driver(context, _flavour(context))


def models(endpoint: Endpoint, secret: str, tls: "Optional[ssl.SSLContext]") -> "List[str]":
    """Return the names of the models that the server has.

    Raises:
        OSError, HttpError: it does not say.
    """
    answer = ask_json(endpoint, path_of(endpoint, "/api/tags"), secret=secret, timeout_s=30.0, tls=tls)
    entries = answer.get("models") if isinstance(answer, dict) else None
    if not isinstance(entries, list):
        raise HttpError(200, "/api/tags: the answer is no list of models")
    return [str(entry.get("model") or entry.get("name")) for entry in entries if isinstance(entry, dict)]


def _flavour(context: Context) -> client.Flavour:
    return client.Flavour(
        path=_PATHS[context.parameters.get("api", "generate")],
        models=models,
        dialect=_dialect,
        exact_output=False,  # an Ollama server ends an answer when the model does
        hint=lambda _answer: "",
    )


def _dialect(context: Context, model: str) -> Dialect:
    parameters = context.parameters
    chat = parameters.get("api", "generate") == "chat"
    options = _options(parameters)

    def asked(prompt: "Prompt") -> "Dict[str, Any]":
        """Return what differs from request to request."""
        body: Dict[str, Any] = {"messages": prompt.messages} if chat else {"prompt": prompt.text}
        body["options"] = options if prompt.output_tokens is None else {**options, "num_predict": prompt.output_tokens}
        return body

    common: Dict[str, Any] = {"model": model, "stream": bool(parameters.get("stream", True))}
    if parameters.get("keep_alive") is not None:
        common["keep_alive"] = _keep_alive(parameters["keep_alive"])
    if parameters.get("truth"):
        common["afb_truth"] = True
    return Dialect("chat" if chat else "generate", Maker(common, asked), read)


def _keep_alive(text: str) -> Any:
    """Return a number of seconds as such: as text the server takes only those with a unit."""
    return int(text) if text.lstrip("-").isdigit() else text


def _options(parameters: "Mapping[str, Any]") -> "Dict[str, Any]":
    options: Dict[str, Any] = {"temperature": parameters.get("temperature", 0.0)}
    if parameters.get("seed") is not None:
        options["seed"] = parameters["seed"]
    return {**options, **(parameters.get("options") or {})}
