"""Errors as a user reads them, and text from elsewhere made harmless."""

import errno
import os
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifactory_bench import errors
from aifactory_bench.cli import entry, group, main
from aifactory_bench.cli.exits import worst
from aifactory_bench.cli.messages import explain, plain

CLASSES = [
    value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.AifactoryBenchError)
]


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Make `status` raise something."""

    def use(error: BaseException) -> None:
        @click.command()
        def command() -> None:
            raise error

        monkeypatch.setattr(group.CommandGroup, "get_command", lambda *_: command)

    return use


@pytest.mark.parametrize("error", CLASSES, ids=lambda cls: cls.__name__)
def test_error_is_text_hint_and_exit_code(
    error: type[errors.AifactoryBenchError], raising: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every error of ours is told on standard error, with what to do, and never as a traceback."""
    raising(error("the thing is broken", "mend it"))
    assert main(["status"]) == error.exit_code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "aifactory-bench: the thing is broken\n  hint: mend it\n"


def test_error_without_hint_is_one_line(raising: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """No hint, no line for it."""
    raising(errors.RunError("no such run"))
    main(["status"])
    assert capsys.readouterr().err == "aifactory-bench: no such run\n"


def test_operating_system_error_names_the_file(raising: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A full disk or a folder that cannot be read is no traceback either."""
    raising(OSError(errno.ENOSPC, "No space left on device", "/there/plan.json"))
    assert main(["status"]) == 1
    assert "/there/plan.json: No space left on device" in capsys.readouterr().err


def test_long_lines_are_folded_at_words_on_a_terminal(
    raising: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind their own margin; a path stays whole, and without a terminal a line stays a line."""
    path = "/there" * 20
    text = f"a.yaml:4:10: services.cache: kind is missing\na.yaml:5:11: {'word ' * 20}end\n{path}"
    raising(errors.RecipeError(text))
    main(["status"])
    assert capsys.readouterr().err == f"aifactory-bench: {text}\n"
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    main(["status"])
    assert capsys.readouterr().err.splitlines() == [
        "aifactory-bench: a.yaml:4:10: services.cache: kind is missing",
        f"a.yaml:5:11: {' '.join(['word'] * 13)}",
        f"  {' '.join(['word'] * 7)} end",
        path,
    ]


def test_interrupt_is_130(raising: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C outside of a run ends quietly."""
    raising(KeyboardInterrupt())
    assert main(["status"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_defect_keeps_its_traceback(raising: Any) -> None:
    """What is our own mistake is not dressed up as the user's."""
    raising(ZeroDivisionError("ours"))
    with pytest.raises(ZeroDivisionError):
        main(["status"])


def test_explain_keeps_our_errors() -> None:
    """An error of ours passes unchanged."""
    error = errors.RecipeError("x")
    assert explain(error) is error


@given(st.text())
def test_plain_text_cannot_drive_a_terminal(text: str) -> None:
    """No control character but tab and newline comes through, and no mark that reorders text."""
    shown = plain(text)
    assert all(unicodedata.category(char) != "Cc" or char in "\t\n" for char in shown)
    assert not set(shown) & {chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}


@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "S", "Zs"])))
def test_plain_text_stays_as_it_is(text: str) -> None:
    """What is harmless is not touched."""
    assert plain(text) == text


@pytest.mark.parametrize(
    ("codes", "code"),
    [([], 0), ([0, 0], 0), ([0, 3], 3), ([3, 4], 4), ([4, 1], 1), ([1, 2], 2), ([2, 130], 130), ([0, 77], 1), ([3, 0, 4], 4)],
)
def test_worst_goes_by_precedence(codes: list[int], code: int) -> None:
    """130, 2, 1, 4, 3, 0, in this order; what is unknown counts as 1."""
    assert worst(codes) == code


def test_exit_codes_are_told_in_help(capsys: pytest.CaptureFixture[str]) -> None:
    """The codes stand where a user looks for them."""
    assert entry.invoke(["--help"]) == 0
    assert "130 interrupted" in capsys.readouterr().out


def test_characters_that_the_terminal_lacks_are_replaced(tmp_path: Path) -> None:
    """An old encoding costs characters, not the result."""
    (tmp_path / "r\N{GREEK SMALL LETTER EPSILON}.yaml").write_text("x")
    command = [sys.executable, "-m", "aifactory_bench", "validate", "r\N{GREEK SMALL LETTER EPSILON}.yaml"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(command, capture_output=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
