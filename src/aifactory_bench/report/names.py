"""Text for people from values that came from elsewhere: names made short, strange characters made harmless."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

# C0 and C1 controls, DEL, line and paragraph separators, and the marks that turn the direction of text.
_HARMFUL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


def clean(text: object, limit: int = 4000) -> str:
    """Return text that does nothing to a terminal: no escape sequences, no control characters but newlines, not too long."""
    whole = str(text)
    cut = whole[:limit] + (" ..." if len(whole) > limit else "")
    return _HARMFUL.sub("\N{REPLACEMENT CHARACTER}", _ESCAPE.sub("", cut.replace("\r\n", "\n").replace("\t", "    ")))


def clean_line(text: object, limit: int = 400) -> str:
    """Return the same on one line."""
    return " ".join(clean(text, limit).split())


def short_names(paths: Iterable[str]) -> Mapping[str, str]:
    """Return for each matrix path the shortest end of it that no other path ends with.

    `clients.load.load.rate` alone is `rate`; beside `clients.other.load.rate` it is `load.load.rate`.
    """
    parts = {path: path.split(".") for path in paths}
    names = {}
    for path, own in parts.items():
        others = [other for key, other in parts.items() if key != path]
        length = 1
        while length < len(own) and any(other[-length:] == own[-length:] for other in others):
            length += 1
        names[path] = ".".join(own[-length:])
    return names


def parameters_line(parameters: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Return `rate=5000/s persistence=none`, in the order of the matrix."""
    return " ".join(f"{clean_line(names.get(path, path))}={clean_line(value)}" for path, value in parameters.items())
