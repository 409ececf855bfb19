"""`run`: measure recipes."""

from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import UsageError
from .messages import note
from .options import lease_option, orchestrator, parse_lease, place_options, set_option

if TYPE_CHECKING:
    from ..async_run import AsyncRun
    from ..events import Listener
    from ..orchestrator import AsyncBenchmarkOrchestrator


@click.command()
@click.argument("recipes", nargs=-1, required=True, metavar="RECIPE...")
@place_options
@set_option
@lease_option
@click.option("--run-id", metavar="ID", help="Name of the run; with one recipe only.  [default: made from time and recipe]")
@click.option("--parallel", type=click.IntRange(min=1), default=1, show_default=True, metavar="N", help="Recipes at a time.")
@click.option(
    "--max-node-hours",
    type=click.FloatRange(min=0),
    metavar="N",
    help="Refuse a recipe that may take more, counting every job's whole walltime.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a run on standard output, one a line.")
@click.option("--quiet", is_flag=True, help="No progress; the result is shown all the same.")
def command(
    recipes: tuple[str, ...],
    site: str,
    runs_dir: Path | None,
    plugins: tuple[Path, ...],
    overrides: tuple[str, ...],
    lease: str | None,
    run_id: str | None,
    parallel: int,
    max_node_hours: float | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """Run recipes: deploy, load, stop, report.

    Ctrl-C stops the jobs and keeps what was measured; a second one does not wait for their end.
    """
    from .follow import View, follow

    @cache
    def bench() -> "AsyncBenchmarkOrchestrator":
        if run_id is not None and len(recipes) > 1:
            raise UsageError("--run-id names one run, and there are several recipes", "leave it out, or run them one by one")
        return orchestrator(site, runs_dir, plugins)

    async def begin(recipe: str, listener: "Listener") -> "AsyncRun":
        loaded = bench().load_recipe(recipe, overrides)
        for line in loaded.notes:
            note(f"{recipe}: note: {line}")
        return await bench().run(
            loaded,
            overrides=overrides,
            run_id=run_id,
            listener=listener,
            max_node_hours=max_node_hours,
            **parse_lease(lease),
        )

    view = View(as_json=as_json, quiet=quiet, parallel=min(parallel, len(recipes)), site=site)
    return follow([(recipe, partial(begin, recipe)) for recipe in recipes], view)
