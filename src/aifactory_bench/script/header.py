"""The `#SBATCH` lines of a script."""

import math
import re
from collections.abc import Mapping

from ..errors import SiteError
from ..recipe.model import Resources
from ..slurm.options import check_options

WARNING_S = 120
"""Longest time from the walltime warning (USR1) to the end."""
_PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")


def header_options(
    *, token: str, log: str, time_s: float, ranks: int, resources: Resources, scheduler: Mapping[str, str]
) -> dict[str, str | None]:
    """Return what the scheduler is asked for: long name -> value, None for an option without one.

    Raises:
        SiteError: the site sets an option that is not its to set.
    """
    whole_s = max(60, math.ceil(time_s))
    nodes = min(resources.nodes, ranks)
    tasks_per_node = math.ceil(ranks / nodes)
    options: dict[str, str | None] = {
        "job-name": token,
        "output": log.replace("%", "%%"),
        "error": log.replace("%", "%%"),
        "open-mode": "append",
        "no-requeue": None,
        "export": "NONE",
        "time": walltime(whole_s),
        "signal": f"B:USR1@{min(WARNING_S, whole_s // 5)}",
        "nodes": str(nodes),
        "ntasks": str(ranks),
        "ntasks-per-node": str(tasks_per_node),
    }
    if resources.cpus is not None:
        options["cpus-per-task"] = str(max(1, resources.cpus // tasks_per_node))
    if resources.memory_bytes is not None:
        options["mem"] = f"{math.ceil(resources.memory_bytes / (1 << 20))}M"
    if resources.gpus:
        options["gpus-per-node"] = str(resources.gpus)
    try:
        options.update(sorted(check_options(scheduler, "site").items()))
    except ValueError as error:
        raise SiteError(f"options of Slurm in the site's profile: {error}") from None
    wanted = {name: value for name, value in resources.slurm.items() if value is not False}
    options.update(sorted(check_options(wanted, "recipe").items()))
    return options


def header_lines(options: Mapping[str, str | None]) -> list[str]:
    """Return the header of a batch script.

    Raises:
        SiteError: an option's value has a control character.
    """
    return [
        f"#SBATCH --{name}" if value is None else f"#SBATCH --{name}={_quoted(name, value)}" for name, value in options.items()
    ]


def walltime(seconds: int) -> str:
    """Return `[days-]HH:MM:SS`."""
    days, rest = divmod(seconds, 86400)
    clock = f"{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    return f"{days}-{clock}" if days else clock


def _quoted(name: str, value: str) -> str:
    """Return a value as sbatch reads it from a script: double quotes, backslash before what would end them."""
    if not value.isprintable():
        raise SiteError(f"scheduler option {name}: {value!r} holds a character that cannot stand in a batch script's header")
    if _PLAIN.fullmatch(value):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
