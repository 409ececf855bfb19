"""Prompts of a load: the same ones for the same seed in every process, others for every generator.

Made from a seed with a length in tokens, or taken from a file. In front of each stands a salt, a few words that no other
prompt has, so that a server's prefix cache is not measured by accident; what a wanted share of all prompts has in common
stands before the salt.
"""

from functools import lru_cache
from itertools import count, cycle, islice
from math import log, sqrt
from random import Random
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from aifactory_bench.node.contract import PrepareError
from aifactory_bench.node.load.trace import Row, trace_rows

from .llm_dataset_node import Entry, Message, entries_of
from .llm_words_node import Ratio, random_words, salt_words

BLOCK_TOKENS = 512
"""Of a trace: what one of its `hash_ids` stands for."""
_DRAWS = 100
_SHARED_BLOCK = 1024
"""Words of the common beginning that are made at once."""


class Prompt(NamedTuple):
    """One request's prompt."""

    text: str
    """All that is said, as one text."""
    messages: Tuple[Message, ...]
    """The same as messages of a chat."""
    input_tokens: Optional[int]
    """That the prompt was made for; None: not known."""
    output_tokens: Optional[int]
    """To be asked for; None: nobody says."""
    conversation: Optional[int] = None
    """Number of the conversation that goes on after the answer, see `Prompts.follow`; None: it does not."""
    turn: int = 0


Length = Union[int, Mapping[str, Any], None]
"""Tokens: a number, or a mapping: `least` and `most` (uniform), or `mean` and `deviation` (`shape` `normal`, the default, or
`lognormal`), which `least` (default 1) and `most` then bound."""


