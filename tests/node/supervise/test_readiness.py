"""Asking a service: questions that hang do not hold up the asking, and do not keep a processor busy."""

import threading
import time
from typing import Any

import pytest

from aifactory_bench.node import readiness


class Wakeup:
    """Takes the news of a thread."""

    def wake(self) -> None:
        """Nobody waits on this one."""


class Watch:
    """Waits at most a little, and counts how often it was asked to."""

    def __init__(self) -> None:
        self.wakeup = Wakeup()
        self.pauses = 0

    def pause(self, limit_s: float) -> None:
        """Wait."""
        self.pauses += 1
        time.sleep(min(limit_s, 0.05))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question hangs after a tenth of a second."""
    monkeypatch.setattr(readiness, "HUNG_S", 0.1)


@pytest.mark.usefixtures("impatient")
def test_waiting_for_hung_questions_costs_nothing() -> None:
    back = threading.Event()
    watch: Any = Watch()
    with pytest.raises(readiness.ReadyTimeout):
        readiness.wait_until_ready(lambda: {"late": back.wait(30)}, watch, 2.0, lambda _waited_s: None)
    back.set()
    assert watch.pauses < 200


@pytest.mark.usefixtures("impatient")
def test_questions_that_came_back_late_make_room_for_others() -> None:
    back = threading.Event()
    asked = []

    def probe() -> "dict[str, Any]":
        asked.append(1)
        if len(asked) <= 4:
            back.wait(30)
        return {"asked": len(asked)}

    def check(waited_s: float) -> None:
        if waited_s > 1.0:
            back.set()

    watch: Any = Watch()
    ready = readiness.wait_until_ready(probe, watch, 20.0, check)
    assert ready.facts == {"asked": 5}
