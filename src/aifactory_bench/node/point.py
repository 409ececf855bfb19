"""One point of a client on one rank: prepare, meet the others, run the window, meet again, collect.

The servers' counters are read by rank 0 of every client, after all ranks of all clients have prepared and before any
begins, and after all have ended and before any goes on. So they enclose exactly what all of them send in warm-up, window
and drain together. Before the window they are read twice: what one reading itself adds to `operations` is taken off again;
of the readings of several clients a few operations may remain.
"""

import platform
import socket
import time
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Dict, List, Optional, Union
from urllib.parse import urlsplit

from .arguments import tool_values
from .barrier import Barrier, BarrierBroken, Start
from .contract import Context
from .events import EventLog
from .exit_record import masked
from .files import make_private_folder
from .interrupt import Interrupt, Stopped
from .measurement import Measurement
from .paths import RankPaths, RunPaths
from .spec import ClientSpec, PointSpec, Spec
from .targets import ReadCounters, Targets
from .window import LoadWindow, ToolWindow

if TYPE_CHECKING:
    from .search_window import SearchWindow

# The ranks' windows end together; what may differ is how long each drains.
_END_MARGIN_S = 30.0
_CONNECT_S = 0.0002
"""For each connection that a rank opens before the start; measured: 0.1 ms."""
_MEETINGS = ("prepared", "start", "ended", "read")


@dataclass
class ClientRank:
    """One rank of a client: what all its points share."""

    run: RunPaths
    spec: Spec
    client: ClientSpec
    rank: int
    module: ModuleType
    counters: Optional[ReadCounters]
    events: EventLog
    targets: Targets
    interrupt: Interrupt

    @property
    def paths(self) -> RankPaths:
        """This rank's folder."""
        return self.run.job(self.spec.token).rank(self.rank)

    def hidden(self) -> List[str]:
        """Return all texts that must not be shown."""
        urls = [urlsplit(target.url).password for target in self.client.targets.values() if target.url]
        return [text for text in (*self.targets.secrets().values(), *urls) if text]


