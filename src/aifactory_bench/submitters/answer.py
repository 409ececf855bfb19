"""What the site's poll program prints, and what it is asked for."""

import re
from collections.abc import Iterable, Iterator
from typing import Optional

from attrs import field, frozen

# As in `programs/poll.sh`.
_PATH = re.compile(r"(?:jobs|endpoints|stop)(?:/[A-Za-z0-9_][A-Za-z0-9._-]{0,199}){1,5}")
_ANSWER = re.compile(r"[A-Za-z0-9]{1,32}")
_NUMBER = re.compile(r"[0-9]{1,18}")
_STATES = ("ok", "gone", "away", "held", "full")
_LONGEST_LINE = 4096
NOTHING = "0"
"""The answer that is seen before the first one."""


@frozen
class FilePart:
    """Bytes of one file, from an offset to its present end."""

    path: str
    """Relative to the run folder."""
    offset: int
    """0: the file as a whole."""
    data: bytes = field(repr=False)


@frozen
class RunPart:
    """What the site says of one run."""

    state: str
    """`ok`; `gone`: there is no such folder; `away`: nor the one above it; `held`: another controller drives it; `full`: it
    cannot be written."""
    text: str
    """With `held`: who."""
    files: "tuple[FilePart, ...]"
    removed: "tuple[str, ...]"
    """Paths of files that are no more."""
    answer: str
    """Names this answer; the next one tells what changed since."""
    more: bool
    """Not everything that changed is in it."""


@frozen
class Answer:
    """A whole answer of the poll program."""

    queue_code: Optional[int]
    """Exit code of squeue; None: it was not asked."""
    queue: str
    """What squeue printed, or its complaint."""
    runs: "tuple[RunPart, ...]"


class GarbledError(Exception):
    """The answer is not one; nothing of it is to be believed."""


def read_answer(data: bytes) -> Answer:
    """Return the answer.

    Raises:
        GarbledError: it is not one, e.g. because a part of it is missing.
    """
    reader = _Reader(data)
    code: Optional[int] = None
    queue = ""
    line = reader.line()
    if line.startswith("Q "):
        code, size = _numbers(line[2:])
        queue = reader.take(size).decode("utf-8", "replace")
        line = reader.line()
    runs = []
    while line:
        runs.append(_run(line, reader))
        line = reader.line()
    return Answer(code, queue, tuple(runs))


def _run(line: str, reader: "_Reader") -> RunPart:
    state, _, text = line.removeprefix("R ").partition(" ")
    if not line.startswith("R ") or state not in _STATES:
        raise GarbledError(f"not the begin of a run: {line[:80]!r}")
    files: list[FilePart] = []
    removed: list[str] = []
    while True:
        line = reader.line()
        kind, _, rest = line.partition(" ")
        match kind:
            case "F":
                numbers, _, path = rest.rpartition(" ")
                offset, size = _numbers(numbers)
                files.append(FilePart(_path(path), offset, reader.take(size)))
            case "D":
                removed.append(_path(rest))
            case "A":
                answer, _, more = rest.partition(" ")
                if not _ANSWER.fullmatch(answer) or more not in ("0", "1"):
                    raise GarbledError(f"not the end of a run: {line[:80]!r}")
                return RunPart(state, text, tuple(files), tuple(removed), answer, more == "1")
            case _:
                raise GarbledError(f"not the begin of a file: {line[:80]!r}")


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def line(self) -> str:
        """Return the next line, empty at the end."""
        end = self._data.find(b"\n", self._at, self._at + _LONGEST_LINE)
        if end < 0:
            if self._at != len(self._data):
                raise GarbledError("a line without an end")
            return ""
        line = self._data[self._at : end].decode("utf-8", "replace")
        self._at = end + 1
        if not line:
            raise GarbledError("an empty line")
        return line

    def take(self, size: int) -> bytes:
        """Return the next bytes."""
        if size > len(self._data) - self._at:
            raise GarbledError("it ends within a file")
        self._at += size
        return self._data[self._at - size : self._at]


def _path(text: str) -> str:
    if not _PATH.fullmatch(text):
        raise GarbledError(f"not the path of a run's file: {text[:80]!r}")
    return text


def _numbers(text: str) -> "tuple[int, int]":
    first, _, second = text.partition(" ")
    if not _NUMBER.fullmatch(first) or not _NUMBER.fullmatch(second):
        raise GarbledError(f"not two numbers: {text[:80]!r}")
    return int(first), int(second)


def request_lines(
    *,
    run_folder: str,
    holder: str,
    dead: str,
    expiry_s: float,
    seen: "tuple[str, str]",
    lease: str,
    open_tokens: "Iterable[str]",
) -> Iterator[str]:
    """Yield the lines that ask for one run.

    Args:
        run_folder: On the site.
        holder: Who drives it; empty: only looks.
        dead: A holder that is known to live no more.
        expiry_s: After so long without life a holder drives no more.
        seen: Name of the copy, and of the last answer that it holds.
        lease: What to write into the lease; empty: nothing.
        open_tokens: Jobs whose files are wanted.
    """
    yield f"run {run_folder}"
    yield f"expiry {expiry_s:.0f}"
    if holder:
        yield f"me {holder}"
    if dead:
        yield f"dead {dead}"
    yield f"seen {seen[0]} {seen[1]}"
    if lease:
        yield f"lease {lease}"
    for token in open_tokens:
        yield f"open {token}"
    yield "end"
