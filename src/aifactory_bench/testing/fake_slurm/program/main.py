"""What an executable does: it notes the call, meets its fault, and acts on the cluster."""

import os
import sys
from collections.abc import Callable
from typing import Optional

from .execution import Effects
from .fault import Fault, distort, strike, wait
from .options import Answer
from .schedule import settle
from .store import Store

COMMANDS = ("sbatch", "squeue", "sacct", "sstat", "scancel", "scontrol", "sinfo", "srun")
_OF_CONTROLLER = ("timed out", "no controller")


def main() -> None:
    """Run `FOLDER COMMAND ARGUMENT...` of the process, and end it."""
    folder, command, *arguments = sys.argv[1:]
    if command == "slurmstepd":
        from .slurmstepd import execute

        execute(folder, int(arguments[0]))
        return
    code = 1
    try:
        given = call(folder, command, arguments)
        code = given.code
        _write(1, given.stdout)
        _write(2, given.stderr)
    except BrokenPipeError:  # nobody listens any more
        code = 141
    # An ordinary end of the interpreter would take as long as the rest.
    os._exit(code)


def call(folder: str, command: str, arguments: "list[str]") -> Answer:
    """Run one call of a command, and return what it says."""
    with Store(folder) as store:
        fault = strike(store, command)
        noted = {"command": command, "arguments": "\0".join(arguments), "at": store.now, "fault": fault and fault.number}
        number = store.insert("calls", noted)
    if fault is not None and fault.waits == "before":
        wait(folder, fault)
    try:
        action = _prepare(folder, command, arguments)
    except Answer as early:
        given, asked = early, False
    else:
        given, asked = _act(folder, action, fault), True
    if fault is not None and fault.waits == "after":
        wait(folder, fault)
    # What needs no controller does not notice that there is none.
    if fault is not None and (asked or fault.says not in _OF_CONTROLLER):
        given = distort(fault, command, arguments, given)
    with Store(folder) as store:
        store.query("UPDATE calls SET exit_code = ? WHERE id = ?", given.code, number)
    return given


def _act(folder: str, action: "Callable[[Store], Answer]", fault: Optional[Fault]) -> Answer:
    if fault is not None and fault.effect == "none":
        return Answer()
    with Store(folder) as store:
        if fault is not None:
            store.word = fault.word
            store.late_s = fault.late_s if fault.effect == "late" else 0.0
        settle(store)
        try:
            given = action(store)
        except Answer as refused:
            given = refused
        settle(store)
        effects = Effects(store)
    effects.do()
    return given


def _prepare(folder: str, command: str, arguments: "list[str]") -> "Callable[[Store], Answer]":
    # Each command loads what it needs; half of a call's time is loading.
    if command == "sbatch":
        from .sbatch import prepare
    elif command == "squeue":
        from .squeue import prepare
    elif command == "scancel":
        from .scancel import prepare
    elif command == "scontrol":
        from .scontrol import prepare
    elif command == "sinfo":
        from .sinfo import prepare
    elif command == "sacct":
        from .sacct import prepare
    elif command == "sstat":
        from .sacct import prepare_stat as prepare
    else:
        from .srun import step

        raise Answer(code=step(folder, arguments))
    return prepare(arguments)


def _write(stream: int, text: str) -> None:
    data = text.encode(errors="surrogateescape")
    while data:
        data = data[os.write(stream, data) :]
