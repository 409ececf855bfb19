"""The text of a recipe: plain values with places, and everything that YAML allows and a recipe does not."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifactory_bench.recipe.document import LARGEST_BYTES, Document, parse
from aifactory_bench.recipe.problems import Place, Problems


def read(text: str) -> tuple[Document | None, list[str]]:
    """Return a document and its problems as text."""
    problems = Problems()
    document = parse(text, Place(0, "f", 1, 1), problems)
    return document, [str(problem) for problem in problems.found]


def test_values_of_yaml_1_2() -> None:
    """Scalars are what the core schema of YAML 1.2 says, and text otherwise."""
    text = "[1, -2, 0x1f, 0o17, 010, 1.5, 1e3, true, False, null, ~, yes, off, 01:30:00, 1_000, 2020-01-01, 5s, '1', \"true\"]"
    document, problems = read(text)
    assert document is not None
    assert not problems
    expected: list[Any] = [1, -2, 31, 15, 10, 1.5, 1000.0, True, False, None, None]
    expected += ["yes", "off", "01:30:00", "1_000", "2020-01-01", "5s", "1", "true"]
    assert document.data == expected
    assert [type(value) for value in document.data] == [type(value) for value in expected]


def test_places() -> None:
    """Keys and values know where they stand, inside lists and flow mappings too."""
    document, _ = read("a:\n  b: [1, {c: 2}]\n")
    assert document is not None
    assert str(document.keys[("a", "b")]) == "f:2:3"
    assert str(document.values[("a", "b", 1, "c")]) == "f:2:14"
    assert str(document.keys[("a", "b", 1, "c")]) == "f:2:11"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3", "f:3:1: a: duplicate key; it stands in line 1 already"),
        ("a: &x 1", "f:1:4: a: anchors (&) and aliases (*) are not supported"),
        ("a: *x", "f:1:4: a: anchors (&) and aliases (*)"),
        ("a: {<<: {b: 1}}", "f:1:5: a.<<: merge keys (<<) are not supported"),
        ("a: !!int '1'", "f:1:4: a: tags (!) are not supported"),
        ("a: !!python/object:os.system x", "f:1:4: a: tags (!) are not supported"),
        ("a: !x [1]", "f:1:4: a: tags (!) are not supported"),
        ("!t a: 1", "f:1:1: a: anchors and tags are not supported"),
        ("1: a", "f:1:1: 1: a key must be text; found 1"),
        ("~: a", "f:1:1: ~: a key must be text; found ~"),
        ("? [a, b]\n: 1", "f:1:3: a key must be text"),
        ("a: .nan", "f:1:4: a: must be a finite number; found .nan"),
        ("a: 1e999", "f:1:4: a: must be a finite number; found 1e999"),
        ('a: "x\\ty"', "f:1:4: a: the value holds the control character U+0009 at position 2"),
        ('a: "\\x00"', "U+0000"),
        ('a: "\\e[2J"', "U+001B"),
        ('a: "\\ud800"', "U+D800"),
        ("a: '\u202e'", "U+202E"),
        ("a: |\n  x\n  y\n", "U+000A"),
        ('"a\\nb": 1', "f:1:1: a key holds the control character U+000A"),
        ("a: 1\n---\nb: 2", "f:2:1: a second YAML document begins here"),
        ("%YAML 1.1\n---\na: 1", "f:2:1: a recipe is YAML 1.2"),
        ("a:\n\t- b", "f:2:1: not YAML: a tab in the indentation"),
        ("a: [1", "f:1:6: not YAML: "),
        ("a: 'b", "not YAML: while scanning a quoted scalar"),
        ("a: @b", "f:1:4: not YAML: "),
        ("a: b: c", "not YAML: mapping values are not allowed"),
        ("a: 1\nb: \x07", "f:2:4: the character U+0007 is not allowed"),
        ("[" * 30, "nested more than 20 deep"),
        ("[" * 5000, "nested more than 20 deep"),
        ("{a: " * 5000, "nested more than 20 deep"),
    ],
)
def test_refused(text: str, said: str) -> None:
    """What a recipe has no use for is refused by name and place."""
    _, problems = read(text)
    assert any(said in problem for problem in problems), problems


def test_all_problems_of_a_text() -> None:
    """One problem does not hide the next."""
    _, problems = read("a: &x 1\nb: !t 2\nc: .inf\nc: 1\n2: 3\n")
    assert [problem.split(":")[1] for problem in problems] == ["1", "2", "3", "4", "5"]


def test_editing() -> None:
    """Values can be set, moved and taken out, with their places."""
    document, _ = read("a: {b: 1, c: [2]}")
    assert document is not None
    later = Place(1, "--set x")
    document.put(("x", "y", "z"), 5, later)
    document.move(("a", "c"), ("a", "d"))
    document.remove(("a", "b"))
    document.put(("a", "d", "e"), 1, later)
    assert document.data == {"a": {"d": [2]}, "x": {"y": {"z": 5}}}
    assert document.values[("x", "y")] == later
    assert str(document.values[("a", "d", 0)]) == "f:1:15"
    assert ("a", "c", 0) not in document.values
    assert document.get(("a", "d", "e")) is None


@given(st.text(st.characters(codec="utf-8"), max_size=80))
def test_any_text(text: str) -> None:
    """Any text is read or refused with a place; nothing else happens."""
    document, problems = read(text)
    assert document is not None or problems
    assert all(problem.startswith("f:") for problem in problems)


@given(st.text(st.sampled_from("ab:-[]{}&*!<>|'\"%@`#,?~ \n\t0.\\"), max_size=60))
def test_any_yaml_like_text(text: str) -> None:
    """Any mixture of what YAML gives a meaning is read or refused."""
    document, problems = read(text)
    assert document is not None or problems


def test_size_limit_is_worth_having() -> None:
    """The limit lets a matrix of many thousand values through."""
    assert len("[" + "10000/s, " * 4000 + "]") < LARGEST_BYTES
