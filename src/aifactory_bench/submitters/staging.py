"""Bringing a run's files to its site."""

import os
from collections.abc import Mapping

from ..errors import NotExecutedError, OutcomeUnknownError, UsageError
from ..plan import Plan, plan_to_json
from ..transports.base import Completed
from .archive import pack
from .slurm_site import SlurmSite

TRIES = 4
"""When the connection is lost meanwhile."""
LIMIT_S = 300.0
_EXISTS = 9
"""How the program `stage` ends when a new run is there already."""


async def bring(
    site: SlurmSite, run_folder: str, plan: Plan, recipe: str, program: bytes, private: Mapping[str, str], *, again: bool
) -> Completed:
    """Put what a run is made of into its folder; once begun it is done again when the connection is lost.

    Args:
        site: Of the run.
        run_folder: There.
        plan: The whole plan so far.
        recipe: Its text.
        program: The node program of that plan.
        private: Path in the run folder -> content of what is kept there only.
        again: The run has begun before.

    Raises:
        UsageError: It has begun, and is not this one.
        TransportError: The site could not be spoken to.
    """
    files: dict[str, str | bytes] = {
        **private,
        "recipe.yaml": recipe,
        f"node-{plan.node_digest}.pyz": program,
        "plan.json": plan_to_json(plan),
    }
    done = await _try(site, run_folder, "again" if again else "new", pack(files))
    if done.exit_code == _EXISTS:
        raise UsageError(f"run {plan.run_id} exists already on {site.site.name}", f"take it up with: attach {plan.run_id}")
    return done


async def _try(site: SlurmSite, run_folder: str, how: str, archive: bytes) -> Completed:
    tries, who = 1, os.urandom(8).hex()
    while True:
        try:
            return await site.run("stage", run_folder, how, who, stdin=archive, timeout_s=LIMIT_S)
        except OutcomeUnknownError:
            if tries == TRIES:
                raise
        except NotExecutedError:
            if tries in {1, TRIES}:  # a site that cannot be reached at all is told at once
                raise
        tries += 1
