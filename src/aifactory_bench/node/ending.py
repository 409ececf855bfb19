"""How a rank ends, as a value that is raised from wherever it is found out."""

from typing import Optional

from .events import OUTCOMES


class Ending(Exception):
    """The rank is over: its outcome (one of `events.OUTCOMES`), and for people why."""

    def __init__(self, outcome: str, text: str = "") -> None:
        if outcome not in OUTCOMES:
            raise ValueError(f"unknown outcome {outcome!r}")
        super().__init__(outcome, text)
        self.outcome = outcome
        self.text = text
        self.exit_code: Optional[int] = None
        """Of the child, where it ended by itself or was stopped."""
        self.signal: Optional[int] = None
        """Number of the signal that ended the child."""
