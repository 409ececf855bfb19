"""The site `local`: jobs are processes on this machine."""

import sys
from pathlib import Path

from .model import Site

MAX_JOBS = 8
"""Jobs at a time; those that wait for their turn take a little of the machine that is measured."""


def local_site(runs: Path) -> Site:
    """Return the profile of this machine: no container, no scheduler, loopback only."""
    return Site(
        name="local",
        submitter="local",
        runs=str(runs.absolute()),
        runtime="host",
        python=sys.executable,
        bind="127.0.0.1",
        max_jobs=MAX_JOBS,
    )
