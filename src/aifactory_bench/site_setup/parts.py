"""Programs that ask a site several things in one go, and their answers: a part for each."""

import re
from functools import cache
from importlib.resources import files

from attrs import frozen

_HEAD = re.compile(r"\x1e(\S+) (\d+)\n")


@frozen
class Part:
    """What one command of such a program said."""

    code: int
    """Exit code; 124: its time was up."""
    text: str
    """Both outputs, without blanks around."""

    @property
    def line(self) -> str:
        """The text as one line, for messages: its end, where it is long."""
        return " ".join("".join(letter if letter.isprintable() else " " for letter in self.text).split())[-300:]

    @property
    def lines(self) -> "list[str]":
        """Its lines that are not blank."""
        return [line.strip() for line in self.text.split("\n") if line.strip()]


@cache
def program(package: str, name: str) -> str:
    """Return the text of `<name>.sh` of a package, with what prints parts before it."""
    head, text = ((place, one) for place, one in ((__package__, "parts"), (package, name)))
    return "".join(files(place or "").joinpath(f"{one}.sh").read_text(encoding="ascii") for place, one in (head, text))


def read_parts(stdout: bytes) -> "dict[str, Part]":
    """Return the parts of an answer by their names; what stands before the first is none of it."""
    text = stdout.decode("utf-8", "replace")
    heads = list(_HEAD.finditer(text))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    return {head[1]: Part(int(head[2]), text[head.end() : end].strip()) for head, end in zip(heads, ends, strict=False)}
