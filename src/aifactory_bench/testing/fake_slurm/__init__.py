"""A Slurm that is simulated: real executables, a queue on disk, and a clock and faults in the hands of the test."""

from .behaviour import Behaviour, Execute, Instant, Never
from .cluster import Call, FakeJob, FakeSlurm
from .faults import (
    Fault,
    Faults,
    Refusal,
    Switch,
    delay,
    down,
    empty,
    freeze,
    late,
    lost_after,
    lost_before,
    noise,
    refused,
    truncated,
    unknown_state,
)

__all__ = [
    "Behaviour",
    "Call",
    "Execute",
    "FakeJob",
    "FakeSlurm",
    "Fault",
    "Faults",
    "Instant",
    "Never",
    "Refusal",
    "Switch",
    "delay",
    "down",
    "empty",
    "freeze",
    "late",
    "lost_after",
    "lost_before",
    "noise",
    "refused",
    "truncated",
    "unknown_state",
]
