"""`ollama-load`: Ollama's own interface, on the load core."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from attrs import field, frozen, validators

from aifactory_bench import BaseJob, hookimpl

from .llm_parameters import LlmLoadClient, LlmParameters, Scalar, check_free

_TAKEN = {
    **{name: f"write the parameter {name}" for name in ("temperature", "seed")},
    "num_predict": "write the parameter output_tokens",
}


@frozen
class OllamaLoadParameters(LlmParameters):
    """What a recipe says about the load on an Ollama server."""

    api: Literal["generate", "chat"] = "generate"
    """`/api/generate` or `/api/chat`."""
    keep_alive: str | None = field(default=None, validator=validators.optional(validators.matches_re(r"-?[0-9]+(ms|[smh])?")))
    """How long the server keeps the model loaded behind an answer, such as `10m`; `0` unloads it, `-1` keeps it for good. None:
    the server's own."""
    options: Mapping[str, Scalar] = field(factory=dict, validator=check_free(_TAKEN))
    """Further options of the model, such as `num_ctx`."""


class OllamaLoadClient(LlmLoadClient):
    """Prompts to an Ollama server by its own interface: generate or chat."""

    kind = "ollama-load"
    Parameters = OllamaLoadParameters
    node_module = "aifactory_bench_services.ollama_load_node"
    targets: ClassVar = {"main": ("ollama", "truth-llm")}


@hookimpl
def register_jobs() -> Sequence[type[BaseJob]]:
    """Return the load client."""
    return [OllamaLoadClient]
