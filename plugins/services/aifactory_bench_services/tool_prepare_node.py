"""Preparing the data with the program that measures, in the image in which it measures, before the window."""

import os
from pathlib import Path
from types import ModuleType
from typing import Iterable, List, Optional, Sequence

from aifactory_bench.node.contract import Context, PrepareError
from aifactory_bench.node.ending import Ending
from aifactory_bench.node.files import make_private_folder
from aifactory_bench.node.placeholders import literal, resolve
from aifactory_bench.node.program import find
from aifactory_bench.node.tool import ToolError, ToolRun, how_it_ended, run_tool

_LIMIT_S = 6 * 3600.0
"""The job's own time is shorter."""


def run_before(context: Context, name: str, arguments: Sequence[str], module: Optional[ModuleType] = None) -> ToolRun:
    """Run the tool once with other arguments than in the window; its output stays in `prepare/` of the point's raw folder.

    Args:
        context: of the rank; its commands say where the program `name` is run.
        name: of the program as it stands in the last of these commands; what stands before it runs the container.
        arguments: of this run, without passwords: those are in the environment.
        module: whose `locate` is asked for a program that is not on PATH.

    Raises:
        PrepareError: there is no such program, or it did not end well.
    """
    folder = make_private_folder(context.folder / "prepare" / str(len(list((context.folder / "prepare").glob("*")))))
    argv = [*_prefix(context.commands[-1], name), *arguments]
    try:
        argv[0] = find(argv[0], os.environ, lambda: module)
        run = run_tool([argv], folder, context.folder, _hidden(context), _LIMIT_S, lambda: None)
    except Ending as ending:
        raise PrepareError(ending.text) from None
    except ToolError as error:
        raise PrepareError(f"{name}: {error}") from None
    if run.stop_reason or run.outcome.exit_code != 0:
        raise PrepareError(f"preparing the data: {run.stop_reason or how_it_ended(run.outcome, _hidden(context))}")
    return run


def _hidden(context: Context) -> "Iterable[str]":
    return [secret for secret in context.secrets.values() if secret]


def _prefix(command: Sequence[str], name: str) -> "List[str]":
    """Return the command up to the program; what runs a container needs no values."""
    places = [number for number, part in enumerate(command) if Path(part).name == literal(name)]
    if not places:
        raise PrepareError(f"the command of the point does not run {name}")
    return [resolve(part, {}) for part in command[: places[0] + 1]]
