"""Ctrl-C and TERM where no run can act on them yet, or any more."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from aifactory_bench.cli import group, main
from aifactory_bench.cli.signals import NUMBERS, Kept

Console = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    former = {number: signal.getsignal(number) for number in NUMBERS}
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


@pytest.fixture
def pressed_early(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let a signal come while the program still imports its command."""
    find = group.CommandGroup.get_command

    def arrange(number: int) -> None:
        def get_command(self: Any, context: click.Context, name: str) -> click.Command | None:
            os.kill(os.getpid(), number)
            return find(self, context, name)

        monkeypatch.setattr(group.CommandGroup, "get_command", get_command)

    return arrange


@pytest.mark.parametrize("number", NUMBERS)
def test_interrupt_before_a_run_begins_is_told_for_each_recipe(
    number: int, pressed_early: Callable[[int], None], inside: Console, quick_recipe: Path, tmp_path: Path
) -> None:
    """With `--json` every recipe has its object, and nothing is begun."""
    pressed_early(number)
    done = inside("run", "quick.yaml", "quick.yaml", "--json")
    assert done.returncode == 130
    objects = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(one["run_id"], one["status"], one["error"]["code"]) for one in objects] == [
        (None, "interrupted", "interrupted")
    ] * 2
    assert not (tmp_path / "runs").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_interrupt_before_a_run_begins_is_told_as_text(
    pressed_early: Callable[[int], None], inside: Console, quick_recipe: Path
) -> None:
    """Without `--json` too, on standard error."""
    pressed_early(signal.SIGINT)
    done = inside("run", "quick.yaml")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "quick.yaml: not begun\n")


def test_interrupt_of_another_command_ends_it(
    pressed_early: Callable[[int], None], inside: Console, quick_recipe: Path
) -> None:
    """What came while it was imported has its usual meaning as soon as that is over."""
    pressed_early(signal.SIGINT)
    done = inside("validate", "quick.yaml")
    assert (done.returncode, done.stdout) == (130, "")


def test_interrupt_within_an_import_is_no_traceback() -> None:
    """The very first import of `main` may be broken into."""
    code = (
        "import os, signal, sys\n"
        "from aifactory_bench.cli import main\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'aifactory_bench.cli.signals': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "sys.exit(main(['run', 'nosuch.yaml']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_signals_are_given_back() -> None:
    """A program that calls `main` keeps its own handlers."""
    handler = signal.signal(signal.SIGTERM, lambda *_: None), signal.getsignal(signal.SIGTERM)
    assert main(["--help"]) == 0
    assert signal.getsignal(signal.SIGTERM) is handler[1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("number", NUMBERS)
def test_signal_after_the_end_does_not_change_the_exit_code(number: int) -> None:
    """Once the result is shown, the process only has to end."""
    with Kept(for_good=True):
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) is signal.SIG_IGN
