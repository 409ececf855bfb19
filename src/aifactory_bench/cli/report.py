"""`report`: the result of a run, again."""

from pathlib import Path

import click

from .options import orchestrator, place_options


@click.command()
@click.argument("run")
@place_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(run: str, site: str, runs_dir: Path | None, plugins: tuple[Path, ...], as_json: bool) -> int:
    """Show the result of a run again.

    The exit code is the one that the run had.
    """
    from .drive import Outcome
    from .follow import View, show

    outcome = Outcome(run, summary=orchestrator(site, runs_dir, plugins).summary(run))
    show(outcome, View(as_json=as_json, site=site))
    return outcome.exit_code
