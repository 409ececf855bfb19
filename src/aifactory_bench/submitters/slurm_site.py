"""One Slurm site for the life of a controller: its connection, its one poller, and how often it may be asked to submit."""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from typing import Optional, Protocol

from ..errors import OutcomeUnknownError
from ..sites.model import Site
from ..slurm.queue import SQUEUE_FORMAT, Queue, parse_squeue
from ..transports.base import Completed, Transport
from .answer import Answer, GarbledError, RunPart, read_answer
from .process import ProcessId, boot_id
from .programs import program

FRESH_S = 4.0
"""A poll that is younger serves everybody who asks, and longer where nothing changes."""
POLL_LIMIT_S = 120.0
MOST_BYTES = 4 << 20
"""Of files, in one answer for one run."""
MOST_FILES = 1000
"""Of them."""
_ASKED_WHILE_REMEMBERED = 3
"""How often Slurm is asked in the time for which it remembers a job that has ended."""
SUBMIT_BURST = 20
"""Submissions that may come at once; where the site allows more in a second, as many as that."""


def holder_name() -> str:
    """Return the name of this process in the lock file of a run: host, and process by pid, start time and boot."""
    return ":".join((os.uname().nodename, *str(ProcessId.own()).split()))


def is_dead(holder: str) -> bool:
    """Whether a holder ran on this machine, since it was started, and does not any more.

    Of another boot nobody knows: two machines may have one name.
    """
    host, *process = holder.split(":")
    try:
        one = ProcessId.parse(" ".join(process))
    except ValueError:
        return False
    return host == os.uname().nodename and one.boot_id == boot_id() and not one.alive


class Member(Protocol):
    """A run that is polled with all others."""

    def request(self) -> Iterator[str]:
        """Yield the lines that ask for it."""

    def take(self, queue: Optional[Queue], part: RunPart, asked_at: float) -> None:
        """Take what a poll brought; queue: None when Slurm did not answer; asked_at: by the site's clock."""


class SlurmSite:
    """One poller and one connection for all runs of this controller on a site."""

    def __init__(self, site: Site, transport: Transport, clock: Callable[[], float] = time.monotonic) -> None:
        self.site = site
        self.transport = transport
        self.clock = clock
        self.holder = holder_name()
        """This controller, in a run's lock file."""
        self.said = ""
        """What squeue complained about at the last poll."""
        self._members: list[Member] = []
        self._served: list[Member] = []
        self._lock = asyncio.Lock()
        self._polled_at = float("-inf")
        self._burst = max(float(SUBMIT_BURST), site.submit_rate_per_s)
        self._tokens = self._burst
        self._tokens_at = clock()

    def join(self, member: Member) -> None:
        """Poll for this run, too."""
        self._members.append(member)

    def leave(self, member: Member) -> None:
        """Poll for it no more."""
        if member in self._members:
            self._members.remove(member)

    def outdate(self) -> None:
        """Make the next poll a real one: something was done that it is to show."""
        self._polled_at = float("-inf")

    def longest_interval_s(self, wanted_s: float) -> float:
        """Return the longest pause between questions; a job that has ended is to be seen before Slurm forgets it."""
        remembered_s = self.site.rules.min_job_age_s
        return wanted_s if remembered_s is None else min(wanted_s, remembered_s / _ASKED_WHILE_REMEMBERED)

    async def run(self, name: str, *arguments: str, stdin: bytes = b"", timeout_s: float = 60.0) -> Completed:
        """Run one of our programs on the site; raises as `Transport.run` does."""
        return await self.transport.run(program(name), *arguments, stdin=stdin, timeout_s=timeout_s)

    async def poll(self, member: Member, fresh_s: float = FRESH_S) -> None:
        """See to it that a run has an answer that is not older than so many seconds; all runs are asked for at once.

        Raises:
            TransportError: the site could not be asked, or its answer makes no sense.
        """
        async with self._lock:
            if member in self._served and self.clock() - self._polled_at < fresh_s:
                return
            asked_at = self.clock()
            members = list(self._members)
            answer = await self._ask(members, SQUEUE_FORMAT)
            queue = parse_squeue(answer.queue) if answer.queue_code == 0 else None
            self.said = "" if queue is not None else answer.queue.strip()[:500] or f"exit code {answer.queue_code}"
            self._polled_at, self._served = asked_at, members
            for one, part in zip(members, answer.runs, strict=True):
                one.take(queue, part, asked_at)

    async def fetch_more(self, member: Member) -> None:
        """Bring more files of a run, without a look at the queue; raises as `poll` does."""
        async with self._lock:
            asked_at = self.clock()
            answer = await self._ask([member], "")
            member.take(None, answer.runs[0], asked_at)

    async def _ask(self, members: "list[Member]", queue_format: str) -> Answer:
        lines = "".join(f"{line}\n" for one in members for line in one.request())
        limits = (str(MOST_BYTES), str(MOST_FILES))
        done = await self.run("poll", queue_format, *limits, stdin=lines.encode(), timeout_s=POLL_LIMIT_S)
        try:
            answer = read_answer(done.stdout)
            if len(answer.runs) != len(members):
                raise GarbledError(f"{len(answer.runs)} runs in place of {len(members)}")
            if (answer.queue_code is None) == bool(queue_format):
                raise GarbledError("the queue was asked, and is not in it, or the other way round")
        except GarbledError as error:
            said = done.stderr.decode("utf-8", "replace").strip()[:500]
            raise OutcomeUnknownError(f"{self.transport.label}: an answer that makes no sense: {error}; {said}") from None
        return answer

    def may_submit(self, wanted: int, at_least: int = 1) -> int:
        """Return how many jobs may be submitted now, and count them; none if it would be fewer than are worth it."""
        now = self.clock()
        self._tokens = min(self._burst, self._tokens + (now - self._tokens_at) * self.site.submit_rate_per_s)
        self._tokens_at = now
        allowed = min(wanted, int(self._tokens))
        if allowed < at_least:
            return 0
        self._tokens -= allowed
        return allowed

    async def close(self) -> None:
        """End the connection."""
        await self.transport.close()
