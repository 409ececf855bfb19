"""The text of a recipe as plain values, each with its place.

YAML 1.2 with its core types only, read from the events of the parser: nothing is coerced, no tag builds an object,
and whatever a recipe has no use for (anchors, merge keys, dates, several documents) is refused by name.
"""

import math
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from .problems import Path, Place, Problem, Problems

LARGEST_BYTES = 256 << 10
"""Of a recipe; the parser takes about 20 µs a value, so that a larger file would look like a hang."""
_DROPPED = "\x00"
"""Stands for a key that cannot be kept."""
_DEEPEST = 20
_LONGEST_NUMBER = 100
_BIDIRECTIONAL = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL_HEX = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


class Document:
    """Values with their places.

    Attributes:
        data: the whole, plain: dict, list, str, int, float, bool, None.
        keys: path -> where its key stands.
        values: path -> where its value stands.
    """

    def __init__(self, origin: Place) -> None:
        self.data: Any = None
        self.keys: dict[Path, Place] = {}
        self.values: dict[Path, Place] = {(): origin}

    def put(self, path: Path, value: Any, place: Place) -> None:
        """Set a value, making the mappings on the way; a value on the way that is no mapping is left, and nothing is set."""
        self.remove(path)
        holder = self.data
        for length, key in enumerate(path[:-1], 1):
            if not isinstance(holder, dict):
                return
            if key not in holder:
                holder[key] = {}
                self.keys[path[:length]] = self.values[path[:length]] = place
            holder = holder[key]
        if isinstance(holder, dict):
            holder[path[-1]] = value
            self.keys[path] = self.values[path] = place

    def remove(self, path: Path) -> None:
        """Take a value and its places out; one that is not there is no error."""
        holder = self.get(path[:-1])
        if isinstance(holder, dict) and path[-1] in holder:
            del holder[path[-1]]
        for places in (self.keys, self.values):
            for written in [written for written in places if written[: len(path)] == path]:
                del places[written]

    def move(self, path: Path, to: Path) -> None:
        """Move a value with its places, within mappings that are there."""
        value, old, new = self.get(path), len(path), to
        keys = {(*new, *at[old:]): place for at, place in self.keys.items() if at[:old] == path}
        values = {(*new, *at[old:]): place for at, place in self.values.items() if at[:old] == path}
        self.remove(path)
        self.put(to, value, values.get(to, self.values[()]))
        self.keys.update(keys)
        self.values.update(values)

    def get(self, path: Path) -> Any:
        """Return the value of a path of keys, or None."""
        value = self.data
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def graft(self, path: Path, other: "Document", place: Place) -> None:
        """Set a value that another document holds; all of it is placed at one place."""
        self.put(path, other.data, place)
        for inner in other.values:
            self.keys[(*path, *inner)] = self.values[(*path, *inner)] = place


def parse(text: str, place: Place, problems: Problems) -> Document | None:
    """Return the document of a text, or None when it is no YAML; what is wrong is added to the problems.

    Args:
        text: YAML.
        place: of the whole; lines and columns count on from it where it has a line.
        problems: gets what is wrong.
    """
    document = Document(place)
    problems.keys, problems.values = document.keys, document.values
    try:
        return _Builder(document, place, problems).build(YAML(typ="safe", pure=True).parse(text))
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - (text.rfind("\n", 0, error.position) + 1) + 1
        document.values[()] = _at(place, line, column)
        problems.add((), f"the character U+{ord(text[error.position]):04X} is not allowed in YAML text")
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        if mark is not None:
            document.values[()] = _at(place, mark.line + 1, mark.column + 1)
        problems.add((), _syntax_text(text, error, mark.line if mark is not None else 0))
    except YAMLError as error:
        problems.add((), f"not YAML: {' '.join(str(error).split())[:200]}")
    except (ValueError, TypeError, LookupError, AttributeError, AssertionError, RecursionError):
        # The parser itself stumbles on some broken texts; for a user that is one thing: not YAML.
        problems.add((), "not YAML")
    return None


def _syntax_text(text: str, error: MarkedYAMLError, line: int) -> str:
    lines = text.splitlines()
    if line < len(lines) and "\t" in lines[line][: len(lines[line]) - len(lines[line].lstrip())]:
        return "not YAML: a tab in the indentation; YAML is indented with blanks"
    said = " ".join(part for part in (error.context, error.problem) if part)
    return f"not YAML: {' '.join(said.split())[:200]}"


def _at(place: Place, line: int, column: int) -> Place:
    return Place(place.later, place.origin, line, column) if place.line else place


