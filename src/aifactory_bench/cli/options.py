"""Options that several commands share, and the orchestrator they make."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import UsageError
from .messages import note, plain

if TYPE_CHECKING:
    from ..orchestrator import AsyncBenchmarkOrchestrator
    from ..plan import Plan
    from ..recipe.model import Recipe

Function = TypeVar("Function", bound=Callable[..., object])


def _several(*options: "Callable[[Function], Function]") -> "Callable[[Function], Function]":
    def decorate(function: Function) -> Function:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def place_options(function: Function) -> Function:
    """Add `--site`, `--runs-dir` and `--plugin`."""
    return _several(
        click.option(
            "--site",
            default="local",
            show_default=True,
            metavar="NAME",
            help="Where jobs run: a site's name, or its profile's file.",
        ),
        click.option(
            "--runs-dir",
            type=click.Path(file_okay=False, path_type=Path),
            metavar="DIR",
            help="Folder of the run folders.  [default: $AIFACTORY_BENCH_RUNS, or ./runs]",
        ),
        click.option(
            "--plugin",
            "plugins",
            multiple=True,
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Load a plugin from a Python file; may be given several times.",
        ),
    )(function)


def set_option(function: Function) -> Function:
    """Add `--set path=value`."""
    return click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="PATH=VALUE",
        help="Override a value of the recipe, e.g. clients.load.load.rate=5000/s; may be given several times.",
    )(function)


def lease_option(function: Function) -> Function:
    """Add `--lease`."""
    return click.option(
        "--lease",
        metavar="DURATION",
        help="Jobs end themselves when nobody has cared for them for this long, e.g. 5s, 10m, or off.  [default: the recipe's]",
    )(function)


def orchestrator(site: str, runs_dir: Path | None, plugins: Sequence[Path] = ()) -> "AsyncBenchmarkOrchestrator":
    """Return the orchestrator that the options ask for; plugins that had to be left out are told on standard error."""
    from ..orchestrator import AsyncBenchmarkOrchestrator

    bench = AsyncBenchmarkOrchestrator(
        site, runs_dir=runs_dir, plugins=plugins, answer=_answer if _somebody_is_there() else None
    )
    for warning in bench.registry.warnings:
        note(f"warning: {warning}")
    return bench


def _somebody_is_there() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()  # it is None where it was closed before we began


def _answer(question: str, shown: bool) -> str:
    """Ask the person at the terminal what a login wants to know."""
    return str(click.prompt(plain(question).rstrip().rstrip(":"), hide_input=not shown, err=True))


def parse_lease(text: str | None) -> dict[str, Any]:
    """Return the keyword argument `lease_s`, or nothing where the recipe's value is to hold.

    Raises:
        UsageError: not a duration, or zero.
    """
    if text is None:
        return {}
    if text == "off":
        return {"lease_s": None}
    from ..units import parse_duration

    try:
        lease_s = parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--lease: {error}", "write a duration such as 30s or 10m, or off") from None
    if lease_s <= 0:
        raise UsageError(f"--lease: must be more than nothing, got {text!r}", "write a duration such as 30s or 10m, or off")
    return {"lease_s": lease_s}


def answer_of_terminal() -> "Callable[[str, bool], str] | None":
    """Return who answers what a login wants to know: the person at the terminal, or nobody."""
    return _answer if _somebody_is_there() else None


def plan_of(bench: "AsyncBenchmarkOrchestrator", recipe: "Recipe", **options: Any) -> "Plan":
    """Return the plan of a recipe; where services live in images, the site's cache is asked for them."""
    if bench.site.runtime != "host":
        import asyncio

        async def look_up() -> None:
            async with bench:
                await bench.resolve_images(recipe)

        asyncio.run(look_up())
    return bench.plan(recipe, **options)
