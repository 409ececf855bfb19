"""How commands reach a site: one connection, shared by everything that a controller does there."""

from abc import ABC, abstractmethod

from attrs import frozen

from .stream import ForbiddenError, Stream


@frozen
class Completed:
    """A program that ran to its end on the site."""

    exit_code: int
    stdout: bytes
    stderr: bytes
    """The first 64 KiB."""


class Transport(ABC):
    """Runs our programs on the login node of one site."""

    label: str
    """Whom it speaks to, for messages: `alice@login.example`."""

    @abstractmethod
    async def run(self, program: str, *arguments: str, stdin: bytes = b"", timeout_s: float = 60.0) -> Completed:
        """Run a program of POSIX shell and return how it ended; it is connected when it has to be.

        Args:
            program: A constant text of ours; nothing from a recipe or a site is ever part of it.
            arguments: Data, as `$1` and so on.
            stdin: What the program reads.
            timeout_s: After this time the site ends it.

        Raises:
            NotExecutedError: It was certainly not executed, and may be sent again.
            OutcomeUnknownError: It may have been executed as a whole, in part, or not at all.
            AccessError: The site lets nobody in without a person: a host key that is not known, a refused login.
        """

    async def connect(self, host: str, port: int) -> Stream:
        """Connect to a port of a machine as the login node sees it, over the connection to the site.

        Raises:
            ForbiddenError: The site does not forward.
            UnreachableError: Nobody listens there.
            NotExecutedError, AccessError: As with `run`.
        """
        raise ForbiddenError(f"{self.label}: cannot connect to {host}:{port}: this connection forwards nothing")

    async def check(self, host: str, port: int) -> None:
        """See whether `connect` would succeed; the errors are its own."""
        await (await self.connect(host, port)).close()

    @abstractmethod
    async def close(self) -> None:
        """End the connection; a later `run` makes a new one."""
