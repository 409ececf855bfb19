"""Asking a service again and again until it answers, without ever hanging on an answer."""

import threading
import time
from typing import Any, Callable, Dict, List, Optional

from .contract import NotReady
from .watch import Watch

FIRST_S = 0.02
LAST_S = 0.25
_INTERVAL_SHARE = 0.1
"""Of the time waited so far: asking adds at most this share to the time until a service is found ready."""
HUNG_S = 10.0
_PATIENT_S = 2.0
"""So long may a `probe` take; there may be less time than that to wait for it."""
_HUNG_MAX = 4

Probe = Callable[[], Dict[str, Any]]


class ReadyFacts:
    """What a service told, and what it took."""

    def __init__(self, facts: Dict[str, Any], attempts: int, waited_s: float) -> None:
        self.facts = facts
        self.attempts = attempts
        self.waited_s = waited_s


class ReadyTimeout(Exception):
    """It did not answer in time; the text is the last thing that it said."""


class _Attempt:
    """One question in a thread of its own: if it hangs, the thread is left behind."""

    def __init__(self, probe: Probe, done: Callable[[], None]) -> None:
        self.facts: Optional[Dict[str, Any]] = None
        self.text = ""
        self.finished = False
        self.started = time.monotonic()
        self._probe = probe
        self._done = done
        threading.Thread(target=self._run, name="probe", daemon=True).start()

    def _run(self) -> None:
        try:
            self.facts = dict(self._probe())
        except NotReady as error:
            self.text = str(error)
        except Exception as error:  # a product's probe may trip over half an answer in any way
            self.text = f"{type(error).__name__}: {error}"
        self.finished = True
        self._done()


def wait_until_ready(probe: Probe, watch: Watch, timeout_s: float, check: Callable[[float], None]) -> ReadyFacts:
    """Ask until the service answers and return its facts.

    `check` is called at every turn with the seconds waited so far and raises when waiting makes no sense any more.

    Raises:
        ReadyTimeout: it did not answer in time.
        Ending: there was a reason to end first.
    """
    started = time.monotonic()
    attempts, last_text, next_at = 0, "", started
    current: Optional[_Attempt] = None
    hung: List[_Attempt] = []
    while True:
        now = time.monotonic()
        check(now - started)
        hung = [attempt for attempt in hung if not attempt.finished]
        if current is None and now >= next_at and len(hung) < _HUNG_MAX:
            attempts += 1
            current = _Attempt(probe, watch.wakeup.wake)
        if current is not None and current.finished:
            if current.facts is not None:
                return ReadyFacts(current.facts, attempts, time.monotonic() - started)
            last_text, current = current.text or "it said nothing", None
            next_at = now + min(LAST_S, max(FIRST_S, (now - started) * _INTERVAL_SHARE))
        elif current is not None and now - current.started > HUNG_S:
            hung.append(current)
            last_text, current, next_at = _hung("the question", HUNG_S), None, now
        if now - started > timeout_s:
            # Without a word so far the first question is still out.
            raise ReadyTimeout(last_text or _hung("the first question", now - started))
        # When all hang there is nothing to do but to wait for one of them.
        waits = current is not None or len(hung) == _HUNG_MAX
        watch.pause(LAST_S if waits else max(0.001, next_at - now))


def _hung(question: str, hung_s: float) -> str:
    return f"{question} has not come back for {hung_s:.1f} s" + (": give `probe` a time limit" if hung_s > _PATIENT_S else "")
