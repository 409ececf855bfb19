"""`rag-load`: a search among vectors and then a completion with what was found, as one request."""

from collections.abc import Sequence
from typing import ClassVar

from attrs import field, frozen, validators

from aifactory_bench import BaseJob, Client, hookimpl

from .chroma_parameters import ChromaData
from .llm_parameters import CONNECTIONS, TIMEOUT_S


@frozen(kw_only=True)
class RagLoadParameters(ChromaData):
    """What a recipe says about the load."""

    document_words: int = field(default=60, validator=[validators.ge(1), validators.le(100_000)])
    """Length of the text that is stored with each vector."""
    question_words: int = field(default=16, validator=[validators.ge(1), validators.le(100_000)])
    """Length of the question, which comes behind what was found."""
    model: str | None = field(default=None, validator=validators.optional(validators.min_len(1)))
    """Name of the model as the server has it. None: the first that it lists."""
    output_tokens: int = field(default=64, validator=[validators.ge(1), validators.le(1_000_000)])
    """Tokens that are asked for."""
    exact_output: bool = True
    """Have the server go on to that number of tokens (`ignore_eos`, `min_tokens`); strict servers refuse it."""
    temperature: float = field(default=0.0, validator=[validators.ge(0.0), validators.le(100.0)])
    """0: the most likely token each time."""


class RagLoadClient(Client):
    """Retrieval, then generation: the neighbours of a vector are looked up, and their texts are the prompt."""

    kind = "rag-load"
    Parameters = RagLoadParameters
    node_module = "aifactory_bench_services.rag_load_node"
    targets: ClassVar = {"vectors": ("chroma",), "model": ("vllm", "llama-server", "truth-llm", "ollama")}
    default_timeout_s = TIMEOUT_S
    default_connections = CONNECTIONS


@hookimpl
def register_jobs() -> Sequence[type[BaseJob]]:
    """Return the load client."""
    return [RagLoadClient]
