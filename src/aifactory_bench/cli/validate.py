"""`validate`: check recipes without running anything."""

from pathlib import Path

import click

from ..errors import AifactoryBenchError
from .exits import worst
from .messages import explain, note, plain, show_error
from .options import orchestrator, place_options, set_option


@click.command()
@click.argument("recipes", nargs=-1, required=True, metavar="RECIPE...")
@place_options
@set_option
def command(
    recipes: tuple[str, ...], site: str, runs_dir: Path | None, plugins: tuple[Path, ...], overrides: tuple[str, ...]
) -> int:
    """Check recipes without running them.

    Every problem is listed with its file, line and column.
    """
    bench = orchestrator(site, runs_dir, plugins)
    codes = []
    for path in recipes:
        try:
            recipe = bench.load_recipe(path, overrides)
            plan = bench.plan(recipe)
        except (AifactoryBenchError, OSError) as error:
            problem = explain(error)
            show_error(problem)
            codes.append(problem.exit_code)
            continue
        for line in recipe.notes:
            note(f"{path}: note: {line}")
        click.echo(plain(f"{path}: valid: {len(plan.jobs)} jobs, {len(plan.points)} measurements"))
    return worst(codes)
