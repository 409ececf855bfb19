"""A probe that hangs is told as one, and not as one that was never asked."""

import threading
import time
from typing import Any

import pytest

from aifactory_bench.node import readiness


class Watch:
    """Waits, and has no reason to end."""

    class Wakeup:
        """Wakes nobody."""

        def wake(self) -> None:
            """Do nothing."""

    wakeup = Wakeup()

    def pause(self, limit_s: float) -> None:
        """Wait."""
        time.sleep(min(limit_s, 0.02))


@pytest.mark.parametrize(
    ("patient_s", "said"),
    [(0.1, r"the first question has not come back for 0\.\d s: give `probe` a time limit"), (2.0, r"for 0\.\d s")],
)
def test_the_first_question_hangs(monkeypatch: pytest.MonkeyPatch, patient_s: float, said: str) -> None:
    """Before the time after which it is given up; where the time was short, nobody is to blame."""
    monkeypatch.setattr(readiness, "_PATIENT_S", patient_s)
    back = threading.Event()
    watch: Any = Watch()
    with pytest.raises(readiness.ReadyTimeout, match=said + r"\Z"):
        readiness.wait_until_ready(lambda: {"late": back.wait(30)}, watch, 0.3, lambda _waited_s: None)
    back.set()


def test_each_question_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them are given up; the text says what is to be done."""
    monkeypatch.setattr(readiness, "HUNG_S", 0.1)
    monkeypatch.setattr(readiness, "_PATIENT_S", 0.05)
    back = threading.Event()
    watch: Any = Watch()
    with pytest.raises(readiness.ReadyTimeout, match=r"the question has not come back for 0\.1 s: give `probe` a time limit"):
        readiness.wait_until_ready(lambda: {"late": back.wait(30)}, watch, 0.5, lambda _waited_s: None)
    back.set()
