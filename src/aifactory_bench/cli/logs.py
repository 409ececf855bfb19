"""`logs`: what services and tools wrote."""

import os
from pathlib import Path

import click

from .messages import note, plain
from .options import orchestrator, place_options


@click.command()
@click.argument("run")
@click.argument("job", required=False)
@place_options
def command(run: str, job: str | None, site: str, runs_dir: Path | None, plugins: tuple[Path, ...]) -> int:
    """Print the logs of a run, or of one of its jobs."""
    if os.sep in run:
        # The run folder, which each run names at its end; an id has no separator in it.
        folder = Path(run).absolute()
        run, runs_dir = folder.name, folder.parent
    logs = orchestrator(site, runs_dir, plugins).logs(run, job)
    for log in logs:
        if len(logs) > 1:
            click.echo(plain(f"==== {log.job} {log.rank}"))
        click.echo(plain(log.text), nl=bool(log.text) and not log.text.endswith("\n"))
    if not logs:
        note(f"{run}: no logs yet")
    return 0
