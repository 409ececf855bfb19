"""Token texts of the truth server: distinct plain words, or words with characters of two to four bytes."""

from typing import List

_SYLLABLES = [consonant + vowel for consonant in "bdfghjklmnprstvz" for vowel in "aeiou"]
_BASE = len(_SYLLABLES)
_WIDE = "é", "ß", "日", "🙂"
KNOWN = _BASE**3
"""So many words are distinct; then they begin anew."""
_READY = 4096


def word(index: int, text: str = "plain") -> str:
    """Return the text of the token of that index: all but the first begin with a blank."""
    low, high = index % _BASE, index // _BASE
    name = _SYLLABLES[low] + _SYLLABLES[high % _BASE]
    if high >= _BASE:
        name += _SYLLABLES[high // _BASE % _BASE]
    if text == "utf8":
        name += _WIDE[index % 4]
    return f" {name}" if index else name


def _table(text: str) -> "List[str]":
    return [word(index, text) for index in range(_READY)]


_tables = {"plain": _table("plain"), "utf8": _table("utf8")}


def words(first: int, count: int, text: str) -> str:
    """Return the text of some tokens; it needs no escape in JSON."""
    table = _tables[text]
    if first + count > _READY:
        return "".join([word(index, text) for index in range(first, first + count)])
    if count == 1:
        return table[first]
    return "".join(table[first : first + count])
