"""Faults, as the executables meet them: which one strikes a call, and what it does to it."""

import os
import signal
import time
from typing import Any, Optional

from .options import Answer
from .store import Store

TIMED_OUT = "Socket timed out on send/recv operation"
NO_CONTROLLER = "Unable to contact slurm controller (connect failure)"
_NO_DATABASE = (
    "slurm_persist_conn_open_without_init: failed to open persistent connection to host:localhost:6819: Connection refused",
    "Sending PersistInit msg: Connection refused",
    "Problem talking to the database: Connection refused",
)
_MASK = (1 << 64) - 1
_POLL_S = 0.005


class Fault:
    """What happens to a call that a fault strikes."""

    wait_s: float
    """Time of the machine."""
    frozen: int
    """Whether it also waits until the test releases it."""
    waits: str
    """When it waits: `before` or `after` the effect."""
    effect: str
    """`done`, `none`, or `late`: what is submitted appears `late_s` later."""
    late_s: float
    """Time of the cluster."""
    says: str
    """`own` words, `text` given by the test, `timed out`, `no controller`, or `killed`: nothing, by SIGKILL."""
    stdout: str
    stderr: str
    """The text given by the test; with `own`, what comes before its words."""
    exit_code: int
    keep_bytes: Optional[int]
    """How much of standard output comes out; None: all."""
    word: str
    """State of every job, to squeue and sacct."""

    def __init__(self, number: int, values: "list[Any]") -> None:
        self.number = number
        self.__dict__.update(zip(FIELDS, values, strict=True))


FIELDS = tuple(Fault.__annotations__)


def strike(store: Store, command: str) -> Optional[Fault]:
    """Return the fault of a call: of those that it meets, the one that was switched on first."""
    columns = ", ".join(FIELDS)
    statement = f"SELECT id, calls_left, chance, draws, {columns} FROM faults WHERE command IN (?, '*') ORDER BY id"  # noqa: S608
    for number, left, chance, draws, *values in store.query(statement, command):
        if left == 0:
            continue
        if chance < 1:
            store.query("UPDATE faults SET draws = draws + 1 WHERE id = ?", number)
            if _random(draws) >= chance:
                continue
        store.query("UPDATE faults SET fired = fired + 1, calls_left = calls_left - 1 WHERE id = ?", number)
        return Fault(number, values)
    return None


def _random(draws: int) -> float:
    """Return a number from 0 to 1 that depends on nothing else (splitmix64)."""
    value = (draws + 1) * 0x9E3779B97F4A7C15 & _MASK
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    value = (value ^ value >> 27) * 0x94D049BB133111EB & _MASK
    return ((value ^ value >> 31) >> 11) / (1 << 53)


def wait(folder: str, fault: Fault) -> None:
    """Wait as long as a fault says."""
    time.sleep(fault.wait_s)
    while fault.frozen and not os.path.exists(os.path.join(folder, "released", str(fault.number))):
        time.sleep(_POLL_S)


def distort(fault: Fault, command: str, arguments: "list[str]", given: Answer) -> Answer:
    """Return what a command says under a fault, or end it without a word."""
    if fault.says == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault.says == "text":
        return Answer(fault.stdout, fault.stderr, fault.exit_code)
    if fault.says == "timed out":
        return unreachable(command, arguments, TIMED_OUT)
    if fault.says == "no controller":
        return unreachable(command, arguments, NO_CONTROLLER)
    kept = given.stdout.encode(errors="surrogateescape")[: fault.keep_bytes].decode(errors="surrogateescape")
    return Answer(fault.stdout + kept, fault.stderr + given.stderr, given.code)


def unreachable(command: str, arguments: "list[str]", why: str) -> Answer:
    """Return what a command says when the controller does not answer it; why: Slurm's words for that."""
    if command == "sbatch":
        return Answer("", f"sbatch: error: Batch job submission failed: {why}\n", 1)
    if command == "sacct":
        return Answer("", "".join(f"sacct: error: {line}\n" for line in _NO_DATABASE), 1)
    if command == "sinfo":
        return Answer("", f"slurm_load_partitions: {why}\n", 1)
    if command == "scancel":
        ids = [word for word in arguments if word[:1].isdigit()]
        text = "".join(f"scancel: error: Kill job error on job id {job}: {why}\n" for job in ids)
        return Answer("", text or f"slurm_load_jobs error: {why}\n", 140 if why == TIMED_OUT else 8)
    if command == "sstat":
        return Answer("", "".join(f"sstat: error: couldn't get steps for job {word}\n" for word in arguments if word.isdigit()))
    if command == "scontrol" and arguments[:1] == ["ping"]:
        stars = "*" * 41
        return Answer(
            f"Slurmctld(primary) at fake-ctl is DOWN\n{stars}\n** RESTORE SLURMCTLD DAEMON TO SERVICE **\n{stars}\n", "", 1
        )
    what = "slurm_load_ctl_conf" if command == "scontrol" and "config" in arguments else "slurm_load_jobs"
    return Answer("", f"{what} error: {why}\n", 1)
