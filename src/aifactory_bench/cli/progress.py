"""Progress of runs on standard error: a live line a phase on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from attrs import define, field
from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from ..events import RunEvent
from .messages import plain
from .terminal import terminal

_FOLDED = 4
"""With more points than this, a point is told in one line instead of one a phase."""
_POINT_PHASES = frozenset({"prepare", "warmup", "measure", "drain", "collect"})


@define
class _Phase:
    name: str
    since_ns: int
    """Wall clock of the node."""
    asked_s: float | None = None
    """How long it is to last, where the recipe says."""
    spinner: Spinner = field(factory=lambda: Spinner("dots"))


class Progress:
    """Shows what runs do. Used as a context, so that the terminal is left as it was found."""

    def __init__(self, *, quiet: bool = False, several: bool = False, console: Console | None = None) -> None:
        self._console = console or terminal(stderr=True)
        self._quiet = quiet
        self._several = several
        self._phases: dict[tuple[str, str], _Phase] = {}
        """By run and job: what goes on now."""
        self._points: dict[str, tuple[int, int]] = {}
        """By run: points done, points in all."""
        self._asked_s: dict[str, Mapping[str, Mapping[str, float]]] = {}
        """By run: the event's `asked_s`."""
        self._point: dict[tuple[str, str], str] = {}
        """By run and job: the point that is measured now."""
        self._live = (
            Live(get_renderable=self._now, console=self._console, refresh_per_second=5, transient=True)
            if self._console.is_terminal and not quiet
            else None
        )

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Take the live lines away while something else is printed on the same terminal."""
        if self._live is not None:
            self._live.stop()
        yield
        if self._live is not None:
            self._live.start()

    def listener(self, label: str) -> Callable[[RunEvent], None]:
        """Return what a run is to tell its events to."""
        return lambda event: self._hear(label, event)

    def say(self, text: str) -> None:
        """Print a line that a user must see, quiet or not."""
        self._console.print(Text(plain(text), style="yellow"), soft_wrap=not self._console.is_terminal)

    def _now(self) -> Table:
        """Return the lines that change: what every job is in at this moment."""
        table = Table.grid(padding=(0, 1))
        for (label, job), phase in list(self._phases.items()):
            table.add_row(phase.spinner, self._line(label, job, phase))
        return table

    def _line(self, label: str, job: str, phase: _Phase) -> Text:
        where = f"{label} {job}" if self._several else job
        done, total = self._points.get(label, (0, 0))
        measures = (label, job) in self._point and phase.name in _POINT_PHASES
        point = f"  point {min(done + 1, total)}/{total}" if measures and total > 1 else ""
        took_s = max(0, time.time_ns() - phase.since_ns) / 1e9
        asked = f" / {phase.asked_s:g}" if phase.asked_s else ""
        return Text(plain(f"{phase.name:<8} {where:<10} {took_s:6.1f}{asked} s{point}"), no_wrap=True, overflow="ellipsis")

    def _tell(self, label: str, text: str, style: str = "") -> None:
        if self._quiet:
            return
        line = plain(f"{label}: {text}" if self._several else text)
        self._console.print(Text(line, style=style), soft_wrap=True)

    def _hear(self, label: str, event: RunEvent) -> None:
        handler = getattr(self, f"_on_{event.type}", None)
        if handler is not None:
            handler(label, event)

    def _on_planned(self, label: str, event: RunEvent) -> None:
        jobs, points = event.data["jobs"], event.data["points"]
        self._points[label] = (0, points)
        self._asked_s[label] = event.data.get("asked_s", {})
        self._tell(label, f"{jobs} jobs, {points} measurements, in {event.data['folder']}", "dim")

    def _on_job_state(self, label: str, event: RunEvent) -> None:
        reason = event.data.get("text", "")
        if event.data.get("state") != "pending" or not reason:
            return
        # It began to wait when that was first said, whatever it waits for since.
        self._phases.setdefault((label, event.job), _Phase("queue", event.wall_ns))
        self._tell(label, f"{event.job} waits in the queue: {reason}", "dim")

    def _on_phase(self, label: str, event: RunEvent) -> None:
        if not event.data.get("rank"):  # the first replica speaks for all
            self._end_phase(label, event)
            name, point = str(event.data.get("name", "")), f"{event.job}/{self._point.get((label, event.job))}"
            asked_s = self._asked_s.get(label, {}).get(point, {})
            self._phases[label, event.job] = _Phase(name, event.wall_ns, asked_s.get(name))

    def _end_phase(self, label: str, event: RunEvent) -> None:
        phase = self._phases.pop((label, event.job), None)
        if phase is None or (phase.name in _POINT_PHASES and self._points.get(label, (0, 0))[1] > _FOLDED):
            return
        took_s = max(0, event.wall_ns - phase.since_ns) / 1e9
        self._tell(label, f"{'✓ ' if self._live else ''}{phase.name:<8} {event.job:<10} {took_s:6.1f} s")

    def _on_point_started(self, label: str, event: RunEvent) -> None:
        self._point[label, event.job] = str(event.data.get("point", ""))

    def _on_point_finished(self, label: str, event: RunEvent) -> None:
        if event.data.get("rank"):
            return
        done, total = self._points.get(label, (0, 0))
        self._points[label] = (done + 1, total)
        if total > _FOLDED:
            point, status = event.data.get("point", ""), event.data.get("status", "")
            self._tell(label, f"point {done + 1}/{total}  {event.job}  {point}  {status}")

    def _on_ready(self, label: str, event: RunEvent) -> None:
        facts = event.data.get("facts") or {}
        name = " ".join(str(facts[key]) for key in ("server_name", "server_version") if facts.get(key))
        if name:
            self._tell(label, f"{event.job} answers: {name}", "dim")

    def _on_job_ended(self, label: str, event: RunEvent) -> None:
        self._end_phase(label, event)
        state = event.data.get("state", "ended")
        if state != "completed":
            self._tell(label, f"{event.job} {state}: {event.data.get('text', '')}".rstrip(": "), "red")

    def _on_stopping(self, label: str, event: RunEvent) -> None:
        self._tell(label, f"stopping: {event.data.get('reason', '')}", "yellow")

    def _on_warning(self, label: str, event: RunEvent) -> None:
        self._tell(label, f"warning: {event.job + ': ' if event.job else ''}{event.data.get('text', '')}", "yellow")

    def _on_finished(self, label: str, _event: RunEvent) -> None:
        for key in [key for key in self._phases if key[0] == label]:
            del self._phases[key]
