"""The text that a `/metrics` page is made of (Prometheus text format 0.0.4, and OpenMetrics as far as it is the same)."""

import re
from typing import Dict, List, NamedTuple

_LINE = re.compile(
    r"(?P<name>[A-Za-z_:][A-Za-z0-9_:]*)"
    r'(?:\{(?P<labels>(?:[^"}]|"(?:[^"\\]|\\.)*")*)\})?'
    r"[ \t]+(?P<value>[^ \t{}]+)"
    r"(?:[ \t]+[-+0-9.eE]+)?[ \t]*(?:# .*)?"  # a time stamp, an exemplar
)
_LABEL = re.compile(r'[ \t]*([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*"((?:[^"\\]|\\.)*)"[ \t]*(?:,|$)')
_ESCAPED = re.compile(r"\\(.)")


class Sample(NamedTuple):
    """One line: a number with the labels that it carries."""

    name: str
    """With its suffix: `..._total`, `..._sum`, `..._count`, `..._bucket`."""
    labels: Dict[str, str]
    value: float


def parse(text: str) -> List[Sample]:
    """Return the samples of a page in its order; comments, types and time stamps are left out.

    Raises:
        ValueError: a line is none; the text shows it.
    """
    found = []
    for line in map(str.strip, text.split("\n")):
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"no line of metrics: {line[:200]!r}")
        found.append(Sample(match["name"], _labels(match["labels"] or "", line), _number(match["value"], line)))
    return found


def _labels(text: str, line: str) -> Dict[str, str]:
    labels, at = {}, 0
    while at < len(text):
        match = _LABEL.match(text, at)
        if match is None:
            raise ValueError(f"no labels of metrics: {line[:200]!r}")
        labels[match[1]] = _ESCAPED.sub(lambda found: "\n" if found[1] == "n" else found[1], match[2])
        at = match.end()
    return labels


def _number(text: str, line: str) -> float:
    try:
        return float(text)  # takes `+Inf` and `NaN` as they are written here
    except ValueError:
        raise ValueError(f"no number of metrics: {line[:200]!r}") from None
