"""Every word Slurm has for the state of a job, and what it means for us.

A job has one base state, and flags that hide it: the commands print one word. A word that is not in the table is never an
error and never final, because a later release may have added it.
"""

from collections.abc import Mapping
from typing import Literal

from attrs import frozen

from .printed import clean

State = Literal[
    "pending",
    "running",
    "unknown",
    "completed",
    "failed",
    "cancelled",
    "timeout",
    "out_of_memory",
    "node_fail",
    "preempted",
    "boot_fail",
    "deadline",
]

_LONGEST = 64

_BASES: Mapping[str, tuple[str, State]] = {
    "PENDING": ("PD", "pending"),
    "RUNNING": ("R", "running"),
    "SUSPENDED": ("S", "running"),
    "COMPLETED": ("CD", "completed"),
    "CANCELLED": ("CA", "cancelled"),
    "FAILED": ("F", "failed"),
    "TIMEOUT": ("TO", "timeout"),
    "NODE_FAIL": ("NF", "node_fail"),
    "PREEMPTED": ("PR", "preempted"),
    "BOOT_FAIL": ("BF", "boot_fail"),
    "DEADLINE": ("DL", "deadline"),
    "OUT_OF_MEMORY": ("OOM", "out_of_memory"),
}
# COMPLETING hides the outcome: the job may end, or be put back into the queue. What says nothing of whether a job waits or
# runs is "unknown": the state it had before still stands.
_FLAGS: Mapping[str, tuple[str, State]] = {
    "COMPLETING": ("CG", "running"),
    "CONFIGURING": ("CF", "pending"),
    "STAGE_OUT": ("SO", "running"),
    "EXPEDITING": ("", "unknown"),
    "RESIZING": ("RS", "running"),
    "REQUEUED": ("RQ", "pending"),
    "REQUEUE_FED": ("RF", "pending"),
    "REQUEUE_HOLD": ("RH", "pending"),
    "SPECIAL_EXIT": ("SE", "pending"),
    "STOPPED": ("ST", "running"),
    "REVOKED": ("RV", "unknown"),
    "RESV_DEL_HOLD": ("RD", "pending"),
    "SIGNALING": ("SI", "unknown"),
    "LAUNCH_FAILED": ("", "unknown"),
    "RECONFIG_FAIL": ("", "unknown"),
    "POWER_UP_NODE": ("", "unknown"),
    "UPDATE_DB": ("", "unknown"),
}
_STATES: Mapping[str, State] = {
    word: state for table in (_BASES, _FLAGS) for long, (short, state) in table.items() for word in (long, short) if word
}


@frozen
class Meaning:
    """What a state's word means."""

    word: str
    """As it was printed."""
    state: State
    final: bool
    """The job will not run again, unless somebody requeues it by hand."""
    known: bool
    """False: the word is in no table of ours; the state it had before still stands."""


def interpret(word: str) -> Meaning:
    """Return what a word of squeue, sacct or scontrol means, long or short, in any case.

    `CANCELLED by 123` and words that sacct has cut (`OUT_OF_ME+`) are understood.
    """
    printed = clean(word, _LONGEST)
    key = printed.upper().split(" ", 1)[0]
    if key.endswith("+"):
        key = _whole(key[:-1])
    state = _STATES.get(key, "unknown")
    return Meaning(printed, state, state not in ("pending", "running", "unknown"), key in _STATES)


def _whole(start: str) -> str:
    """Return the only long word that begins so, or what was given."""
    found = [word for word in (*_BASES, *_FLAGS) if word.startswith(start)]
    return found[0] if len(found) == 1 and len(start) > 1 else start
