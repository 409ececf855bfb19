"""`calibrate`: what the load generator itself adds."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import UsageError
from .messages import folded, show_error
from .options import orchestrator, place_options

if TYPE_CHECKING:
    from ..async_run import AsyncRun
    from ..events import Listener
    from ..report.calibrated import Calibration
    from .drive import Outcome

_INVALID = 3
_HEADER = ("streams", "token/s", "added TTFT p50", "p99", "added gap p99", "age p99", "CPU", "verdict")


def _numbers(_context: click.Context, _parameter: click.Parameter, text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(
            f"--streams: {text!r} is no list of whole numbers", "write one number, or several such as 1,64,256"
        ) from None


@click.command()
@place_options
@click.option(
    "--streams", callback=_numbers, metavar="N,...", help="Streams at a time, each a measurement.  [default: 1,16,64,256]"
)
@click.option("--rate", metavar="RATE", help="Offer requests at random at this rate, e.g. 20/s.  [default: closed loop]")
@click.option("--duration", default="5s", show_default=True, metavar="DURATION", help="Window of each measurement.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@click.option("--quiet", is_flag=True, help="No progress; the table is shown all the same.")
def command(
    site: str,
    runs_dir: Path | None,
    plugins: tuple[Path, ...],
    streams: tuple[int, ...] | None,
    rate: str | None,
    duration: str,
    as_json: bool,
    quiet: bool,
) -> int:
    """Measure what the load generator itself adds, on this machine or on a node of a site.

    A server whose truth is known streams tokens; the table says how much later the generator saw them. It is kept, and
    stands in the results of later runs on the same node.
    """
    import asyncio

    from ..calibration import STREAMS, calibration_recipe
    from ..recipe.load import load_recipe_text
    from ..report.calibrated import calibration_of, keep
    from .drive import Driver, Start
    from .progress import Progress

    text = calibration_recipe(streams or STREAMS, _rate(rate), _duration(duration))
    bench = orchestrator(site, runs_dir, plugins)
    recipe = load_recipe_text(text, "calibration", bench.registry)

    async def begin(listener: "Listener") -> "AsyncRun":
        return await bench.run(recipe, listener=listener)

    async def work() -> "Outcome":
        with Progress(quiet=quiet) as progress:
            start = Start("calibrate", partial(begin, progress.listener("calibrate")))
            (outcome,) = await Driver(progress.say).drive([start], lambda _: None)
            return outcome

    outcome = asyncio.run(work())
    if outcome.error is not None:
        show_error(outcome.error)
        return outcome.exit_code
    if outcome.summary is None or outcome.summary.status != "finished":
        return outcome.exit_code
    calibration = calibration_of(outcome.summary)
    keep(bench.runs_dir, calibration)
    click.echo(_json(calibration) if as_json else _shown(calibration))
    # A load that is too much for the generator is what was to be found out, and no failure.
    return 0 if outcome.exit_code == _INVALID else outcome.exit_code


def _rate(text: str | None) -> float | None:
    from ..units import parse_rate

    try:
        return None if text is None else float(parse_rate(text))
    except ValueError as error:
        raise UsageError(f"--rate: {error}", "write a rate such as 20/s") from None


def _duration(text: str) -> float:
    from ..units import parse_duration

    try:
        return float(parse_duration(text))
    except ValueError as error:
        raise UsageError(f"--duration: {error}", "write a duration such as 5s") from None


def _json(calibration: "Calibration") -> str:
    import json

    from attrs import asdict

    return json.dumps(asdict(calibration))


def _shown(calibration: "Calibration") -> str:
    from ..results.numbers import duration, percent, quantity
    from .tables import table

    def time(value_us: float | None) -> str:
        return "-" if value_us is None else duration(value_us)

    rows = [
        (
            str(load.streams),
            "-" if load.tokens_per_s is None else quantity(load.tokens_per_s, ""),
            time(load.added_ttft_p50_us),
            time(load.added_ttft_p99_us),
            time(load.added_gap_p99_us),
            time(load.observation_age_p99_us),
            "-" if load.cpu_share_max is None else percent(load.cpu_share_max),
            load.verdict,
        )
        for load in calibration.loads
    ]
    where = ", ".join(calibration.hosts) or calibration.site
    reasons = [f"{load.streams} streams: {reason}" for load in calibration.loads for reason in load.reasons]
    return "\n".join(
        [f"what the generator adds on {where}, run {calibration.run_id}", table(_HEADER, rows), *map(folded, reasons)]
    )
