"""Jobs that must have ended before this one begins."""

from typing import Dict

from .paths import RunPaths
from .watch import Watch, appeared


class Ends:
    """The ranks of other jobs that have not ended yet."""

    def __init__(self, run: RunPaths, jobs: Dict[str, int]) -> None:
        """jobs: token -> ranks."""
        self._left = [run.job(token).rank(rank).exit for token, ranks in jobs.items() for rank in range(ranks)]

    def all_there(self) -> bool:
        """Look, and return whether all have ended; one look at a folder for each call as long as they have not."""
        while self._left and appeared(self._left[-1]):
            self._left.pop()
        return not self._left


def wait_for_ends(run: RunPaths, jobs: Dict[str, int], watch: Watch) -> None:
    """Return when every rank of the jobs has ended.

    Raises:
        Ending: there was a reason to end first.
    """
    ends = Ends(run, jobs)
    while not ends.all_there():
        watch.pause()