class Point:
    """One point; made once and measured once."""

    def __init__(self, job: ClientRank, spec: PointSpec, first: bool) -> None:
        self._job = job
        self._spec = spec
        self._first = first
        self._before: Dict[str, float] = {}
        self._after: Dict[str, float] = {}
        self._no_counters = ""
        self._phases_s: Dict[str, float] = {}
        self._meetings = {
            name: Barrier(job.run, f"{spec.id}-{name}", job.spec.token, job.rank, spec.participants) for name in _MEETINGS
        }
        self.prepared = False
        """Whether the data has been brought into place."""

    def forget(self) -> None:
        """Remove what an earlier execution of this rank left at the meetings."""
        for meeting in self._meetings.values():
            meeting.forget()

    def give_up(self, text: str) -> None:
        """Let the other ranks know that this one will not measure the point, or not to its end."""
        text = masked(text, self._job.hidden())
        for meeting in self._meetings.values():
            meeting.fail(text)

    def measure(self) -> Measurement:
        """Return the measurement, whole or cut.

        Raises:
            Stopped: the job was stopped before there was anything to measure.
            Exception: there is no measurement; whatever the product's module raises is among them.
        """
        try:
            return self._measure()
        except BaseException as error:
            self.give_up(str(error) or type(error).__name__)
            raise

    def _measure(self) -> Measurement:
        job, spec = self._job, self._spec
        context = self._context()
        job.events.phase("prepare")
        began = time.monotonic()
        with job.interrupt.at_once():
            prepare = getattr(job.module, "prepare", None)
            done = dict(prepare(context) or {}) if prepare is not None else {}
            self.prepared = True
            window = self._window(context)
        self._phases_s["prepare"] = time.monotonic() - began
        patience_s = job.client.wait_timeout_s + spec.budget_s
        self._meetings["prepared"].meet(patience_s, job.interrupt.reason)
        self._read_before(context)
        start = self._meetings["start"].meet(patience_s, job.interrupt.reason, self._ready_s(context))
        deadline = time.monotonic() + spec.budget_s
        if start.late_s > 0:
            job.events.append("warning", text=f"learned of the start of point {spec.id} {start.late_s:.3f} s too late")
        window.run(start, self._stop_at(deadline), spec.budget_s)
        self._meet_at_end(deadline, context)
        job.events.phase("collect")
        began = time.monotonic()
        measurement = window.collect()
        measurement.prepare = done
        self._complete(measurement, context, start)
        self._phases_s["collect"] = time.monotonic() - began
        for name, seconds in self._phases_s.items():
            measurement.phases_s.setdefault(name, seconds)
        return measurement

    def _context(self) -> Context:
        job, spec = self._job, self._spec
        return Context(
            client=job.spec.job,
            kind=job.spec.kind,
            rank=job.rank,
            ranks=job.spec.ranks,
            seed=int(spec.load.get("seed", 0)) + job.rank,
            endpoints=job.targets.endpoints(),
            secrets=job.targets.secrets(),
            service_parameters=job.targets.parameters(),
            parameters=spec.parameters,
            load=spec.load,
            point=spec.id,
            repetition=spec.repetition,
            reset=spec.reset,
            first=self._first,
            folder=make_private_folder(job.paths.raw(spec.id)),
            events=job.events,
            commands=tuple(map(tuple, spec.commands)),
        )

    def _window(self, context: Context) -> "Union[LoadWindow, SearchWindow, ToolWindow]":
        job = self._job
        if job.client.mode == "load" and context.load.get("search"):
            from .search_window import SearchWindow  # which loads the load core

            return SearchWindow(context, job.module, job.run, job.spec.token)
        if job.client.mode == "load":
            return LoadWindow(context, job.module)
        values = tool_values(job.spec, context, job.paths)
        return ToolWindow(context, job.module, self._spec.commands, values, job.hidden())

    def _ready_s(self, context: Context) -> float:
        """Return what the load core needs to open its connections; a tool is started at the start."""
        if self._job.client.mode != "load":
            return 0.0
        total = context.load.get("concurrency") or context.load.get("connections") or 0
        return context.share(int(total)) * _CONNECT_S

    def _stop_at(self, deadline: float) -> "_Stop":
        return _Stop(self._job.interrupt, deadline, self._spec.budget_s)

    def _meet_at_end(self, deadline: float, context: Context) -> None:
        """Wait for all windows to end; a measurement that was made is kept whatever comes of it."""
        stop = self._job.interrupt.reason
        patience_s = max(0.0, deadline - time.monotonic()) + _END_MARGIN_S
        try:
            # Asked first: one rank alone has nobody to wait for.
            reason = stop()
            if reason:
                raise BarrierBroken(reason)
            self._meetings["ended"].meet(patience_s, stop)
            self._after = self._read(context)
            self._meetings["read"].meet(_END_MARGIN_S, stop)
        except (BarrierBroken, Stopped) as error:
            self._no_counters = self._no_counters or str(error)
            self.give_up(str(error))

    def _read_before(self, context: Context) -> None:
        first, self._before = self._read(context), self._read(context)
        if "operations" in first and "operations" in self._before:
            self._before["operations"] += self._before["operations"] - first["operations"]

    def _read(self, context: Context) -> Dict[str, float]:
        if self._job.rank != 0 or self._no_counters:
            return {}
        try:
            with self._job.interrupt.at_once():
                return self._job.targets.counters(self._job.counters, context.secrets)
        except Exception as error:  # of a stranger's module; the measurement is worth more than its counters
            self._no_counters = f"{type(error).__name__}: {error}"
            return {}

    def _complete(self, measurement: Measurement, context: Context, start: Start) -> None:
        """Add what the window itself cannot know."""
        job, spec = self._job, self._spec
        measurement.point, measurement.client, measurement.kind = spec.id, job.spec.job, job.spec.kind
        measurement.rank = job.rank
        counts = measurement.counts
        if measurement.status != "ok" or counts.error or counts.timeout or not counts.ok:
            job.interrupt.look_after_trouble()
        measurement.services = job.targets.fates(context.endpoints)
        if self._before and self._after:
            measurement.server_before, measurement.server_after = self._before, self._after
        elif job.counters is not None:
            other_rank = "" if job.rank == 0 else "read by rank 0 for all"
            measurement.absent.setdefault("server_after", other_rank or self._no_counters or "the server gives none")
        measurement.provenance.update(
            {
                "seed": context.seed,
                "ranks": context.ranks,
                "repetition": spec.repetition,
                "reset": spec.reset,
                "host": socket.gethostname(),
                "hosts": list(start.hosts),
                "python": platform.python_version(),
                "started_late_s": start.late_s,
                "endpoints": {role: [asdict(endpoint) for endpoint in found] for role, found in context.endpoints.items()},
            }
        )


class _Stop:
    """What the window asks: why to end now, or None."""

    def __init__(self, interrupt: Interrupt, deadline: float, budget_s: float) -> None:
        self._interrupt = interrupt
        self._deadline = deadline
        self._budget_s = budget_s

    def __call__(self) -> Optional[str]:
        reason = self._interrupt.reason()
        if reason is None and time.monotonic() >= self._deadline:
            return f"the point took longer than its {self._budget_s:g} s"
        return reason
