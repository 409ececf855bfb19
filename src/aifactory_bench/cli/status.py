"""`status`: the runs, or the jobs of one."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .messages import plain
from .options import orchestrator, place_options
from .tables import table

if TYPE_CHECKING:
    from ..runs.status import RunStatus


@click.command()
@click.argument("run", required=False)
@place_options
def command(run: str | None, site: str, runs_dir: Path | None, plugins: tuple[Path, ...]) -> int:
    """List the runs, or show the jobs of one run."""
    import asyncio

    bench = orchestrator(site, runs_dir, plugins)
    if run is None:
        runs = asyncio.run(bench.list_runs())
        click.echo(plain(_runs(runs)) if runs else f"no runs in {bench.runs_dir}")
    else:
        click.echo(plain(_jobs(asyncio.run(bench.status(run)))))
    return 0


def _runs(runs: "list[RunStatus]") -> str:
    rows = [(run.run_id, run.recipe, run.state, run.verdict or "-", str(len(run.jobs))) for run in runs]
    return table(("RUN", "RECIPE", "STATE", "VERDICT", "JOBS"), rows)


def _jobs(run: "RunStatus") -> str:
    rows = [
        (
            job.name,
            job.role,
            job.kind,
            job.job_id or "-",
            job.state,
            job.phase or "-",
            f"{job.points_done}/{job.points_total}" if job.points_total else "-",
        )
        for job in run.jobs
    ]
    return f"{run.run_id}: {run.recipe}, {run.state}{f', {run.verdict}' if run.verdict else ''}\n{run.run_folder}\n\n" + table(
        ("JOB", "ROLE", "KIND", "ID", "STATE", "PHASE", "POINTS"), rows
    )
