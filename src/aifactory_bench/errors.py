"""Every error a user can meet: what is wrong, what to do about it, and the exit code."""

from typing import ClassVar


class AifactoryBenchError(Exception):
    """Base of all errors that are shown to a user as text, never as a traceback."""

    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "error"

    def __init__(self, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.text}\n  hint: {self.hint}" if self.hint else self.text


class UsageError(AifactoryBenchError):
    """The command line, or a call, does not make sense."""

    exit_code = 2
    code = "usage"


class RecipeError(AifactoryBenchError):
    """A recipe, a site profile or a `--set` has problems; all of them are listed."""

    exit_code = 2
    code = "recipe"


class PluginError(AifactoryBenchError):
    """A plugin of ours is broken, two plugins clash, or a class breaks the contract."""

    exit_code = 2
    code = "plugin"


class SiteError(AifactoryBenchError):
    """The site cannot do what the plan needs: no program, no space, no permission."""

    exit_code = 1
    code = "site"


class SubmitError(AifactoryBenchError):
    """A job could not be submitted."""

    exit_code = 1
    code = "submit"


class RunError(AifactoryBenchError):
    """A run is not there, is damaged, or belongs to another controller."""

    exit_code = 1
    code = "run"


class LockedError(RunError):
    """Another controller holds the run."""

    exit_code = 4
    code = "locked"


class TransportError(SiteError):
    """The site could not be spoken to."""

    code = "transport"


class NotExecutedError(TransportError):
    """A command certainly did not reach the site; sending it again is safe."""


class OutcomeUnknownError(TransportError):
    """The connection was lost, or time ran out, while a command was under way: nobody knows how far it came."""


class AccessError(TransportError):
    """The site lets nobody in without a person: a host key that is not known, a login that was refused, a second factor."""

    exit_code = 4
    code = "access"
