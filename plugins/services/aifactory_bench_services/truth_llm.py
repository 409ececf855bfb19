"""The truth server as a service: an LLM endpoint that is made up, with delays that the recipe gives, for runs without GPU."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

from attrs import Attribute, asdict, field, frozen, validators

from aifactory_bench import (
    BIND,
    FOLDER,
    PORT,
    SECRET,
    Argument,
    BaseJob,
    Command,
    Joined,
    Placeholder,
    Service,
    Share,
    SizeBytes,
    hookimpl,
)
from aifactory_bench.node.truth_delays import delay_of, stall_of
from aifactory_bench.node.truth_options import status_of

LOG = "truth.jsonl"
_MOST_TOKENS = 1_000_000


def _understood(convert: Callable[[object], object]) -> Callable[[Any, "Attribute[Any]", Any], None]:
    """Return a validator for what the server has to understand."""

    def validate(instance: Any, attribute: "Attribute[Any]", value: Any) -> None:  # noqa: ARG001 - a validator's arguments
        for text in value if isinstance(value, tuple) else (value,):
            convert(text)

    return validate


_delay = _understood(delay_of)
_tokens = validators.optional([validators.ge(0), validators.le(_MOST_TOKENS)])


@frozen
class TruthLlmParameters:
    """What a recipe says about the truth server. A request may say otherwise, in its field `afb`."""

    ttft: str = field(default="50ms", validator=_delay)
    """From a request's arrival, or its slot, to the first token: `50ms`, `uniform:10ms:20ms`, `exponential:20ms`,
    `lognormal:20ms:0.5` (median and sigma of the logarithm)."""
    gap: str = field(default="10ms", validator=_delay)
    """Between chunks; written as `ttft` is."""
    tokens: int | None = field(default=None, validator=_tokens)
    """Output tokens, at most what a request allows; None: as many as it allows."""
    tokens_per_chunk: int = field(default=1, validator=[validators.ge(1), validators.le(10_000)])
    """Tokens that are sent together."""
    slots: int = field(default=0, validator=validators.ge(0))
    """Requests that are answered at a time, others wait; 0: any number."""
    seed: int = field(default=1, validator=validators.ge(0))
    """Of all that is drawn."""
    model: str = field(default="truth", validator=validators.min_len(1))
    """Name of the model."""
    prompt_tokens: int | None = field(default=None, validator=_tokens)
    """Prompt tokens to state; None: the words of the prompt."""
    cached_tokens: int | None = field(default=None, validator=_tokens)
    """Cached prompt tokens to state in the usage; None: none are stated."""
    reasoning: int = field(default=0, validator=[validators.ge(0), validators.le(_MOST_TOKENS)])
    """So many of the output tokens come first, as reasoning."""
    role: Literal["at_once", "before_first", "with_first", "none"] = "at_once"
    """Chats: the role comes in a chunk of its own at once, or right before the first token, or in its chunk, or never."""
    empty_before: int = field(default=0, validator=[validators.ge(0), validators.le(1000)])
    """Chunks without text before the first token."""
    empty_every: int = field(default=0, validator=[validators.ge(0), validators.le(_MOST_TOKENS)])
    """A chunk without text after every so many chunks; 0: never."""
    usage: Literal["asked", "own", "last", "every", "none"] = "asked"
    """Usage as the request asks for it, or in a chunk of its own, in the last token's chunk, in every chunk, nowhere."""
    stall: tuple[str, ...] = field(default=(), validator=_understood(stall_of))
    """`TOKENS:PAUSE`: after so many tokens of an answer a pause, such as `16:500ms`."""
    error_status: int = field(default=0, validator=_understood(status_of))
    """Answer with this status in place of tokens; 0: do not."""
    error_after: int | None = field(default=None, validator=_tokens)
    """After so many chunks an error inside the stream."""
    abort_after: int | None = field(default=None, validator=_tokens)
    """After so many chunks the connection is closed."""
    fault_share: Share = field(default=Share(1.0), validator=[validators.ge(Share(0.0)), validators.le(Share(1.0))])
    """Share of requests that meet these errors and aborts."""
    text: Literal["plain", "utf8"] = "plain"
    """Words of ASCII letters, or words that hold longer characters."""
    segment_bytes: SizeBytes = field(
        default=SizeBytes(0), validator=[validators.ge(SizeBytes(0)), validators.le(SizeBytes(_MOST_TOKENS))]
    )
    """What is sent is cut at random into pieces of at most this size; 0: it is not."""
    load: str = field(default="0ms", validator=_delay)
    """Ollama: what the first request for a model waits besides."""
    pull: str = field(default="0ms", validator=_delay)
    """Ollama: what pulling a model takes."""
    keep: int = field(default=20_000, validator=[validators.ge(1), validators.le(_MOST_TOKENS)])
    """So many of the newest requests are in the log `truth.jsonl`."""
    python: str = field(default="python3", validator=validators.min_len(1))
    """Interpreter of Python 3.9 or later, on the node or inside the image."""


_OPTIONS = {"seed": "--server-seed"}
"""Where an option of the program is not called as its parameter is."""
_SPECIAL = frozenset({"python", "stall"})


class TruthLlmService(Service):
    """An OpenAI and Ollama endpoint that answers with made-up words in known time, and records what it sent and when."""

    kind = "truth-llm"
    Parameters = TruthLlmParameters
    node_module = "aifactory_bench_services.truth_llm_node"
    default_image = "docker://python:3.12-slim"
    scheme = "http"
    stop_timeout_s: ClassVar[float] = 60.0
    """It writes its log at the end."""
    parameters: TruthLlmParameters

    def get_environment(self) -> "dict[str, Argument]":
        """Return the key that clients have to show."""
        return {"AFB_TRUTH_KEY": SECRET}

    def get_truth_options(self) -> "list[Argument]":
        """Return the options of the server that the parameters stand for; what is as by default is left out."""
        defaults = TruthLlmParameters()
        options: list[Argument] = []
        for name, value in asdict(self.parameters).items():
            if name in _SPECIAL or value == getattr(defaults, name):
                continue
            options += [_OPTIONS.get(name, f"--{name.replace('_', '-')}"), value]
        for stall in self.parameters.stall:
            options += ["--stall", stall]
        return options

    def get_container_command(self) -> Command:
        """Return the truth server of the node program."""
        return Command(
            [
                *(self.parameters.python, Placeholder("node"), "truth-server"),
                *("--host", BIND, "--port", PORT, "--log", Joined((FOLDER, f"/{LOG}"))),
                *self.get_truth_options(),
            ]
        )


@hookimpl
def register_jobs() -> Sequence[type[BaseJob]]:
    """Return the server."""
    return [TruthLlmService]
