"""The window of a point in its two kinds: driven by the load core, or filled by a tool."""

import os
import time
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Dict, List, Optional, Sequence

from .barrier import Start
from .contract import Context, ToolOutcome
from .ending import Ending
from .exit_record import masked
from .measurement import Measurement
from .program import find
from .tool import ToolRun, cut_output, how_it_ended, run_tool
from .values import resolve_all

Stop = Callable[[], Optional[str]]


class WindowError(Exception):
    """The window gave no measurement; the text says why."""


class LoadWindow:
    """The load core drives what the product's driver describes."""

    def __init__(self, context: Context, module: ModuleType) -> None:
        # Here, so that loading it takes nothing off the time between the agreement on a start and the start.
        from .load import run_load

        self._run_load = run_load
        self._context = context
        self._driver = module.driver(context)
        self._measurement: Optional[Measurement] = None

    def run(self, start: Start, stop: Stop, _limit_s: float) -> None:
        """Run warm-up, window and drain; the load core asks `stop`, which knows the limit, all the time."""
        self._measurement = self._run_load(self._context, self._driver, start.mono_ns, stop)

    def collect(self) -> Measurement:
        """Return the measurement."""
        if self._measurement is None:
            raise WindowError("the window has not been run")
        return self._measurement


class ToolWindow:
    """A tool runs its commands; the product's `reduce` reads what it printed."""

    def __init__(
        self, context: Context, module: ModuleType, encoded: Sequence[Sequence[str]], values: Dict[str, str], hidden: List[str]
    ) -> None:
        """Fill in the commands and find their programs.

        Raises:
            WindowError: a program is not on this node, or a placeholder has no value.
        """
        self._context = context
        self._module = module
        self._hidden = hidden
        self._work = Path(values["folder"])
        try:
            self._commands = [resolve_all(command, values) for command in encoded]
            for command in self._commands:
                command[0] = find(command[0], os.environ, lambda: module)
        except Ending as ending:
            raise WindowError(ending.text) from None
        self._run: Optional[ToolRun] = None

    def run(self, start: Start, stop: Stop, limit_s: float) -> None:
        """Run the commands from the agreed start on."""
        time.sleep(max(0.0, (start.mono_ns - time.monotonic_ns()) / 1e9))
        self._context.events.phase("measure")
        self._run = run_tool(self._commands, self._context.folder, self._work, self._hidden, limit_s, stop)

    def collect(self) -> Measurement:
        """Return what the tool's output says.

        Raises:
            WindowError: the output could not be read as a result.
        """
        if self._run is None:
            raise WindowError("the window has not been run")
        outcome, stop_reason = self._run.outcome, self._run.stop_reason
        how = stop_reason or how_it_ended(outcome, self._hidden)
        try:
            measurement: Measurement = self._module.reduce(self._context, outcome)
        except Exception as error:
            raise WindowError(f"{how}; its output holds no result: {type(error).__name__}: {error}") from error
        finally:
            cut = cut_output(self._context.folder)
        if stop_reason and measurement.status == "ok":
            measurement.status, measurement.reason = "cut", stop_reason
        # A reducer that ended its tool on purpose says so by an exit code of None.
        elif measurement.tool.get("exit_code", outcome.exit_code) not in (0, None) and not measurement.reason:
            measurement.reason = how
        measurement.tool = {**self._facts(outcome, cut), **measurement.tool}
        measurement.phases_s.setdefault("measure", outcome.duration_s)
        health = measurement.health
        if not health.cpu_share and outcome.duration_s > 0:
            # The kernel counts all threads together: they are taken to have worked alike.
            share = outcome.cpu_s / outcome.duration_s / max(1, health.workers)
            health.cpu_share = [share] * max(1, health.workers)
        return measurement

    def _facts(self, outcome: ToolOutcome, cut: List[str]) -> Dict[str, Any]:
        facts: Dict[str, Any] = {
            "name": Path(outcome.argv[0]).name,
            "argv": list(outcome.argv),
            "exit_code": outcome.exit_code if outcome.exit_code >= 0 else None,
            "signal": -outcome.exit_code if outcome.exit_code < 0 else None,
            "timed_out": outcome.timed_out,
            "stopped": outcome.stopped,
            "duration_s": outcome.duration_s,
            "cpu_s": outcome.cpu_s,
            "password_in_arguments": any(masked(text, self._hidden) != text for text in self._commands[-1]),
        }
        if cut:
            facts["output_cut"] = cut
        return facts
