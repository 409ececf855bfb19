"""Text of a wanted length without a tokenizer: short common words, each one token in the vocabularies in use as a rule."""

from hashlib import blake2b
from random import Random
from typing import List

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

    def words(self, tokens: int) -> int:
        """Return how many words make so many tokens; at least one."""
        return max(1, round((tokens - self.overhead) / self.tokens_per_word))


def measured_ratio(short_words: int, short_tokens: int, long_words: int, long_tokens: int) -> Ratio:
    """Return the ratio from what a server says of two prompts.

    Raises:
        ValueError: the longer prompt has not more tokens, or they are not two lengths.
    """
    if long_words <= short_words or long_tokens <= short_tokens:
        raise ValueError(
            f"{short_words} words have {short_tokens} tokens and {long_words} have {long_tokens}: no length follows from that"
        )
    slope = (long_tokens - short_tokens) / (long_words - short_words)
    return Ratio(slope, short_tokens - slope * short_words)
