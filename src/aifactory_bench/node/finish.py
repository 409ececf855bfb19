"""The last part of every rank: stop what runs, then write down how it ended."""

import shutil
import signal
import sys
import time
from typing import Callable, Optional

from .child import sweep
from .ending import Ending
from .execution import Execution
from .exit_record import clean, phases_s, write_exit

_FAILED = frozenset({"failed", "not_ready"})
"""Ends after which somebody may want to look at what the server had."""
CLIENT_STOP_S = 15.0
"""Time that `measure` has after TERM to keep what was measured."""


def finish(execution: Execution, ending: Ending, started_wall_ns: int, events_start_bytes: int) -> Optional[OSError]:
    """Stop the child, everything that descends from this process, and the monitors; write `exit.json`.

    Returns:
        Why something could not be written (a full disk), or None. All is stopped in either case.
    """
    trouble = _attempt(lambda: _tell_stopping(execution, ending))
    execution.monitors.let_service_go()
    _stop_child(execution, ending)
    execution.monitors.stop()
    sweep(execution.spare(), execution.watch.idle)
    trouble = _attempt(lambda: _tell_finished(execution, ending, started_wall_ns, events_start_bytes)) or trouble
    if ending.outcome not in _FAILED:
        _remove_scratch(execution)
    execution.guard.dismiss()
    return trouble


def _stop_child(execution: Execution, ending: Ending) -> None:
    child = execution.child
    if child is None:
        return
    service = execution.spec.service
    number, timeout_s = (_number(service.stop_signal), service.stop_timeout_s) if service else (signal.SIGTERM, CLIENT_STOP_S)
    if not child.stop(number, timeout_s, execution.watch.idle):
        _attempt(
            lambda: execution.events.append("warning", text=f"{child.name} did not end within {timeout_s:g} s and was killed")
        )
    ending.exit_code, ending.signal = child.exit_code, child.signal


def _remove_scratch(execution: Execution) -> None:
    """Remove the server's data; last of all, so that a full or slow file system keeps no record from being written."""
    service = execution.spec.service
    for name in service.scratch if service else ():
        path = execution.paths.work / name
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            print(f"{path} could not be removed: {error.strerror or error}", file=sys.stderr)


def _tell_stopping(execution: Execution, ending: Ending) -> None:
    events = execution.events
    events.phase("stop")
    if ending.outcome == "lease_expired":
        events.append("lease_expired", lease_s=execution.spec.lease_s)
    if execution.child is not None and not execution.child.ended():
        events.append("stopping", reason=clean(ending.text, execution.hidden) or ending.outcome)


def _tell_finished(execution: Execution, ending: Ending, started_wall_ns: int, events_start_bytes: int) -> None:
    events, paths = execution.events, execution.paths
    execution.tell_monitor_failures()
    execution.tell_child_exited()
    events.append("finished", outcome=ending.outcome)
    write_exit(
        paths,
        ending,
        execution.hidden,
        {
            "started_wall_ns": started_wall_ns,
            "ended_wall_ns": time.time_ns(),
            "phases_s": phases_s(paths.events, events_start_bytes, time.monotonic_ns()),
            "cpu_s": round(time.process_time(), 6),
            "job_id": execution.job_id,
            "restart": execution.restart,
        },
    )
    events.close()


def _attempt(call: Callable[[], None]) -> Optional[OSError]:
    """Do it, and return what the system said against it."""
    try:
        call()
    except OSError as error:
        return error
    return None


def _number(name: str) -> signal.Signals:
    return getattr(signal.Signals, f"SIG{name.upper()}".replace("SIGSIG", "SIG"), signal.SIGTERM)
