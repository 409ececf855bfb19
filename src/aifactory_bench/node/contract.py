"""What a product's node module may define, and what it is handed.

A node module is a plain module of the standard library and `aifactory_bench.node`. The job class names it
(`node_module`). Every function is optional unless the job's role needs it:

    def probe(endpoint: Endpoint, secret: str, parameters: dict) -> dict
        Ask the service a real question with the run's own credentials; return facts (`server_name`, `server_version`).
        Raise `NotReady(text)` while it does not answer. Services need it. One that is not back within 10 s is given up and
        asked again: where a real answer may take longer than 2 s, say why.
    def alive(endpoint: Endpoint, secret: str, parameters: dict) -> dict
        The same question without the model, for services that get it through the running server: it answers at all.
    def locate(name: str) -> str | None
        Path of an executable that is not on PATH, such as one that came with a wheel.
    def counters(endpoint: Endpoint, secret: str) -> dict[str, float]
        The server's own totals; `operations` is compared with the clients' total if it is there. The service's node module
        is asked, unless the client's has one of its own.
    def sample(endpoint: Endpoint, secret: str) -> dict[str, float | None]
        The server's own figures now, the same names each time, None for what it does not show: a row of
        `samples/service.csv`, asked for beside the load on the server's node.
    def prepare(context: Context) -> dict
        Bring the data into place, outside the window; return what was done. Raise `PrepareError(text)`.
    def driver(context: Context) -> load.Driver
        For a client in mode `load`.
    def reduce(context: Context, outcome: ToolOutcome) -> Measurement
        For a client in mode `tool`: read the tool's output, judge nothing. `Measurement` and its `Counts` are here, too.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Tuple

from .endpoint import Endpoint
from .events import EventLog
from .measurement import Counts, Measurement

__all__ = ["Context", "Counts", "Endpoint", "Measurement", "NotReady", "PrepareError", "ToolOutcome"]


class NotReady(Exception):
    """The service does not answer yet; the text says what it said instead."""


class PrepareError(Exception):
    """The data could not be brought into place."""


@dataclass(frozen=True)
class Context:
    """One rank at one point."""

    client: str
    kind: str
    rank: int
    ranks: int
    seed: int
    """Of the load plus the rank."""
    endpoints: Dict[str, Tuple[Endpoint, ...]]
    """Role -> replicas."""
    secrets: Dict[str, str]
    """Role -> password or token of the service; empty for an external one that takes none."""
    service_parameters: Dict[str, Dict[str, Any]]
    """Role -> parameters of the service."""
    parameters: Dict[str, Any]
    load: Dict[str, Any]
    """Totals of the client, see `spec.PointSpec.load`; `share` splits them."""
    point: str
    repetition: int
    reset: str
    """`none`, `data`, `service`: what must be fresh in this repetition."""
    first: bool
    """The first point of this client job: nothing has been prepared yet by it."""
    folder: Path
    """For raw files, exists."""
    events: EventLog
    commands: Tuple[Tuple[str, ...], ...] = ()
    """Of a tool: what it will run at this point, encoded as in `placeholders`, inside its image where there is one."""

    def share(self, total: int) -> int:
        """Return this rank's part of a whole number; the first ranks take the remainder."""
        return total // self.ranks + (1 if self.rank < total % self.ranks else 0)


@dataclass(frozen=True)
class ToolOutcome:
    """How one command of a tool ended."""

    argv: Tuple[str, ...]
    """As run, passwords replaced by `***`."""
    exit_code: int
    """Negative: the signal that ended it."""
    timed_out: bool
    """Past its budget, stopped by us."""
    stopped: bool
    """Stopped by us because the service died or the job was stopped."""
    start_wall_ns: int
    duration_s: float
    cpu_s: float
    """User and system time of the tool and its children."""
    stdout: Path
    stderr: Path