class Prompts:
    """The prompts of one generator.

    Args:
        parameters: Of the client. `input_tokens` and `output_tokens`, see `Length`; `shared_prefix` (0 to 1, share of a
            prompt that all have in common); `turns` of a conversation; `prompts`, the path of a file; `salt` (default true);
            `tokens_per_word` (default 1).
        load: As `Context.load`; of the process `trace`, lengths and blocks come from the trace.
        seed: Of the load, the same for all parts.
        part: Which generator this is.
        parts: How many there are.
        salt: Differs from run to run, so that a server which has seen these prompts does not know them again.

    Raises:
        PrepareError: a file is not there or not what it should be.
    """

    def __init__(
        self, parameters: Mapping[str, Any], load: Mapping[str, Any], seed: int, part: int, parts: int, salt: str = ""
    ) -> None:
        self.ratio = Ratio(float(parameters.get("tokens_per_word") or 1.0))
        self._key = f"{seed}/{salt}"
        self._part = part
        self._parts = parts
        self._numbers = count()
        self._salted = parameters.get("salt") is not False
        self._shared_share = float(parameters.get("shared_prefix") or 0)
        self._turns = int(parameters.get("turns") or 1)
        lengths = Random(f"lengths/{seed}/{part}/{parts}")
        self._words = Random(f"words/{self._key}/{part}/{parts}")
        self._input = _lengths(parameters.get("input_tokens"), lengths)
        self._output = _lengths(parameters.get("output_tokens"), lengths)
        self._shared: List[str] = []
        path = parameters.get("prompts")
        self._entries = entries_of(str(path)) if path else ()
        rows = _own_rows(load, part, parts)
        if not self._entries and parameters.get("input_tokens") is None and not _known(rows, load):
            raise PrepareError(
                "input_tokens: there is neither a length of prompts, nor a file of them, nor a trace with lengths"
            )
        self._rows: Iterator[Row] = cycle(rows)  # prompts are made ahead: more of them than there are rows
        self._going_on: Dict[int, Entry] = {}

    def fit(self, ratio: Ratio) -> None:
        """Make the prompts from now on for a server that makes so many tokens of words."""
        self.ratio = ratio

    def next(self) -> Prompt:
        """Return the prompt of the next request that begins something."""
        number = next(self._numbers)
        if self._entries:
            return self._from_file(number)
        row = next(self._rows, None)
        tokens = (row.input_length if row is not None else None) or self._input() or 1
        output = (row.output_length if row is not None else None) or self._output()
        if row is not None and row.hash_ids:
            text = self._text(tokens, self._blocks(row.hash_ids))
        else:
            salt = salt_words(self._key, self._part, number) if self._salted else []
            text = self._text(tokens, self._synthetic(salt, tokens))
        conversation = number if self._turns > 1 else None
        return Prompt(text, ({"role": "user", "content": text},), tokens, output, conversation)

    def follow(self, prompt: Prompt, answer: str) -> Optional[Prompt]:
        """Return the next turn of a conversation, with what was said so far and the server's own answer; None: it is over."""
        if prompt.conversation is None:
            return None
        turn = prompt.turn + 1
        known = self._going_on.get(prompt.conversation)
        last = turn + 1 >= (self._turns if known is None else min(self._turns, len(known.turns)))
        if known is not None:
            said: Sequence[Message] = known.turns[turn]
            output = known.output_tokens or self._output()
            if last:
                del self._going_on[prompt.conversation]
        else:
            own, output = self._input() or 1, self._output()
            text = self._text(own, self._plain())
            said = ({"role": "user", "content": text},)
        messages = (*prompt.messages, {"role": "assistant", "content": answer}, *said)
        conversation = None if last else prompt.conversation
        # How long it is the answer decides as well, and what the server puts around each turn.
        return Prompt(_as_text(messages), messages, None, output, conversation, turn)

    def _from_file(self, number: int) -> Prompt:
        entry = self._entries[(self._part + number * self._parts) % len(self._entries)]
        output = entry.output_tokens or self._output()
        messages, text = entry.turns[0], entry.text
        if self._salted:
            salt = " ".join(salt_words(self._key, self._part, number))
            messages = _salted(messages, salt)
            text = None if text is None else f"{salt} {text}"
        goes_on = min(self._turns, len(entry.turns)) > 1
        if goes_on:
            self._going_on[number] = entry
        return Prompt(_as_text(messages) if text is None else text, messages, None, output, number if goes_on else None)

    def _text(self, tokens: int, words: "Callable[[int], List[str]]") -> str:
        """Return so many tokens of text; words: returns the first so many words of it."""
        return " ".join(words(self.ratio.words(tokens, self._words.random())))

    def _synthetic(self, salt: "List[str]", tokens: int) -> "Callable[[int], List[str]]":
        """Return what makes a prompt: the common beginning, the salt, words of its own."""
        shared = self._shared_words(round(self._shared_share * self.ratio.words(tokens)))
        own = self._plain()

        def words(number: int) -> "List[str]":
            begin = [*shared, *salt][:number]
            return begin + own(number - len(begin))

        return words

    def _plain(self) -> "Callable[[int], List[str]]":
        """Return what makes words that nothing else has."""
        random = self._words
        made: List[str] = []

        def words(number: int) -> "List[str]":
            if number > len(made):
                made.extend(random_words(random, number - len(made)))
            return made[:number]

        return words

    def _shared_words(self, number: int) -> "List[str]":
        """Return the first so many words of what all generators' prompts begin with."""
        while len(self._shared) < number:
            random = Random(f"shared/{self._key}/{len(self._shared)}")
            self._shared.extend(random_words(random, _SHARED_BLOCK))
        return self._shared[:number]

    def _blocks(self, hash_ids: "Sequence[int]") -> "Callable[[int], List[str]]":
        """Return what makes the text of a trace's blocks: equal ids are equal text; what goes beyond them nobody else has."""
        size = self.ratio.words(BLOCK_TOKENS)
        own = self._plain()

        def words(number: int) -> "List[str]":
            blocks = islice(hash_ids, -(-number // size))
            common = [word for block in blocks for word in _block(self._key, block, size)]
            return (common + own(max(0, number - len(common))))[:number]

        return words


@lru_cache(maxsize=4096)
def _block(key: str, block: int, words: int) -> "Tuple[str, ...]":
    return tuple(random_words(Random(f"block/{key}/{block}"), words))


def _own_rows(load: Mapping[str, Any], part: int, parts: int) -> "Tuple[Row, ...]":
    """Return the rows of a trace whose arrivals this generator has."""
    if load.get("process") != "trace":
        return ()
    try:
        return trace_rows(str(load.get("trace")))[part::parts]
    except ValueError as error:
        raise PrepareError(str(error)) from None


def _known(rows: "Sequence[Row]", load: Mapping[str, Any]) -> bool:
    """Whether a trace tells the length of every prompt."""
    return load.get("process") == "trace" and all(row.input_length for row in rows)


def _lengths(length: Length, random: Random) -> "Callable[[], Optional[int]]":
    """Return what draws lengths."""
    if length is None or not isinstance(length, Mapping):
        fixed = None if length is None else int(length)
        return lambda: fixed
    least = int(length.get("least") or 1)
    most = None if length.get("most") is None else int(length["most"])
    mean = length.get("mean")
    if mean is None:
        if most is None or most < least:
            raise PrepareError(f"a length from {least} to {most} is none: give least and most, or mean and deviation")
        return lambda: random.randint(least, most)
    middle, deviation = float(mean), float(length.get("deviation") or 0)
    if middle <= 0 or (most is not None and most < least):
        raise PrepareError(f"a length with mean {middle:g} from {least} to {most} is none")
    lognormal = length.get("shape") == "lognormal"
    spread = log(1 + (deviation / middle) ** 2)
    center = log(middle) - spread / 2

    def bounded() -> int:
        """Return what lies within the bounds, drawn anew and not moved to them."""
        value = least
        for _ in range(_DRAWS):
            drawn = random.lognormvariate(center, sqrt(spread)) if lognormal else random.gauss(middle, deviation)
            value = round(drawn)
            if value >= least and (most is None or value <= most):
                return value
        return max(least, value if most is None else min(value, most))

    return bounded


def _salted(messages: "Sequence[Message]", salt: str) -> "Tuple[Message, ...]":
    """Return messages with a salt before what the user says first; a system message before it stays common to all."""
    at = next((number for number, message in enumerate(messages) if message["role"] == "user"), 0)
    content = messages[at]["content"]
    salted = [{"type": "text", "text": salt}, *content] if isinstance(content, list) else f"{salt} {content or ''}"
    return (*messages[:at], {**messages[at], "content": salted}, *messages[at + 1 :])


def _as_text(messages: "Sequence[Message]") -> str:
    """Return what is said as one text, for servers that have no chat."""
    return "\n\n".join(_content(message["content"]) for message in messages)


def _content(content: Any) -> str:
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content or "")
