"""Text of a wanted length without a tokenizer: short common words, each one token in the vocabularies in use as a rule."""

from hashlib import blake2b
from math import floor
from random import Random
from typing import Callable, List, Optional, Sequence

_TEXT = (
    "able about above across act add after again age air all almost along also always among and animal answer any are "
    "area arm army art ask away baby back bad ball bank base be bear beat bed been before behind best better big bird "
    "black blood blue board boat body book both bottom box boy bring brown build built burn bus but buy by call came "
    "can car care case catch cause cell center change city class clear close cold come common cook cool corn cost "
    "could count country cover cross cry cup current cut dance dark day dead deal dear death deep did die do dog done "
    "door down draw dream dress drink drive drop dry each ear early earth ease east eat edge effect egg eight else "
    "end energy enough enter equal even evening event ever every exact eye face fact fair fall family far farm fast "
    "fat father favor fear feed feel feet few field fight figure fill final find fine fire first fish fit five flat "
    "floor flow fly follow food foot for force form found four free fresh friend from front fruit full fun game "
    "garden gas gave general get girl give glad glass go gold gone good got grand grass gray great green grew ground "
    "group grow guess gun had hair half hand happy hard has hat have he head hear heart heat heavy held help her here "
    "high hill him his hit hold hole home hope horse hot hour house how huge human ice idea if in inch iron"
)
WORDS = tuple(_TEXT.split())
"""256 of them: a random byte is a random word."""
PART_WORDS = 64
"""Of a prompt that is counted, see `measured_ratio`."""
SALT_WORDS = 8
"""64 bits: among a thousand million prompts two with equal salts are not to be expected."""


def random_words(random: Random, count: int) -> "List[str]":
    """Return so many random words."""
    words = WORDS
    return [words[byte] for byte in random.getrandbits(8 * count).to_bytes(count, "little")] if count else []


def salt_words(*parts: object) -> "List[str]":
    """Return the words that stand for these values: equal for equal ones, others for others, in every process."""
    digest = blake2b("/".join(map(str, parts)).encode(), digest_size=SALT_WORDS).digest()
    return [WORDS[byte] for byte in digest]


class Ratio:
    """How many tokens a server makes of words: `tokens_per_word` for each, and `overhead` for what it puts around them."""

    def __init__(self, tokens_per_word: float = 1.0, overhead: float = 0.0) -> None:
        self.tokens_per_word = tokens_per_word
        self.overhead = overhead

    def words(self, tokens: int, chance: float = 0.5) -> int:
        """Return how many words make so many tokens; at least one.

        Args:
            tokens: Wanted.
            chance: From 0 to less than 1. Drawn evenly, it makes lengths right in the mean; 0.5 rounds each.
        """
        return max(1, floor((tokens - self.overhead) / self.tokens_per_word + chance))


def measured_ratio(once: Optional[int], count: "Callable[[Sequence[str]], Optional[int]]") -> Optional[Ratio]:
    """Return the ratio of these words, none left out, from what a server says of a few prompts.

    A part of the words is counted once and twice over, which tells the overhead. Where each of them is one token, as in the
    vocabularies in use, so are the others; where not, they are counted too.

    Args:
        once: Tokens of a prompt of the first `PART_WORDS` words; None: the server does not say.
        count: Asks the server how many tokens a prompt of other words has; None: it does not say.

    Returns:
        None: the server does not count, or its numbers make no sense.
    """
    parts = [WORDS[at : at + PART_WORDS] for at in range(0, len(WORDS), PART_WORDS)]
    twice = count((*parts[0], *parts[0])) if once else None
    if not once or not twice or twice <= once:
        return None
    overhead = 2 * once - twice
    if twice - once == PART_WORDS:
        return Ratio(1.0, overhead)
    tokens = once - overhead
    for part in parts[1:]:
        counted = count(part)
        if not counted:
            return None
        tokens += counted - overhead
    return Ratio(tokens / len(WORDS), overhead) if tokens > 0 else None
