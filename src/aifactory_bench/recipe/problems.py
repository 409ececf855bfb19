"""Everything that is wrong with a recipe, each with its place."""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import field, frozen

from ..errors import RecipeError

Path = tuple[str | int, ...]
"""From the top of the recipe: keys, and positions in lists."""

_LONGEST = 80
"""Characters of a value or a key that are shown."""
_PART = re.compile(r"([A-Za-z_][\w-]*)|\[([0-9]+)\]")
_BEGINS_WITH_PATH = re.compile(r"[a-z_]+(?:\.[A-Za-z_][\w-]*|\[[0-9]+\])+(?=: )")
SHOWN = 100
"""Problems that are listed; the rest is counted."""


@frozen(order=True)
class Place:
    """Where something was written."""

    later: int = field(default=0, repr=False)
    """0: in the file; 1: in an override."""
    origin: str = ""
    """Name of the file, or `--set PATH`."""
    line: int = 0
    """From 1; 0: no line, as in an override."""
    column: int = 0

    def __str__(self) -> str:
        return f"{self.origin}:{self.line}:{self.column}" if self.line else self.origin


@frozen
class Problem:
    """One thing that is wrong."""

    place: Place
    path: Path
    text: str
    """What was found, and what is allowed."""

    def __str__(self) -> str:
        path = path_text(self.path)
        if self.place.origin == f"--set {path}":
            path = ""
        return f"{self.place}: {path}: {self.text}" if path else f"{self.place}: {self.text}"


def with_places(text: str, places: Mapping[Path, Place]) -> str:
    """Return the text of an error with the place before each line that begins with a path of the recipe.

    Where something is missing, that is the place of what it is missing in.
    """
    return "\n".join(_with_place(line, places) for line in text.split("\n"))


def _with_place(line: str, places: Mapping[Path, Place]) -> str:
    found = _BEGINS_WITH_PATH.match(line)
    path = tuple(int(number) if number else name for name, number in _PART.findall(found[0])) if found else ()
    while path and path not in places:
        path = path[:-1]
    return f"{places[path]}: {line}" if path else line


def path_text(path: Path) -> str:
    """Return a path as it is written: `services.cache.resources.cpus`, `matrix.clients.load.load.rate[2]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{shown_key(part)}"
    return text.removeprefix(".")


def shown_key(key: str) -> str:
    """Return a key as it is, or quoted where it would garble the line."""
    return key if key.isprintable() and 0 < len(key) <= _LONGEST else shown(key)


def shown(value: Any) -> str:
    """Return a value as a recipe would have it, cut to a line."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def suggestion(word: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """Return `; did you mean X?` or nothing; likeness: from 0, for whatever there is, to 1, for the word itself."""
    near = difflib.get_close_matches(word[:80], list(known), n=1, cutoff=likeness)
    return f"; did you mean {near[0]}?" if near else ""


class Problems:
    """Collects problems, so that a user sees all of them at once.

    Args:
        keys: path -> where the key stands.
        values: path -> where the value stands.
        moved: path of a value that a matrix sets -> the path where it is written.
    """

    def __init__(
        self,
        keys: Mapping[Path, Place] | None = None,
        values: Mapping[Path, Place] | None = None,
        moved: Mapping[Path, Path] | None = None,
    ) -> None:
        self.keys = keys if keys is not None else {}
        self.values = values if values is not None else {}
        self.moved = moved or {}
        self.found: list[Problem] = []

    def __len__(self) -> int:
        return len(self.found)

    def add(self, path: Path, text: str, at: str = "value") -> None:
        """Record a problem at a path; what is not written anywhere is placed at what holds it.

        Args:
            path: where.
            text: what was found, and what is allowed.
            at: `value`, or `key` where the key itself is the problem.
        """
        path = self._written(path)
        self.found.append(Problem(self.place(path, at), path, text))

    def place(self, path: Path, at: str = "value") -> Place:
        """Return where a path is written, or what holds it."""
        if at == "key" and path in self.keys:
            return self.keys[path]
        for length in range(len(path), -1, -1):
            if path[:length] in self.values:
                return self.values[path[:length]]
        return Place()

    def _written(self, path: Path) -> Path:
        for length in range(len(path), 0, -1):
            if path[:length] in self.moved:
                return (*self.moved[path[:length]], *path[length:])
        if path not in self.values:
            for source, target in self.moved.items():
                if source[: len(path)] == path:
                    return target
        return path

    def with_moved(self, moved: Mapping[Path, Path]) -> "Problems":
        """Return an empty collection over the same places, with values that are written elsewhere."""
        return Problems(self.keys, self.values, moved)

    def take(self, problems: Iterable[Problem]) -> None:
        """Add problems that another collection found."""
        self.found.extend(problems)

    def raise_all(self) -> None:
        """Raise all that was found, in the order of the file.

        Raises:
            RecipeError: there are problems.
        """
        if not self.found:
            return
        lines = list(dict.fromkeys(str(problem) for problem in sorted(self.found, key=lambda problem: problem.place)))
        if len(lines) > SHOWN:
            lines = [*lines[:SHOWN], f"... and {len(lines) - SHOWN} more"]
        raise RecipeError("\n".join(lines))