class _Builder:
    """Turns events into values; no recursion, so that depth is a problem of the recipe and not of the stack."""

    def __init__(self, document: Document, place: Place, problems: Problems) -> None:
        self.document = document
        self.place = place
        self.problems = problems
        self.holders: list[Any] = []
        self.path: list[str | int] = []
        self.key: str | None = None
        """Of the mapping at hand: the key that waits for its value."""
        self.documents = 0

    def build(self, events: Iterator[Event]) -> Document | None:
        for event in events:
            if isinstance(event, DocumentStartEvent):
                self._begin(event)
                if self.documents > 1:
                    return self.document
            elif isinstance(event, (MappingEndEvent, SequenceEndEvent)):
                self.holders.pop()
                if self.path:
                    self.path.pop()
            elif isinstance(event, (ScalarEvent, AliasEvent, MappingStartEvent, SequenceStartEvent)):
                self._node(event)
                if self.key == _DROPPED and not isinstance(event, (ScalarEvent, AliasEvent)):
                    return self.document  # a whole collection as a key: what follows cannot be told apart
                if len(self.holders) > _DEEPEST:
                    self.problems.add(tuple(self.path), f"nested more than {_DEEPEST} deep")
                    return None
        return self.document

    def _begin(self, event: DocumentStartEvent) -> None:
        self.documents += 1
        if self.documents > 1:
            self._problem(event, "a second YAML document begins here; a recipe is one")
        if event.version is not None and tuple(event.version) != (1, 2):
            self._problem(event, "a recipe is YAML 1.2; leave the %YAML line out")

    def _node(self, event: Any) -> None:
        here = _at(self.place, event.start_mark.line + 1, event.start_mark.column + 1)
        holder = self.holders[-1] if self.holders else None
        if isinstance(holder, dict) and self.key is None:
            self._take_key(event, here)
            return
        if isinstance(holder, list):
            inner: str | int = len(holder)
        else:
            inner = self.key if self.key is not None else ""
        path = (*self.path, inner) if self.holders else ()
        if isinstance(event, ScalarEvent) and not event.value and event.style is None:
            here = self.document.keys.get(path, here)  # Nothing is written: the parser's place is that of whatever comes next.
        self.document.values[path] = here
        value = self._value(event, path)
        if isinstance(holder, list):
            holder.append(value)
        elif isinstance(holder, dict):
            if inner != _DROPPED:
                holder[str(inner)] = value
            self.key = None
        else:
            self.document.data = value
        if isinstance(event, (MappingStartEvent, SequenceStartEvent)):
            if self.holders:
                self.path.append(inner)
            self.holders.append(value)

    def _take_key(self, event: Any, here: Place) -> None:
        """Keep a key for the value that follows; one that cannot be kept takes its value with it."""
        key = event.value if isinstance(event, ScalarEvent) else ""
        path = (*self.path, key)
        if not isinstance(event, ScalarEvent):
            text = "a key must be text"
        elif key == "<<" and event.style is None:
            text = "merge keys (<<) are not supported: write the keys out"
        elif event.anchor or event.tag:
            text = "anchors and tags are not supported"
        elif event.style is None and not isinstance(_plain(key), str):
            text = f"a key must be text; found {key[:40] or 'nothing'}"
        elif path in self.document.keys:
            text = f"duplicate key; it stands {_line(self.document.keys[path])} already"
        else:
            text = f"a key {found}" if (found := _character_text(key)) else ""
        if not text:
            self.key = key
            self.document.keys[path] = here
            return
        self.problems.found.append(Problem(here, path if key.isprintable() and key else tuple(self.path), text))
        self.key = _DROPPED

    def _value(self, event: Any, path: Path) -> Any:
        if isinstance(event, AliasEvent) or event.anchor:
            self.problems.add(path, "anchors (&) and aliases (*) are not supported: write the value out, or use the matrix")
        elif event.tag is not None:
            self.problems.add(path, "tags (!) are not supported")
        if isinstance(event, MappingStartEvent):
            return {}
        if isinstance(event, SequenceStartEvent):
            return []
        if not isinstance(event, ScalarEvent):
            return None
        if text := _character_text(event.value):
            self.problems.add(path, f"the value {text}")
        if event.style is not None:
            return event.value
        value = _plain(event.value)
        if isinstance(value, float) and not math.isfinite(value):
            self.problems.add(path, f"must be a finite number; found {event.value[:40]}")
            return 0.0
        return value

    def _problem(self, event: Event, text: str) -> None:
        here = _at(self.place, event.start_mark.line + 1, event.start_mark.column + 1)
        self.problems.found.append(Problem(here, tuple(self.path), text))


def _line(place: Place) -> str:
    return f"in line {place.line}" if place.line else "there"


def _plain(text: str) -> Any:
    """Return what an unquoted scalar is by the core schema of YAML 1.2."""
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if len(text) <= _LONGEST_NUMBER:
        if _INT.fullmatch(text):
            return int(text)
        if _OCTAL_HEX.fullmatch(text):
            return int(text, 0)
        if _FLOAT.fullmatch(text):
            return float(text)
    if _NOT_FINITE.fullmatch(text):
        return math.inf
    return text


def _character_text(text: str) -> str:
    """Return what is wrong with the characters of a string, or nothing."""
    if text.isprintable():
        return ""
    for position, character in enumerate(text, 1):
        if character in _BIDIRECTIONAL or unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}:
            return f"holds the control character U+{ord(character):04X} at position {position}; a text is one line"
    return ""
