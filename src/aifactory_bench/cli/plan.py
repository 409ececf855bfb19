"""`plan`: what a recipe would do."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .messages import plain
from .options import orchestrator, place_options, plan_of, set_option
from .tables import table

if TYPE_CHECKING:
    from ..factory.preflight import Cost, Preflight
    from ..plan import Plan


@click.command()
@click.argument("recipe")
@place_options
@set_option
def command(recipe: str, site: str, runs_dir: Path | None, plugins: tuple[Path, ...], overrides: tuple[str, ...]) -> int:
    """Show what a recipe would do, in its order.

    On a Slurm site also what it would take there, if every job used its whole walltime: node-hours, GPU-hours, what the site
    bills, what runs at the same time, and the paths that must be there.
    """
    bench = orchestrator(site, runs_dir, plugins)
    made = plan_of(bench, bench.load_recipe(recipe, overrides))
    click.echo(_text(made))
    if bench.site.submitter != "local":
        from ..factory.preflight import preflight

        click.echo("\n" + preflight_text(preflight(made, bench.site)))
    return 0


def preflight_text(found: "Preflight") -> str:
    """Return what a plan takes of its site."""
    from ..units import format_duration

    jobs = [
        (
            job.name,
            str(job.nodes),
            str(job.gpus),
            format_duration(round(job.time_s)),
            "?" if job.limit_s is None else f"{format_duration(job.limit_s)} {job.limit}",
            *_cost(job.cost),
        )
        for job in found.jobs
    ]
    points = [(point.id, point.client, *_cost(point.cost)) for point in found.points]
    hours = ("NODE-HOURS", "GPU-HOURS", "BILLED")
    demand = found.demand
    total = dict(zip(hours, _cost(found.total), strict=True))
    lines = [
        f"at most, on {found.site}: {total['NODE-HOURS']} node-hours, {total['GPU-HOURS']} GPU-hours, billed {total['BILLED']}",
        f"at the same time: {demand.jobs} jobs, {demand.nodes} nodes, {demand.gpus} GPUs",
        "",
        table(("JOB", "NODES", "GPUS", "WALLTIME", "LIMIT", *hours), jobs),
        "",
        table(("POINT", "CLIENT", *hours), points),
        "",
        table(("PATH", "ON", "FOR"), [(need.path, need.where, ", ".join(need.jobs) or "runs") for need in found.paths]),
        *(f"note: {text}" for text in found.notes),
    ]
    return plain("\n".join(lines))


def _cost(cost: "Cost") -> tuple[str, str, str]:
    billed = " + ".join(f"{amount:.2f} {unit.replace('_', '-')}s" for unit, amount in cost.units.items())
    return f"{cost.node_hours:.2f}", f"{cost.gpu_hours:.2f}", billed or "?"


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
