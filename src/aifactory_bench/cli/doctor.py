"""`doctor`: what is wrong with a site, before a job is spent."""

from typing import TYPE_CHECKING

import click

from ..errors import UsageError
from .messages import folded, note

if TYPE_CHECKING:
    from ..doctor.findings import Diagnosis, Finding

_MARKS = {"ok": "ok", "warn": "warn", "fail": "FAIL", "skipped": "-"}
_WIDTH = 16


@click.command()
@click.option("--site", required=True, metavar="NAME", help="Which: a site's name, or its profile's file.")
@click.option("--job", is_flag=True, help="Look at a node too, by a short job of one process.")
@click.option(
    "--wait", default="5m", show_default=True, metavar="DURATION", help="With --job: how long it may wait in the queue."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(site: str, job: bool, wait: str, as_json: bool) -> int:
    """Find out what is wrong with a site, and what to do about it.

    Looks at profile, host key, login, Slurm, accounts, Python, containers, folders and images. Nothing is changed there but
    temporary files, which go. The exit code is 0 where runs can work, 1 where something fails.
    """
    from ..doctor.findings import counted

    diagnosis = interruptible(site, job=job, wait_s=_duration(wait), as_json=as_json)
    if as_json:
        import json

        click.echo(json.dumps(diagnosis.to_json()))
    else:
        counts = counted(diagnosis.findings)
        click.echo(
            f"{counts['ok']} ok, {counts['warn']} to know of, {counts['fail']} failed, {counts['skipped']} not looked at"
        )
    return diagnosis.exit_code


def interruptible(site: str, *, job: bool, wait_s: float, as_json: bool = False) -> "Diagnosis":
    """Examine a site and show each finding; Ctrl-C and TERM end it, and what it has begun on the site."""
    import asyncio
    import signal

    from ..doctor.examine import examine
    from .options import answer_of_terminal

    async def work() -> "Diagnosis":
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        loop.add_signal_handler(signal.SIGTERM, task.cancel)
        try:
            return await examine(site, job=job, wait_s=wait_s, answer=answer_of_terminal(), listener=None if as_json else show)
        finally:
            loop.remove_signal_handler(signal.SIGTERM)

    try:
        return asyncio.run(work())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def show(finding: "Finding") -> None:
    """Print one finding, its fix below it."""
    head = f"{_MARKS[finding.state]:<4}  {finding.check:<{_WIDTH}}  "
    click.echo(folded(head + " ".join(finding.text.split("\n"))))
    if finding.fix:
        click.echo(folded(f"{'':<{len(head)}}fix: {' '.join(finding.fix.split(chr(10)))}"))


def _duration(text: str) -> float:
    from ..units import parse_duration

    try:
        return float(parse_duration(text))
    except ValueError as error:
        raise UsageError(f"--wait: {error}", "write a duration such as 30s or 10m") from None


__all__ = ["command", "interruptible", "note", "show"]
