"""`attach`: take up a run that another controller began."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import orchestrator, place_options

if TYPE_CHECKING:
    from ..async_run import AsyncRun
    from ..events import Listener


@click.command()
@click.argument("run")
@place_options
@click.option("--take-over", is_flag=True, help="Take the run from a controller that has not been heard of for a while.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@click.option("--quiet", is_flag=True, help="No progress; the result is shown all the same.")
def command(
    run: str, site: str, runs_dir: Path | None, plugins: tuple[Path, ...], take_over: bool, as_json: bool, quiet: bool
) -> int:
    """Take up a run where it is.

    What is measured already is kept, what is missing is measured, and the result is shown.
    """
    from .follow import View, follow

    async def begin(listener: "Listener") -> "AsyncRun":
        return await orchestrator(site, runs_dir, plugins).attach(run, take_over=take_over, listener=listener)

    return follow([(run, begin)], View(as_json=as_json, quiet=quiet, site=site))
