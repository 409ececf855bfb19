"""`plan`: what a recipe would do."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .messages import plain
from .options import orchestrator, place_options, set_option
from .tables import table

if TYPE_CHECKING:
    from ..plan import Plan


@click.command()
@click.argument("recipe")
@place_options
@set_option
def command(recipe: str, site: str, runs_dir: Path | None, plugins: tuple[Path, ...], overrides: tuple[str, ...]) -> int:
    """Show what a recipe would do, in its order."""
    bench = orchestrator(site, runs_dir, plugins)
    click.echo(_text(bench.plan(bench.load_recipe(recipe, overrides))))
    return 0


def _text(plan: "Plan") -> str:
    names = {job.token: job.name for job in plan.jobs}
    jobs = [
        (
            job.name,
            job.role,
            job.kind,
            str(job.ranks),
            f"{job.time_s:.0f} s",
            ", ".join(names.get(token, token) for token in (*job.services, *job.after)),
        )
        for job in plan.jobs
    ]
    points = [
        (
            point.id,
            point.client,
            point.process if point.offered_per_s is None else f"{point.process} {point.offered_per_s:g}/s",
            " ".join(f"{path}={value}" for path, value in point.parameters.items()),
        )
        for point in plan.points
    ]
    return plain(
        f"{plan.recipe_name} on {plan.site}: {len(plan.jobs)} jobs, {len(plan.points)} measurements\n\n"
        + table(("JOB", "ROLE", "KIND", "REPLICAS", "WALLTIME", "NEEDS"), jobs)
        + "\n\n"
        + table(("POINT", "CLIENT", "LOAD", "FACTORS"), points)
    )
