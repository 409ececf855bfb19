"""What a submitter is: it takes a script and a token, and answers for the job's state."""

import types
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import ClassVar, Optional, Union

from attrs import frozen

from ..errors import SubmitError
from ..plan import Plan, PlannedJob

NO_FILES: Mapping[str, str] = types.MappingProxyType({})


class JobState(Enum):
    """State of a job as its scheduler sees it. What is not known is `UNKNOWN`, and that is never final."""

    PENDING = "pending"
    RUNNING = "running"
    UNKNOWN = "unknown"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    NODE_FAIL = "node_fail"
    PREEMPTED = "preempted"
    BOOT_FAIL = "boot_fail"
    DEADLINE = "deadline"
    LOST = "lost"

    @property
    def final(self) -> bool:
        """Whether the job will never run again."""
        return self not in (JobState.PENDING, JobState.RUNNING, JobState.UNKNOWN)


@frozen
class JobStatus:
    """What is known of one submitted job."""

    token: str
    job_id: Optional[str]
    state: JobState
    text: str = ""
    """Why, where there is something to say."""
    nodes: str = ""
    """Where it runs or ran, as the scheduler writes lists of nodes."""


class Submitter(ABC):
    """Runs the jobs of one run on one site.

    The engine reads the controller's run folder only; `poll` brings the site's files into it where they are not the same.
    Every call may be made again after one that failed: none has an effect twice.
    """

    queues: ClassVar[bool] = False
    """Whether jobs wait in a queue before they run; there they read no stop file."""
    driving: bool = False
    """Whether this controller drives the run, and shows life for it at each poll; the engine says so."""
    driven_elsewhere: bool = False
    """Whether the last poll saw another controller, on another machine, that drives the run."""
    trouble: str = ""
    """Why something that was asked for has to wait; empty when nothing has to."""

    @abstractmethod
    def interval_s(self, unchanged_s: float, *, ending: bool) -> float:
        """Return the time to the next poll; unchanged_s: how long nothing has changed; ending: jobs are being stopped."""

    @abstractmethod
    async def stage(self, plan: Plan, recipe: str, program: bytes, private: Mapping[str, str] = NO_FILES) -> None:
        """Put everything the run needs into the site's run folder; doing it again changes nothing.

        Args:
            plan: The whole plan so far.
            recipe: Its text.
            program: The node program of that plan.
            private: Path in the run folder -> content of what only its owner may read, and what is kept nowhere else. Given
                when a run is begun; what is there already stays.

        Raises:
            SiteError: no space, no permission, a program that the site lacks.
        """

    @abstractmethod
    async def submit(self, job: PlannedJob) -> str:
        """Start the job and return its id; for a token that was submitted before, only return the id.

        Raises:
            SubmitError: it could not be started.
        """

    async def submit_all(self, jobs: Sequence[PlannedJob]) -> "list[Union[str, SubmitError, None]]":
        """Start jobs; return for each its id, why it cannot be started, or None where it has to be asked for again later."""
        answers: "list[Union[str, SubmitError, None]]" = []
        for job in jobs:
            try:
                answers.append(await self.submit(job))
            except SubmitError as error:
                answers.append(error)
        return answers

    @abstractmethod
    async def poll(self) -> Mapping[str, JobStatus]:
        """Return the status of every job of the run that was ever submitted, by token.

        A job that is absent is not known at the moment: that says nothing of one that was there before.
        """

    @abstractmethod
    async def write(self, name: str, text: str) -> None:
        """Write a small file into the site's run folder, atomically; name is relative to it.

        Raises:
            SiteError: no space, no permission.
            RunError: the run folder, or a job's, was moved or removed since it was first used.
        """

    @abstractmethod
    async def remove(self, name: str) -> None:
        """Remove a small file from the site's run folder, if it is there."""

    @abstractmethod
    async def cancel(self, tokens: Iterable[str]) -> None:
        """Ask jobs to end (TERM); those that have ended are left alone."""

    @abstractmethod
    async def kill(self, tokens: Iterable[str]) -> None:
        """End jobs and everything they started, at once."""

    async def close(self) -> None:  # noqa: B027 - most have nothing to let go of
        """Let go of what is kept for the run; its jobs are left alone."""
