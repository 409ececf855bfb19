"""What clients of LLM servers have in common in a recipe: prompts, lengths, how answers are asked for."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union

from attrs import field, frozen, validators

from aifactory_bench import Client, Command, Load, RecipeError, Share

Scalar = Union[bool, int, float, str]
_MOST_TOKENS = 10_000_000
_MOST_TURNS = 1000
SLOS = ("ttft", "ttfo", "tpot", "stall", "e2e")
"""Latencies that a load can set objectives for; in open loop `ttft`, `ttfo` and `e2e` count from the schedule."""
CONNECTIONS = 512
"""Open loop: answers take seconds, and each has its connection for so long."""
TIMEOUT_S = 600.0
"""Of one request: answers of thousands of tokens take minutes."""


@frozen
class Length:
    """Lengths drawn anew for each request: uniform between `least` and `most`, or around `mean`."""

    least: int = field(default=1, validator=[validators.ge(1), validators.le(_MOST_TOKENS)])
    """Tokens at least; what is drawn below is drawn again."""
    most: int | None = field(default=None, validator=validators.optional([validators.ge(1), validators.le(_MOST_TOKENS)]))
    """Tokens at most. Needed without `mean`."""
    mean: float | None = field(default=None, validator=validators.optional([validators.ge(1.0), validators.le(1e7)]))
    """Of the distribution before the bounds cut it."""
    deviation: float | None = field(default=None, validator=validators.optional([validators.ge(0.0), validators.le(1e7)]))
    """Standard deviation; with `mean`, and then needed."""
    shape: Literal["normal", "lognormal"] | None = None
    """With `mean` only. Default `normal`."""

    def __attrs_post_init__(self) -> None:
        if self.mean is None:
            for name, value in (("deviation", self.deviation), ("shape", self.shape)):
                if value is not None:
                    raise ValueError(f"{name} has no meaning without mean")
            if self.most is None:
                raise ValueError("give least and most, or mean and deviation; found neither most nor mean")
        elif self.deviation is None:
            raise ValueError("mean needs a deviation; for one fixed length write the number alone")
        if self.most is not None and self.most < self.least:
            raise ValueError(f"most must be at least least ({self.least}); found {self.most}")
        if self.mean is not None and not self.least <= self.mean <= (self.most or _MOST_TOKENS):
            raise ValueError(f"mean must lie between least ({self.least}) and most ({self.most}); found {self.mean:g}")


def _check_length(_instance: Any, _attribute: Any, value: "int | Length") -> None:
    if isinstance(value, int) and not 1 <= value <= _MOST_TOKENS:
        raise ValueError(f"must be from 1 to {_MOST_TOKENS} tokens; found {value}")


def _check_path(_instance: Any, _attribute: Any, value: str | None) -> None:
    if value is not None and not value.startswith("/"):
        raise ValueError(f"must be an absolute path on the client's node; found {value!r}")


def check_free(taken: Mapping[str, str]) -> Any:
    """Return a validator for further members of a request's body: those that a parameter sets are refused."""

    def check(_instance: Any, _attribute: Any, value: Mapping[str, Scalar]) -> None:
        for name in value:
            if name in taken:
                raise ValueError(f"{name!r} is not set here: {taken[name]}")

    return check


@frozen
class LlmParameters:
    """What a recipe says about prompts and answers, whatever the server."""

    model: str | None = field(default=None, validator=validators.optional(validators.min_len(1)))
    """Name of the model as the server has it. None: the first that it lists."""
    stream: bool = True
    """Ask for the answer token by token. Without it an answer has an end and no first token: no ttft, no gaps."""
    input_tokens: int | Length = field(default=128, validator=_check_length)
    """Length of a made prompt, the server's template around it included. With `prompts`: unused."""
    output_tokens: int | Length = field(default=128, validator=_check_length)
    """Tokens asked for; of a file of prompts, where it says none."""
    prompts: str | None = field(default=None, validator=_check_path)
    """File on the client's node: JSON lines with `prompt` or `messages`, or a list in the format of ShareGPT. None: prompts
    are made of words from the seed."""
    shared_prefix: Share = field(default=Share(0.0), validator=[validators.ge(Share(0)), validators.le(Share(1))])
    """Share of each made prompt that all have in common, at its beginning."""
    salt: bool = True
    """Put some words that no other prompt has behind what they share, so that no prefix cache is hit by accident."""
    tokens_per_word: float | None = field(
        default=None, validator=validators.optional([validators.gt(0.0), validators.le(100.0)])
    )
    """Tokens that the server makes of a word of a made prompt. None: it is asked before the first point."""
    turns: int = field(default=1, validator=[validators.ge(1), validators.le(_MOST_TURNS)])
    """Above 1: conversations of so many turns, each sent with all that was said before; closed loop only, one conversation a
    connection at a time."""
    temperature: float = field(default=0.0, validator=[validators.ge(0.0), validators.le(100.0)])
    """0: the most likely token each time."""
    seed: int | None = field(default=None, validator=validators.optional([validators.ge(0), validators.lt(1 << 31)]))
    """Of the server's sampling. None: not sent. That of prompts and arrivals is `load.seed`."""
    ca_file: str | None = field(default=None, validator=_check_path)
    """File on the client's node with the certificates to trust for an `https` url. None: those of the node."""
    truth: bool = False
    """Ask the truth server for its stamps, and report what this client adds to them; other servers refuse or ignore it."""


class LlmLoadClient(Client):
    """What the clients on the load core have in common."""

    default_timeout_s = TIMEOUT_S
    default_connections = CONNECTIONS
    slos = SLOS

    def get_benchmark_commands(self, load: Load, parameters: LlmParameters) -> Sequence[Command]:
        """Return nothing: the load core makes the requests.

        Raises:
            RecipeError: turns in open loop.
        """
        if parameters.turns > 1 and load.process != "closed":
            raise RecipeError(
                f"clients.{self.name}.parameters.turns: {parameters.turns} turns need load.process: closed, where a turn "
                f"follows the answer to the one before; found {load.process}",
                "write process: closed with a concurrency, or turns: 1",
            )
        return ()
