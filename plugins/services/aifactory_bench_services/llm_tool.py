"""What the load tools of others for OpenAI servers have in common: parameters, and the loads that they can offer."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from attrs import field, frozen, validators

from aifactory_bench import Client, Load, Placeholder, RecipeError

from .extra_arguments import check_model
from .llm_parameters import TIMEOUT_S

TARGETS = ("vllm", "ollama", "llama-server", "truth-llm")
PATHS: Mapping[str, str] = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}
"""The parameter `api` -> path of the requests."""
SEED = Placeholder("seed.point")
"""Another one at each point: a prefix cache would know the prompts of the point before."""
_MOST_TOKENS = 1_000_000
_PLAIN = re.compile(r"[A-Za-z0-9_./:@+-]+")


def _check_plain(_instance: Any, _attribute: Any, value: str | None) -> None:
    if value is not None and not _PLAIN.fullmatch(value):
        raise ValueError(f"must be made of letters, digits and _ . / : @ + -, as the tools cut at others; found {value!r}")


check_tokenizer = (check_model(paths_only=True), _check_plain)
"""Validators of a tokenizer's folder."""


@frozen
class LlmToolParameters:
    """What a recipe says about the load of a tool."""

    model: str = field(validator=[check_model(), _check_plain])
    """Name of the model as the server has it."""
    input_tokens: int = field(default=128, validator=[validators.ge(1), validators.le(_MOST_TOKENS)])
    """Length of each prompt."""
    output_tokens: int = field(default=128, validator=[validators.ge(1), validators.le(_MOST_TOKENS)])
    """Tokens asked for, the end of text ignored (`ignore_eos`)."""
    api: Literal["chat", "completions"] = "chat"
    """`/v1/chat/completions` or `/v1/completions`."""


@frozen
class TokenizerParameters(LlmToolParameters):
    """The same of a tool that does nothing without a tokenizer."""

    tokenizer: str = field(kw_only=True, validator=check_tokenizer)
    """Folder of the model's tokenizer on the client's node; the tool makes prompts with it, and nothing is downloaded."""


class LlmToolClient(Client):
    """A load tool of others; its kind says what it is called and which arrivals it has."""

    mode = "tool"
    targets: ClassVar = {"main": TARGETS}
    default_timeout_s = TIMEOUT_S
    program: ClassVar[str]
    """As people call it."""
    arrivals: ClassVar[tuple[str, ...]] = ("closed", "constant", "poisson")
    """Values of `process` that it can offer."""
    many_workers: ClassVar[bool] = True
    """It can be told how many processes to take."""

    def check_load(self, load: Load) -> None:
        """Refuse a load that the tool cannot offer.

        Raises:
            RecipeError: another arrival process, a search, steps of rates, workers that it has not, or less than one connection
                a replica.
        """
        where = f"clients.{self.name}.load"
        if load.process not in self.arrivals:
            raise RecipeError(
                f"{where}.process: {self.program} offers {listed(self.arrivals)}, found {load.process!r}",
                "choose one of them, or use the kind openai-load, which has all",
            )
        for name, given in (("search", load.search is not None), ("rates", bool(load.rates))):
            if given:
                raise RecipeError(
                    f"{where}.{name}: {self.program} measures one load a point",
                    "write a matrix over `load.rate` or `load.concurrency`, or use the kind openai-load",
                )
        if load.workers != 1 and not self.many_workers:
            raise RecipeError(
                f"{where}.workers: {self.program} is one process, found {load.workers}",
                "use `replicas` for more, each with its share",
            )
        name = "concurrency" if load.process == "closed" else "connections"
        total = getattr(load, name)
        if total is not None and total < self.replicas:
            raise RecipeError(
                f"{where}.{name}: {total} for {self.replicas} replicas, at least one a replica is needed",
                f"raise `{name}` or lower `replicas`",
            )

    def open_requests(self, load: Load) -> int:
        """Return how many requests of one replica are due in warm-up and window of an open loop."""
        rate_per_s = (load.rate_per_s or 0.0) / self.replicas
        return max(1, math.ceil(round(rate_per_s * (load.warmup_s + load.duration_s), 6)))

    def in_flight(self, load: Load) -> Placeholder:
        """Return a replica's share of the requests in flight: closed loop, all the time; open loop, at most."""
        return Placeholder("share.concurrency" if load.process == "closed" else "share.connections")


def plain(value: float) -> str:
    """Return a number as the tools read it."""
    return format(value, ".10g")


def listed(names: Sequence[str]) -> str:
    """Return names as a part of a sentence."""
    return f"{', '.join(names[:-1])} and {names[-1]}"
