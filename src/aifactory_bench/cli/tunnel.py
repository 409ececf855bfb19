"""`tunnel`: a port of this machine that leads to a service."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .messages import folded, note
from .options import answer_of_terminal

if TYPE_CHECKING:
    from ..tunnel import Tunnel


@click.command()
@click.argument("run")
@click.argument("service")
@click.option("--port", type=click.IntRange(0, 65535), default=0, metavar="N", help="Of this machine.  [default: a free one]")
@click.option("--replica", type=click.IntRange(min=0), default=0, show_default=True, metavar="R", help="Of the service.")
@click.option("--show-secret", is_flag=True, help="Print the service's password, where it has one.")
@click.option(
    "--site", default="local", show_default=True, metavar="NAME", help="Where to look for a run that is not known here."
)
@click.option(
    "--runs-dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder of the run folders.  [default: $AIFACTORY_BENCH_RUNS, or ./runs]",
)
def command(run: str, service: str, port: int, replica: int, show_secret: bool, site: str, runs_dir: Path | None) -> int:
    """Open a local port to a service of a run, through the site's connection, until Ctrl-C.

    It listens on 127.0.0.1 only. The service's end is told, and ends it.
    """
    import asyncio

    from ..tunnel import Tunnel

    one = Tunnel(
        run,
        service,
        site=site,
        runs_dir=runs_dir,
        port=port,
        replica=replica,
        answer=answer_of_terminal(),
        say=note,
    )
    return asyncio.run(_serve(one, service, show_secret=show_secret))


async def _serve(one: "Tunnel", service: str, *, show_secret: bool) -> int:
    import asyncio
    import signal

    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    await one.open()
    try:
        for number in numbers:
            loop.add_signal_handler(number, stop.set)
        place, secret = await one.password(show=show_secret)
        click.echo(folded(f"{service}: {one.url}  ({one.place})"))
        if place:
            click.echo(
                folded(f"password: {secret}" if show_secret else f"password: in {place} on the site; --show-secret prints it")
            )
        note("until Ctrl-C")
        ended, asked = asyncio.create_task(one.wait()), asyncio.create_task(stop.wait())
        await asyncio.wait({ended, asked}, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            note(f"{service}: {ended.result()}")
        ended.cancel()
        asked.cancel()
        return 0
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
        await one.close()
