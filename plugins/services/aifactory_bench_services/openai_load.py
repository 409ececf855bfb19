"""`openai-load`: chat and completions of any server with an OpenAI interface, on the load core."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from attrs import field, frozen

from aifactory_bench import BaseJob, hookimpl

from .llm_parameters import LlmLoadClient, LlmParameters, Scalar, check_free

_TAKEN = {
    **{name: f"write the parameter {name}" for name in ("model", "stream", "temperature", "seed")},
    **dict.fromkeys(("prompt", "messages"), "write the parameters input_tokens or prompts"),
    **dict.fromkeys(("max_tokens", "max_completion_tokens"), "write the parameter output_tokens"),
    **dict.fromkeys(("min_tokens", "ignore_eos"), "write the parameter exact_output"),
    "stream_options": "write the parameter continuous_usage",
    "n": "one answer a request is measured",
}


def _check_streamed(instance: LlmParameters, _attribute: Any, value: bool) -> None:
    if value and not instance.stream:
        raise ValueError("has no meaning with stream: false, where an answer has no chunks")


@frozen
class OpenaiLoadParameters(LlmParameters):
    """What a recipe says about the load on a server with an OpenAI interface."""

    api: Literal["chat", "completions"] = "chat"
    """`/v1/chat/completions` or `/v1/completions`."""
    exact_output: bool = True
    """Have the server go on to the number of tokens asked for (`ignore_eos`, `min_tokens`): vLLM, llama-server and their
    kin know that, strict servers refuse it."""
    continuous_usage: bool = field(default=False, validator=_check_streamed)
    """Have each chunk say how many tokens there are so far: exact where a chunk has several; vLLM and its kin."""
    extra: Mapping[str, Scalar] = field(factory=dict, validator=check_free(_TAKEN))
    """Further members of every request's body."""


class OpenaiLoadClient(LlmLoadClient):
    """Prompts to a server with an OpenAI interface: chat or completions, streamed or whole."""

    kind = "openai-load"
    Parameters = OpenaiLoadParameters
    node_module = "aifactory_bench_services.openai_load_node"
    targets: ClassVar = {"main": ("vllm", "ollama", "llama-server", "truth-llm")}


@hookimpl
def register_jobs() -> Sequence[type[BaseJob]]:
    """Return the load client."""
    return [OpenaiLoadClient]
