"""Progress: plain lines without a terminal, one live line a phase with one."""

import io
import re
import time

import pytest
from rich.console import Console

from aifactory_bench.cli.progress import Progress
from aifactory_bench.events import RunEvent

SECOND_NS = 1_000_000_000


def _told(*events: RunEvent, terminal: bool = False, quiet: bool = False, several: bool = False) -> str:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=80, highlight=False, color_system=None)
    with Progress(quiet=quiet, several=several, console=console) as progress:
        listener = progress.listener("quick")
        for event in events:
            listener(event)
    return stream.getvalue()


def _planned(points: int = 1) -> RunEvent:
    return RunEvent(0, "planned", data={"jobs": 2, "points": points, "folder": "/runs/x"})


def _phase(name: str, at_s: float, job: str = "load", rank: int = 0) -> RunEvent:
    return RunEvent(int(at_s * SECOND_NS), "phase", job, {"name": name, "rank": rank})


def test_each_phase_is_a_line_with_its_time() -> None:
    """The time of a phase is the node's own: from its beginning to that of the next."""
    said = _told(_planned(), _phase("warmup", 10), _phase("measure", 12.5), RunEvent(17 * SECOND_NS, "job_ended", "load"))
    assert said.splitlines() == [
        "2 jobs, 1 measurements, in /runs/x",
        "warmup   load          2.5 s",
        "measure  load          4.5 s",
        "load ended",
    ]


def test_only_the_first_replica_is_told() -> None:
    """Four replicas do not make four lines a phase."""
    said = _told(_phase("warmup", 1), _phase("warmup", 1, rank=1), _phase("measure", 2), _phase("measure", 2, rank=1))
    assert said == "warmup   load          1.0 s\n"


def test_many_points_are_told_one_line_each() -> None:
    """A matrix of many points does not scroll the screen away."""
    events = [_planned(50)]
    for number in range(3):
        events += [_phase("warmup", number), _phase("measure", number + 0.5)]
        events += [RunEvent(0, "point_finished", "load", {"point": f"p{number:04}-r1", "status": "ok", "rank": 0})]
    assert _told(*events).splitlines()[1:] == [
        "point 1/50  load  p0000-r1  ok",
        "point 2/50  load  p0001-r1  ok",
        "point 3/50  load  p0002-r1  ok",
    ]


def test_several_runs_are_told_apart() -> None:
    """With more than one run at a time each line begins with its recipe."""
    assert _told(_phase("start", 1), _phase("ready", 2), several=True) == "quick: start    load          1.0 s\n"


def test_quiet_says_nothing() -> None:
    """`--quiet` leaves the result only."""
    assert _told(_planned(), _phase("start", 1), _phase("ready", 2), quiet=True) == ""
    assert _told(_planned(), _phase("start", 1), terminal=True, quiet=True) == ""


@pytest.mark.parametrize("kind", ["warning", "stopping", "job_ended"])
def test_text_from_a_node_cannot_drive_the_terminal(kind: str) -> None:
    """Escapes in what a node says are shown, not obeyed; neither is markup."""
    evil = "\x1b]0;owned\x07 [bold]x[/bold]"
    said = _told(RunEvent(0, kind, "load", {"text": evil, "reason": evil, "state": "failed"}))
    assert "?]0;owned? [bold]x[/bold]" in said
    assert "\x1b" not in said


def test_ended_job_that_did_not_complete_says_why() -> None:
    """A failed job is told with its text."""
    assert "cache failed: no binary" in _told(RunEvent(0, "job_ended", "cache", {"state": "failed", "text": "no binary"}))


def test_server_says_what_it_is() -> None:
    """Once a service answers, its name and version are shown."""
    event = RunEvent(0, "ready", "cache", {"waited_s": 0.1, "facts": {"server_name": "redis", "server_version": "7.4.1"}})
    assert _told(event) == "cache answers: redis 7.4.1\n"


def test_live_line_says_how_long_a_phase_is_to_last() -> None:
    """Of the point that is measured now; a phase without a set length shows its time alone."""
    asked_s = {"load/p0000-r1": {"warmup": 5.0, "measure": 30.0}, "load/p0001-r1": {"warmup": 0.5, "measure": 90.0}}
    planned = RunEvent(0, "planned", data={**_planned(2).data, "asked_s": asked_s})
    started = [RunEvent(0, "point_started", "load", {"point": f"p000{number}-r1", "rank": 0}) for number in range(2)]
    since_s = time.time() - 12.3

    def live(*events: RunEvent) -> str:
        return _told(planned, *events, terminal=True)

    assert re.search(r"measure  load +1[23]\.\d / 30 s  point 1/2", live(started[0], _phase("measure", since_s)))
    assert re.search(r"measure  load +1[23]\.\d / 90 s", live(*started, _phase("measure", since_s)))
    assert re.search(r"warmup   load +1[23]\.\d / 0.5 s", live(*started, _phase("warmup", since_s)))
    assert re.search(r"drain    load +1[23]\.\d s", live(*started, _phase("drain", since_s)))
    assert re.search(r"measure  cache +1[23]\.\d s$", live(*started, _phase("measure", since_s, "cache")), re.MULTILINE)


def test_live_line_is_gone_at_the_end() -> None:
    """On a terminal the changing line is erased, and the cursor is shown again."""
    said = _told(_planned(), _phase("measure", 1), terminal=True)
    assert "measure  load" in said
    assert said.rstrip().endswith("\x1b[2K") or "\x1b[?25h" in said.splitlines()[-1]


def test_a_job_in_a_queue_says_what_it_waits_for() -> None:
    """Each reason once as it changes, and how long it took in all."""

    def waits(reason: str, at_s: float) -> RunEvent:
        return RunEvent(int(at_s * SECOND_NS), "job_state", "load", {"state": "pending", "text": reason})

    said = _told(waits("", 0), waits("Priority", 1), waits("Resources", 3), _phase("start", 5), _phase("ready", 6))
    assert said.splitlines() == [
        "load waits in the queue: Priority",
        "load waits in the queue: Resources",
        "queue    load          4.0 s",
        "start    load          1.0 s",
    ]
