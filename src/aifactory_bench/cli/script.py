"""`script`: the batch scripts, exactly as they would be submitted."""

from pathlib import Path

import click

from ..errors import UsageError
from .options import lease_option, orchestrator, parse_lease, place_options, plan_of, set_option


@click.command()
@click.argument("recipe")
@place_options
@set_option
@lease_option
@click.option("--job", metavar="NAME", help="Only this job's script, and nothing else.")
def command(
    recipe: str,
    site: str,
    runs_dir: Path | None,
    plugins: tuple[Path, ...],
    overrides: tuple[str, ...],
    lease: str | None,
    job: str | None,
) -> int:
    """Print the batch scripts of a recipe.

    They are exactly what would be submitted, but for the run: it is called `preview`, and only `run` makes its folder.
    """
    lease_s = parse_lease(lease)
    bench = orchestrator(site, runs_dir, plugins)
    plan = plan_of(bench, bench.load_recipe(recipe, overrides), **lease_s)
    chosen = [planned for planned in plan.jobs if job is None or planned.name == job]
    if not chosen:
        names = ", ".join(dict.fromkeys(planned.name for planned in plan.jobs))
        raise UsageError(f"--job: {recipe} has no job {job!r}", f"its jobs: {names}")
    for planned in chosen:
        if len(chosen) > 1:
            click.echo(f"# ==== {planned.token}")
        click.echo(planned.script, nl=not planned.script.endswith("\n"))
    return 0
