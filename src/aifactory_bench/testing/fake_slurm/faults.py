"""Faults that a test switches on."""

import pathlib
from enum import Enum

from attrs import asdict, frozen

from .program.store import Store


class Refusal(Enum):
    """What sbatch writes when it refuses, by the reason for it; the words are those of Slurm 22.05."""

    ACCOUNT = "Invalid account or account/partition combination specified"
    FEATURE = "Invalid feature specification"
    NODES = "Requested node configuration is not available"
    PARTITION = "Invalid partition name specified"
    QOS = "Invalid qos specification"
    QUOTA = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
    TIME_LIMIT = "Requested time limit is invalid (missing or exceeds some limit)"
    TEMPORARY = "Resource temporarily unavailable"
    CREDENTIAL = "Protocol authentication error"
    STANDBY = "Slurm backup controller in standby mode"


@frozen
class Fault:
    """What happens to a call. The functions below make those that occur; others are made of the same parts."""

    wait_s: float = 0.0
    """Time that it hangs, on the machine's clock."""
    frozen: bool = False
    """Whether it hangs until the switch releases it."""
    waits: str = "before"
    """When it hangs: `before` or `after` the effect."""
    effect: str = "done"
    """`done`, `none`, or `late`."""
    late_s: float = 0.0
    """With `late`, how much later what is submitted appears, on the cluster's clock."""
    says: str = "own"
    """`own` words, `text`, `timed out`, `no controller`, or `killed`: it dies by SIGKILL without a word."""
    stdout: str = ""
    stderr: str = ""
    """What it says with `text`; with `own`, what comes before its own words."""
    exit_code: int = 0
    keep_bytes: int | None = None
    """How much of standard output comes out; None: all of it."""
    word: str = ""
    """What squeue and sacct say of every job's state; empty: the truth."""


def delay(seconds: float) -> Fault:
    """Make a call hang for a time (of the machine), and then do all it has to do."""
    return Fault(wait_s=seconds)


def freeze(*, after: bool = False) -> Fault:
    """Make a call hang until it is released; after: the effect has taken place by then."""
    return Fault(frozen=True, waits="after" if after else "before")


def lost_before(*, killed: bool = False) -> Fault:
    """Lose a call before its effect: it says `Socket timed out`, or is killed."""
    return Fault(effect="none", says="killed" if killed else "timed out")


def lost_after(*, killed: bool = False) -> Fault:
    """Lose an answer after the effect: the call says `Socket timed out`, or is killed."""
    return Fault(says="killed" if killed else "timed out")


def late(seconds: float) -> Fault:
    """Let a submission say `Socket timed out` and appear in the queue so much later, on the cluster's clock."""
    return Fault(effect="late", late_s=seconds, says="timed out")


def truncated(keep_bytes: int) -> Fault:
    """Cut the output of a call that otherwise succeeds."""
    return Fault(keep_bytes=keep_bytes)


def noise(stdout: str = "", stderr: str = "") -> Fault:
    """Let something else come before a call's own output."""
    return Fault(stdout=stdout, stderr=stderr)


def unknown_state(word: str) -> Fault:
    """Let squeue and sacct say this of every job's state."""
    return Fault(word=word)


def empty(*, effect: bool = False) -> Fault:
    """Let a call succeed and print nothing; effect: whether it has done something."""
    return Fault(effect="done" if effect else "none", says="text")


def refused(why: Refusal | str, exit_code: int = 1) -> Fault:
    """Let a call fail without an effect; why: a refusal of sbatch, or the whole text on standard error."""
    text = f"sbatch: error: Batch job submission failed: {why.value}\n" if isinstance(why, Refusal) else why
    return Fault(effect="none", says="text", stderr=text, exit_code=exit_code)


def down() -> Fault:
    """Let a call say that the controller, or for sacct the database, cannot be reached."""
    return Fault(effect="none", says="no controller")


@frozen
class Switch:
    """One fault that is switched on."""

    _folder: pathlib.Path
    _number: int

    @property
    def fired(self) -> int:
        """How many calls it has struck."""
        with Store(str(self._folder)) as store:
            return int(store.query("SELECT fired FROM faults WHERE id = ?", self._number)[0][0])

    def off(self) -> None:
        """Strike no more calls, and release those that hang."""
        with Store(str(self._folder)) as store:
            store.query("UPDATE faults SET calls_left = 0 WHERE id = ?", self._number)
        self.release()

    def release(self) -> None:
        """Let the calls go on that it has frozen, and those that it strikes from now on."""
        (self._folder / "released" / str(self._number)).touch()


class Faults:
    """The switches of a cluster. A call meets the first fault that strikes it, and no other; command: a name, or `*`."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder

    def next(self, command: str, fault: Fault, count: int = 1) -> Switch:
        """Strike the next calls."""
        return self._add(command, fault, calls_left=count)

    def always(self, command: str, fault: Fault) -> Switch:
        """Strike every call until it is switched off."""
        return self._add(command, fault)

    def sometimes(self, command: str, fault: Fault, chance: float, seed: int) -> Switch:
        """Strike each call with a probability; the same seed strikes the same calls, counted from now on."""
        return self._add(command, fault, chance=chance, draws=seed % (1 << 24) << 32)

    def clear(self) -> None:
        """Switch all faults off, and release what hangs."""
        with Store(str(self._folder)) as store:
            numbers = [number for (number,) in store.query("SELECT id FROM faults")]
        for number in numbers:
            Switch(self._folder, number).off()

    def _add(self, command: str, fault: Fault, *, calls_left: int | None = None, chance: float = 1.0, draws: int = 0) -> Switch:
        row = asdict(fault) | {"command": command, "calls_left": calls_left, "chance": chance, "draws": draws, "fired": 0}
        with Store(str(self._folder)) as store:
            return Switch(self._folder, store.insert("faults", row))
