"""What the truth server has understood of a request, and the steps of its answer: what is sent after which delay."""

import random
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from .truth_options import MOST_TOKENS, Choices, Options, checked_text

HEAD, ROLE, EMPTY, REASONING, CONTENT, TAIL, ERROR, ABORT = "HRETCFXA"
"""Kinds of steps, as letters of the log: head alone, role, empty, tokens of reasoning, tokens, the end, error, given up."""
COMPLETIONS, CHAT, GENERATE, OLLAMA_CHAT = "completions", "chat", "generate", "ollama_chat"
DEFAULT_TOKENS = 16
_NOTHING_TO_DRAW = random.Random(0)
"""For requests without anything random: to make a source takes as long as all the rest."""


class Step(NamedTuple):
    """One thing to send."""

    gap_ns: int
    """From when the step before was due; of the first one, from the start."""
    kind: str
    first: int = 0
    """Index of the first token in it."""
    tokens: int = 0
    last: bool = False
    """It holds the last token."""


@dataclass(frozen=True)
class Ask:
    """A request for tokens."""

    dialect: str
    model: str
    stream: bool
    prompt_tokens: int
    output_tokens: int
    reasoning: int
    """So many of the output tokens come first, as reasoning."""
    usage: str
    """`own`, `last`, `every` or `none`."""
    finish_reason: str
    options: Options
    random_of: "random.Random"
    """Source of this request's draws."""
    faulty: bool
    """Whether the options' errors and aborts are for this request."""
    load_ns: int = 0
    """Ollama: time to bring the model into memory before all else."""


def ask_of(dialect: str, body: "Dict[str, Any]", choices: Choices, seed: "Tuple[int, int]") -> Ask:
    """Return what a request asks for; seed: the server's and the request's number.

    Raises:
        ValueError: the request cannot be understood.
    """
    options = choices.of(body.get("afb", {}), truth=body.get("afb_truth") is True)
    source = _source(options, seed)
    faulty = options.fault_share >= 1 or (options.fault_share > 0 and source.random() < options.fault_share)
    ollama = dialect in {GENERATE, OLLAMA_CHAT}
    allowed = _allowed(body, ollama)
    tokens = options.tokens if options.tokens is not None else allowed if allowed is not None else DEFAULT_TOKENS
    if allowed is not None:
        tokens = min(tokens, allowed)
    model = body.get("model", "")
    if not isinstance(model, str):
        raise ValueError(f"model: must be a text, found {model!r}")
    checked_text(model)
    return Ask(
        dialect=dialect,
        model=model,
        stream=_flag(body, "stream", default=ollama),
        prompt_tokens=_prompt_tokens(dialect, body) if options.prompt_tokens is None else options.prompt_tokens,
        output_tokens=tokens,
        # There is no field for it in answers of /v1/completions.
        reasoning=0 if dialect == COMPLETIONS else min(options.reasoning, tokens),
        usage=_usage(body, options.usage, ollama),
        finish_reason="stop" if allowed is None or tokens < allowed else "length",
        options=options,
        random_of=source,
        faulty=faulty,
    )


def steps(ask: Ask) -> "Iterator[Step]":
    """Yield what a streamed answer consists of, in order."""
    options, source = ask.options, ask.random_of
    chat = ask.dialect == CHAT
    error_after = options.error_after if ask.faulty else None
    abort_after = options.abort_after if ask.faulty else None
    left_ns = options.ttft.draw_ns(source) + ask.load_ns
    if chat and options.role == "at_once":
        yield Step(0, ROLE)
    elif options.header == "at_once":
        yield Step(0, HEAD)
    for number in range(options.empty_before, 0, -1):
        part_ns = left_ns // (number + 1)
        left_ns -= part_ns
        yield Step(part_ns, EMPTY)
    if chat and options.role == "before_first":
        yield Step(left_ns, ROLE)
        left_ns = 0
    stalls = sorted(options.stall, reverse=True)
    sizes, chunk, sent, total = options.tokens_per_chunk, 0, 0, ask.output_tokens
    while True:
        while stalls and stalls[-1][0] <= sent:
            left_ns += stalls.pop()[1]
        if chunk in (error_after, abort_after):
            yield Step(left_ns, ABORT if chunk == abort_after else ERROR)
            return
        if sent >= total:
            break
        end = ask.reasoning if sent < ask.reasoning else total
        tokens = min(sizes[chunk % len(sizes)], end - sent)
        last = sent + tokens >= total
        yield Step(left_ns, REASONING if sent < ask.reasoning else CONTENT, sent, tokens, last)
        sent += tokens
        chunk += 1
        if last:
            left_ns = 0
            continue
        left_ns = options.gap.draw_ns(source)
        if options.empty_every and chunk % options.empty_every == 0:
            yield Step(left_ns // 2, EMPTY)
            left_ns -= left_ns // 2
    yield Step(left_ns if total == 0 else 0, TAIL)


def _source(options: Options, seed: "Tuple[int, int]") -> "random.Random":
    if options.draws():
        return random.Random(options.seed if options.seed is not None else (seed[0] << 48) + seed[1])
    return _NOTHING_TO_DRAW


def _allowed(body: "Dict[str, Any]", ollama: bool) -> "Optional[int]":
    """Return how many tokens the request allows; None: it does not say."""
    place: "Dict[str, Any]" = body
    names = ["max_completion_tokens", "max_tokens"]
    if ollama:
        place, names = _object(body, "options"), ["num_predict"]
    for name in names:
        value = place.get(name)
        if value is None or (ollama and value in (-1, -2)):
            continue
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST_TOKENS:
            raise ValueError(f"{name}: must be a whole number from 0 to {MOST_TOKENS}, found {str(value)[:40]}")
        return value
    return None


def _usage(body: "Dict[str, Any]", option: str, ollama: bool) -> str:
    if option != "asked":
        return option
    if ollama:
        return "own"
    asked = _object(body, "stream_options")
    if not asked.get("include_usage"):
        return "none"
    return "every" if asked.get("continuous_usage_stats") else "own"


def _object(body: "Dict[str, Any]", name: str) -> "Dict[str, Any]":
    value = body.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{name}: must be an object, found {value!r}")
    return value


def _flag(body: "Dict[str, Any]", name: str, *, default: bool) -> bool:
    value = body.get(name, default)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise ValueError(f"{name}: must be true or false, found {value!r}")
    return value


def _prompt_tokens(dialect: str, body: "Dict[str, Any]") -> int:
    """Return the number of words of the prompt, or of numbers where it consists of token ids."""
    if dialect in {COMPLETIONS, GENERATE}:
        prompt = body.get("prompt", "")
        if isinstance(prompt, str):
            return len(prompt.split())
        if isinstance(prompt, list) and dialect == COMPLETIONS:
            if all(isinstance(item, int) for item in prompt):
                return len(prompt)
            if len(prompt) == 1:
                return _prompt_tokens(dialect, {"prompt": prompt[0]})
        raise ValueError("prompt: must be a text, or token ids; several prompts in one request are not answered")
    messages = body.get("messages")
    if not isinstance(messages, list):
        raise ValueError("messages: must be a list of messages")
    return sum(len(text.split()) for message in messages for text in _texts(message))


def _texts(message: Any) -> "List[str]":
    content = message.get("content") if isinstance(message, dict) else None
    if content is None and isinstance(message, dict):
        return []
    if isinstance(content, str):
        return [content]
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        return [part["text"] for part in content if isinstance(part.get("text"), str)]
    raise ValueError(f"messages: must be objects with a text as `content`, found {message!r}"[:300])
