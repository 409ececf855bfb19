"""squeue: one question for all jobs of a user."""

from attrs import frozen

from .printed import JOB_ID, clean, lines_of

SQUEUE_FORMAT = "%i|%T|%N|%j|%r"
"""Id, state, nodes, name, reason.

Of these only the last two are free text. A name of ours has letters, digits and hyphens, so that the separator stands in no
field of our jobs but the last; a foreign job whose name holds it shifts its own fields only.
"""

_LONGEST_WORD = 64
_LONGEST_NAME = 128
_LONGEST_NODES = 1 << 16
_LONGEST_REASON = 300


@frozen
class QueueRow:
    """One job that the controller of the cluster still knows, finished ones included."""

    job_id: str
    """`4`; a task of an array `9_2`, a part of a heterogeneous job `15+1`."""
    name: str
    word: str
    """State as it was printed, for `states.interpret`."""
    reason: str
    """Empty: none."""
    nodes: str
    """As Slurm folds them, for `control.expand_hosts`; empty: none yet."""


@frozen
class Queue:
    """One answer of squeue."""

    rows: tuple[QueueRow, ...]
    bad: int
    """Lines that are no row."""


def squeue_argv(user: str) -> list[str]:
    """Return the command that lists every job of a user, also those that ended a few minutes ago, tasks of arrays one by one.

    A row takes about 85 bytes with a name of 45 characters: id 8, state 7, nodes 10, reason 9, four separators and a newline.
    It has no times, so that nothing in the user's environment changes it.
    For a user whom the login node does not know squeue complains, prints nothing, and ends with 0.
    """
    return ["squeue", "--noheader", "--array", "--states=all", f"--user={user}", f"--format={SQUEUE_FORMAT}"]


def parse_squeue(text: str) -> Queue:
    """Return the rows of an answer; whatever else it holds is counted and left out."""
    rows = []
    bad = 0
    for line in lines_of(text):
        if row := _row(line):
            rows.append(row)
        else:
            bad += 1
    return Queue(tuple(rows), bad)


def _row(line: str) -> QueueRow | None:
    fields = line.split("|", 4)
    if len(fields) < 5 or not JOB_ID.fullmatch(fields[0].strip()):
        return None
    word = clean(fields[1], _LONGEST_WORD)
    if not word or len(fields[2]) > _LONGEST_NODES:
        return None
    reason = clean(fields[4], _LONGEST_REASON)
    return QueueRow(
        job_id=fields[0].strip(),
        name=clean(fields[3], _LONGEST_NAME),
        word=word,
        reason="" if reason == "None" else reason,
        nodes=clean(fields[2], _LONGEST_NODES),
    )
