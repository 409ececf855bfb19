"""The `#SBATCH` lines of a script."""

import math
import re
from collections.abc import Mapping
from types import MappingProxyType

from ..errors import SiteError
from ..recipe.model import Resources
from ..sites.rules import NodeShape, Rules
from ..slurm.options import check_options
from .ruled import with_rules

WARNING_S = 120
"""Longest time from the walltime warning (USR1) to the end."""
_PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")
_NO_RULES = Rules()
_NOTHING_KNOWN: Mapping[str, NodeShape] = MappingProxyType({})


def header_options(
    *,
    token: str,
    log: str,
    time_s: float,
    ranks: int,
    resources: Resources,
    scheduler: Mapping[str, str],
    rules: Rules = _NO_RULES,
    shapes: Mapping[str, NodeShape] = _NOTHING_KNOWN,
) -> dict[str, str | None]:
    """Return what the scheduler is asked for: long name -> value, None for an option without one.

    Args:
        token: the job's name.
        log: path of its output.
        time_s: walltime.
        ranks: processes, over all nodes.
        resources: of the recipe.
        scheduler: options of the site.
        rules: of the site.
        shapes: partition -> what its nodes have.

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
    try:
        further = dict(sorted(check_options(scheduler, "site").items()))
    except ValueError as error:
        raise SiteError(f"options of Slurm in the site's profile: {error}") from None
    wanted = {name: value for name, value in resources.slurm.items() if value is not False}
    further.update(sorted(check_options(wanted, "recipe").items()))
    ruled = with_rules(further, resources, rules, shapes, count=nodes, tasks_per_node=tasks_per_node)
    if "gres" in ruled and "gres" in further:
        ruled["gres"] = f"{ruled['gres']},{further.pop('gres')}"
    return {**options, **ruled, **further}


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
