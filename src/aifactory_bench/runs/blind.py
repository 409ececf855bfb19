"""Ending jobs without writing anything, because writing is what failed."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable

from ..errors import AifactoryBenchError
from ..submitters.base import Submitter

CANCEL_S = 5.0
"""From TERM to KILL."""
KILL_S = 5.0
"""From KILL to giving up the wait for the end."""
INTERVAL_S = 0.1
"""Between looks."""


async def stop_blindly(
    submitter: Submitter,
    look: Callable[[], Awaitable[None]],
    live: Callable[[], "list[str]"],
    clock: Callable[[], float],
    *,
    gone: bool,
) -> None:
    """End every job of a run.

    Args:
        submitter: Of the run.
        look: Brings what `live` says up to date.
        live: Returns the tokens of jobs that have not ended.
        clock: Seconds, never going back.
        gone: The run folder is: what a job would write at its end would make it anew.
    """

    async def look_all_the_same() -> None:
        with contextlib.suppress(OSError, AifactoryBenchError):
            await look()

    async def end(how: "Callable[[Iterable[str]], Awaitable[None]]", limit_s: float) -> None:
        with contextlib.suppress(OSError, AifactoryBenchError):
            await how(live())
        deadline = clock() + limit_s
        while live() and clock() < deadline:
            await asyncio.sleep(INTERVAL_S)
            await look_all_the_same()

    await look_all_the_same()
    if not gone:
        await end(submitter.cancel, CANCEL_S)
    await end(submitter.kill, KILL_S)
