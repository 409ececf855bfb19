"""`cancel`: stop a run's jobs from elsewhere."""

from pathlib import Path

import click

from .options import orchestrator, place_options


@click.command()
@click.argument("run")
@place_options
def command(run: str, site: str, runs_dir: Path | None, plugins: tuple[Path, ...]) -> int:
    """Stop the jobs of a run; what was measured is kept."""
    import asyncio

    bench = orchestrator(site, runs_dir, plugins)
    summary = asyncio.run(bench.cancel(run))
    kept = sum(len(point.measurements) for point in summary.points)
    click.echo(f"{run}: no job is left, {kept} measurements are kept in {summary.run_folder}")
    return 0
