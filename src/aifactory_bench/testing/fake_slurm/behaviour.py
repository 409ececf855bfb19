"""What a test lets jobs do."""

from typing import Any, TypeAlias

from attrs import frozen


@frozen
class Instant:
    """Nothing is executed: the job waits, runs and ends by the clock. Times in seconds of the cluster's clock."""

    run_s: float = 60.0
    """`math.inf`: until the test, a time limit or scancel ends it."""
    pending_s: float = 0.0
    """Time for which it waits even though there is room."""
    completing_s: float = 0.0
    """Time for which it is COMPLETING, however it ends."""
    state: str = "COMPLETED"
    exit_code: int = 0
    signal: int = 0


@frozen
class Execute:
    """The script is run by its interpreter, in a session of its own, and the job ends when it does."""

    pending_s: float = 0.0


@frozen
class Never:
    """The job is taken, and waits for ever."""

    reason: str = "PartitionConfig"


Behaviour: TypeAlias = Instant | Execute | Never


def columns(behaviour: Behaviour) -> dict[str, Any]:
    """Return a behaviour as the executables read it."""
    waits = {"mode": "never", "pending_s": 0.0, "run_s": 0.0, "completing_s": 0.0}
    outcome = {"final_state": "COMPLETED", "final_exit": 0, "final_signal": 0, "reason": ""}
    match behaviour:
        case Instant():
            return {
                "mode": "instant",
                "pending_s": behaviour.pending_s,
                "run_s": behaviour.run_s,
                "completing_s": behaviour.completing_s,
                "final_state": behaviour.state,
                "final_exit": behaviour.exit_code,
                "final_signal": behaviour.signal,
                "reason": "",
            }
        case Execute():
            return waits | outcome | {"mode": "execute", "pending_s": behaviour.pending_s}
        case Never():
            return waits | outcome | {"reason": behaviour.reason}
