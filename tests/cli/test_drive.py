"""Runs under way: signals, several at a time, what each came to. The runs are doubles; the signals are real."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from aifactory_bench.cli.drive import Driver, Outcome, Start
from aifactory_bench.errors import RecipeError


class Run:
    """A run that ends when it is told to."""

    def __init__(self, log: list[str], name: str, lasts_s: float | None = None) -> None:
        self.log, self.name, self.lasts_s = log, name, lasts_s
        self.over = asyncio.Event()
        self.status = "finished"

    async def wait(self) -> Any:
        self.log.append(f"{self.name} begins")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.over.wait(), self.lasts_s)
        self.log.append(f"{self.name} {self.status}")
        return self.status

    def request_stop(self) -> None:
        self.status = "interrupted"
        self.log.append(f"{self.name} told to stop")

    def detach(self) -> None:
        self.status = "detached"
        self.over.set()


def _start(log: list[str], name: str, lasts_s: float | None = None, *, then: Callable[[], None] | None = None) -> Start:
    async def begin() -> Any:
        if then is not None:
            asyncio.get_running_loop().call_later(0.05, then)
        return Run(log, name, lasts_s)

    return Start(name, begin)


def _press(number: int = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


def _drive(starts: list[Start], parallel: int = 1) -> tuple[list[Outcome], list[str], list[Outcome]]:
    said: list[str] = []
    told: list[Outcome] = []
    outcomes = asyncio.run(Driver(said.append, parallel).drive(starts, told.append))
    return outcomes, said, told


def test_runs_follow_one_another() -> None:
    """Without `--parallel` the second run begins when the first is over."""
    log: list[str] = []
    outcomes, said, told = _drive([_start(log, "a", 0.02), _start(log, "b", 0.02)])
    assert log == ["a begins", "a finished", "b begins", "b finished"]
    assert [outcome.label for outcome in outcomes] == ["a", "b"]
    assert told == outcomes
    assert said == []


def test_parallel_runs_overlap_up_to_the_limit() -> None:
    """Two at a time, the third when there is room."""
    log: list[str] = []
    _drive([_start(log, "a", 0.02), _start(log, "b", 0.2), _start(log, "c", 0.02)], parallel=2)
    assert log[:2] == ["a begins", "b begins"]
    assert log.index("c begins") > log.index("a finished")
    assert log.index("c begins") < log.index("b finished")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_stops_and_says_so(number: int) -> None:
    """The run is told to stop, the user how to leave it, and the summary is waited for."""
    log: list[str] = []
    outcomes, said, _ = _drive([_start(log, "a", 0.4, then=lambda: _press(number))])
    assert log == ["a begins", "a told to stop", "a interrupted"]
    assert outcomes[0].summary == "interrupted"
    assert said == ["stopping jobs, keeping what was measured (Ctrl-C again to leave them)"]


def test_second_signal_leaves_the_run() -> None:
    """Who presses twice gets the prompt back at once; the run goes on."""
    log: list[str] = []

    def twice() -> None:
        _press()
        asyncio.get_running_loop().call_later(0.05, _press)
        asyncio.get_running_loop().call_later(0.1, _press)

    outcomes, said, _ = _drive([_start(log, "a", 30, then=twice)])
    assert outcomes[0].summary == "detached"
    assert len(said) == 2
    assert "attach" in said[1]


def test_runs_that_have_not_begun_do_not_begin_after_a_signal() -> None:
    """An interruption is for all recipes; the ones behind are told as not begun, with exit code 130."""
    log: list[str] = []
    outcomes, _, _ = _drive([_start(log, "a", 0.2, then=_press), _start(log, "b", 0.1)])
    assert not any("b" in line.split() for line in log)
    assert outcomes[1] == Outcome("b")
    assert outcomes[1].exit_code == 130


def test_signal_while_a_run_begins_stops_it() -> None:
    """A signal between the start and the run's being there is not lost."""
    log: list[str] = []

    async def begin() -> Any:
        _press()
        await asyncio.sleep(0.05)
        return Run(log, "a", 0.1)

    outcomes, _, _ = _drive([Start("a", begin)])
    assert "a told to stop" in log
    assert outcomes[0].summary == "interrupted"


def test_error_of_one_recipe_leaves_the_others() -> None:
    """A bad recipe becomes its own outcome, and the next one runs."""
    log: list[str] = []

    async def begin() -> Any:
        raise RecipeError("no such file")

    outcomes, _, _ = _drive([Start("bad", begin), _start(log, "good", 0.02)])
    assert (outcomes[0].exit_code, str(outcomes[0].error)) == (2, "no such file")
    assert log == ["good begins", "good finished"]


def test_operating_system_error_becomes_one_for_users() -> None:
    """What the system refuses while a run begins is an outcome, too."""

    async def begin() -> Any:
        raise PermissionError(13, "Permission denied", "/runs/x")

    outcomes, _, _ = _drive([Start("a", begin)])
    assert outcomes[0].exit_code == 1
    assert "/runs/x: Permission denied" in str(outcomes[0].error)


def test_signal_handlers_are_given_back() -> None:
    """After the runs, Ctrl-C and SIGTERM do what they did before."""
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    _drive([_start([], "a", 0.01)])
    assert {number: signal.getsignal(number) for number in former} == former
