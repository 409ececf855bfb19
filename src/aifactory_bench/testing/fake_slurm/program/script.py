"""Batch scripts, and the options on their `#SBATCH` lines."""

import sys
from collections.abc import Iterator
from typing import Optional

from .options import Answer


def read_script(wrapped: "Optional[str]", others: "list[str]") -> "tuple[bytes, str]":
    """Return the script and the name that its job has if nobody says otherwise.

    Raises:
        Answer: it is no script.
    """
    if wrapped is not None:
        return f"#!/bin/sh\n# This script was created by sbatch --wrap.\n\n{wrapped}\n".encode(errors="surrogateescape"), "wrap"
    if others:
        try:
            with open(others[0], "rb") as file:
                script, name = file.read(), others[0].rpartition("/")[2]
        except OSError:
            raise _wrong(f"Unable to open file {others[0]}") from None
    else:
        script, name = sys.stdin.buffer.read(), "sbatch"
    if not script:
        raise _wrong("Batch script is empty!")
    if not script.startswith(b"#!"):
        raise _wrong(
            "This does not look like a batch script.  The first",
            "line must start with #! followed by the path to an interpreter.",
            "For instance: #!/bin/sh",
        )
    if b"\r\n" in script:
        raise _wrong("Batch script contains DOS line breaks (\\r\\n)", "instead of expected UNIX line breaks (\\n).")
    return script, name


def directives(script: bytes, name: str) -> "Iterator[list[str]]":
    """Yield the options of each `#SBATCH` line above the first command.

    Raises:
        Answer: a line makes no sense.
    """
    for number, line in enumerate(script.decode(errors="surrogateescape").split("\n"), 1):
        if line.startswith("#SBATCH"):
            words = _words(line[len("#SBATCH") :].strip(), f"{name}: line {number}")
            if words and not words[0].startswith("-"):
                raise Answer("", f"sbatch: error: Invalid directive found in batch script: {words[0]}\n", 255)
            yield words
        elif line.strip() and not line.lstrip().startswith("#"):
            return


def _words(text: str, place: str) -> "list[str]":
    """Return the words of a line: quotes and backslashes as in a shell, nothing expanded, `#` begins a comment."""
    words: list[str] = []
    word: Optional[str] = None
    quote = ""
    characters = iter(text)
    for character in characters:
        if character == "\\" and quote != "'":
            word = (word or "") + next(characters, "")
        elif quote:
            quote, word = ("", word) if character == quote else (quote, (word or "") + character)
        elif character in "\"'":
            quote, word = character, word or ""
        elif character.isspace():
            words += [] if word is None else [word]
            word = None
        elif character == "#" and word is None:
            break
        else:
            word = (word or "") + character
    if quote:
        raise Answer("", f"sbatch: fatal: {place}: Unmatched `{quote}` in [{text}]\n", 1)
    return words + ([] if word is None else [word])


def _wrong(*lines: str) -> Answer:
    return Answer("", "".join(f"sbatch: error: {line}\n" for line in lines), 1)
