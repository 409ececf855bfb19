"""`report`: the result of a run, again."""

from pathlib import Path

import click

from ..errors import UsageError
from .options import orchestrator, place_options

_VLLM_BENCH = "vllm-bench"


@click.command()
@click.argument("run")
@place_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@click.option(
    "--format",
    "dialect",
    type=click.Choice([_VLLM_BENCH]),
    help="LLM measurements as another program writes them, one JSON object a line.",
)
@click.option("--detailed", is_flag=True, help="With --format: also arrays with a value for each request.")
def command(
    run: str,
    site: str,
    runs_dir: Path | None,
    plugins: tuple[Path, ...],
    as_json: bool,
    dialect: str | None,
    detailed: bool,
) -> int:
    """Show the result of a run again.

    The exit code is the one that the run had.
    """
    from .drive import Outcome
    from .follow import View, show

    if as_json and dialect:
        raise UsageError(f"--json and --format {dialect} are two ways to show the same", "leave one of them out")
    if detailed and not dialect:
        raise UsageError("--detailed is part of a --format", f"write --format {_VLLM_BENCH} --detailed")
    outcome = Outcome(run, summary=orchestrator(site, runs_dir, plugins).summary(run))
    if dialect and outcome.summary is not None:
        import json

        from ..report.vllm_dialect import export_vllm_bench

        for result in export_vllm_bench(outcome.summary, detailed=detailed):
            click.echo(json.dumps(result, allow_nan=False))
    else:
        show(outcome, View(as_json=as_json, site=site))
    return outcome.exit_code
