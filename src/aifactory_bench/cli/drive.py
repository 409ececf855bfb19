"""Runs under way: signals, several at a time, and what each came to."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from attrs import frozen

from ..errors import AifactoryBenchError
from . import signals
from .exits import INTERRUPTED
from .messages import explain

if TYPE_CHECKING:
    from ..async_run import AsyncRun
    from ..results.model import Summary


_STOPPING = "stopping jobs, keeping what was measured (Ctrl-C again to leave them)"
_LEAVING = "leaving the jobs: they end by themselves or by their lease; `aifactory-bench attach` takes a run up again"


@frozen
class Start:
    """A run that is to begin, or to be taken up."""

    label: str
    """The recipe's path, or the run id."""
    begin: "Callable[[], Awaitable[AsyncRun]]"


@frozen
class Outcome:
    """What became of one start: a summary, an error, or neither when it was interrupted before it began."""

    label: str
    summary: "Summary | None" = None
    error: AifactoryBenchError | None = None

    @property
    def exit_code(self) -> int:
        """Of this run alone."""
        if self.error is not None:
            return self.error.exit_code
        if self.summary is None:
            return INTERRUPTED
        from ..report.summary import exit_code

        return exit_code(self.summary)


class Driver:
    """Drives runs until they end. The first SIGINT or SIGTERM stops their jobs, the second lets go of them."""

    def __init__(self, say: Callable[[str], None], parallel: int = 1) -> None:
        self._say = say
        self._limit = asyncio.Semaphore(parallel)
        self._runs: set[AsyncRun] = set()
        self._stopping = False
        self._leaving = False

    async def drive(self, starts: Sequence[Start], finished: Callable[[Outcome], None]) -> list[Outcome]:
        """Run all, tell each outcome as it comes, and return them in the order of the starts."""
        loop = asyncio.get_running_loop()
        former = {number: signal.getsignal(number) for number in signals.NUMBERS}
        for number in former:
            loop.add_signal_handler(number, self._interrupt)
        self._stopping = signals.came()
        try:
            return await asyncio.gather(*(self._one(start, finished) for start in starts))
        finally:
            for number, handler in former.items():
                loop.remove_signal_handler(number)
                signal.signal(number, handler)

    async def _one(self, start: Start, finished: Callable[[Outcome], None]) -> Outcome:
        async with self._limit:
            outcome = Outcome(start.label) if self._stopping else await self._through(start)
        finished(outcome)
        return outcome

    async def _through(self, start: Start) -> Outcome:
        try:
            run = await start.begin()
            self._runs.add(run)
            self._apply(run)
            try:
                return Outcome(start.label, summary=await run.wait())
            finally:
                self._runs.discard(run)
        except (AifactoryBenchError, OSError) as error:
            return Outcome(start.label, error=explain(error))

    def _interrupt(self) -> None:
        if self._leaving:
            return
        self._leaving, self._stopping = self._stopping, True
        self._say(_LEAVING if self._leaving else _STOPPING)
        for run in tuple(self._runs):
            self._apply(run)

    def _apply(self, run: "AsyncRun") -> None:
        if self._leaving:
            run.detach()
        elif self._stopping:
            run.request_stop()
