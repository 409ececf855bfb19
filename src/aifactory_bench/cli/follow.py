"""The way of `run` and `attach`: drive runs to their ends and show what each came to."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from attrs import frozen

from .drive import Driver, Outcome, Start
from .exits import worst
from .messages import plain, show_error
from .progress import Progress
from .terminal import terminal

if TYPE_CHECKING:
    from ..async_run import AsyncRun
    from ..events import Listener
    from ..results.model import Summary

    Begin = Callable[[Listener], Awaitable[AsyncRun]]


@frozen
class View:
    """How runs are shown."""

    as_json: bool = False
    """One JSON object a line on standard output, one a run, and nothing else there."""
    quiet: bool = False
    """No progress."""
    parallel: int = 1
    """Runs at a time."""
    site: str = "local"
    """Named in the object of a run that never began."""


def follow(starts: "Sequence[tuple[str, Begin]]", view: View) -> int:
    """Drive the runs to their ends and return the exit code that stands for all.

    Args:
        starts: a label, the recipe's path or the run's id, with what begins the run and is given its listener.
        view: how they are shown.
    """

    async def work() -> list[Outcome]:
        with Progress(quiet=view.quiet, several=view.parallel > 1) as progress:

            def finished(outcome: Outcome) -> None:
                with progress.aside():
                    show(outcome, view)

            ready = [Start(label, partial(begin, progress.listener(Path(label).stem))) for label, begin in starts]
            return await Driver(progress.say, view.parallel).drive(ready, finished)

    return worst([outcome.exit_code for outcome in asyncio.run(work())])


def show(outcome: Outcome, view: View) -> None:
    """Print what a run came to: its summary on standard output, an error on standard error."""
    if outcome.error is not None:
        show_error(outcome.error)
    if view.as_json:
        click.echo(json.dumps(_document(outcome, view.site), allow_nan=False))
    elif outcome.summary is not None:
        click.echo(_text(outcome.summary), nl=False)
    elif outcome.error is None:
        click.echo(plain(f"{outcome.label}: not begun"), err=True)


def _text(summary: "Summary") -> str:
    """Return what the summary looks like on this terminal; without one, plain text of 80 columns."""
    from ..report.text import render_summary

    console = terminal()
    with console.capture() as captured:
        console.print(render_summary(summary))
    return captured.get()


def _document(outcome: Outcome, site: str) -> "dict[str, object]":
    from ..report.document import summary_to_json
    from ..results.model import SCHEMA

    if outcome.summary is not None:
        return summary_to_json(outcome.summary)
    error = outcome.error
    return {
        "schema": SCHEMA,
        "run_id": None,
        "recipe": outcome.label,
        "site": site,
        "verdict": "invalid",
        "status": "interrupted" if error is None else "failed",
        "error": {"code": "interrupted", "text": "not begun", "hint": ""}
        if error is None
        else {"code": error.code, "text": error.text, "hint": error.hint},
        "points": [],
    }
