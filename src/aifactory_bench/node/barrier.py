"""Where the ranks of all clients of a point meet, so that all begin at one instant.

The meeting point is a folder on the shared file system. The leader (rank 0 of the smallest token) arrives by writing its
file with a nonce of its own; the others answer with files that repeat this nonce and add theirs; when the leader has an
answer from each, it writes `go.json` with the start and all nonces. A file of an earlier execution repeats an old nonce, so
it counts for nobody: neither an old answer nor an old `go.json` lets anyone through.

Who cannot come says so with a file `<token>.<rank>.failed`; who has ended has an `exit.json`. Either ends the
meeting for all.
"""

import contextlib
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Set, Tuple, TypeVar

from .files import make_private_folder, read_json, write_json
from .paths import RunPaths

# What the file of the start must take to reach every rank, and the ranks to fork their workers.
LEAD_ALONE_S = 0.05
LEAD_ONE_HOST_S = 0.1
LEAD_SEVERAL_HOSTS_S = 1.0
_POLL_S = 0.01
_POLL_SLOW_S = 0.1
_SLOW_AFTER_S = 5.0
_EXITS_EVERY_S = 0.5

_Rank = Tuple[str, int]
_Found = TypeVar("_Found")


class BarrierBroken(Exception):
    """The meeting will not take place; the text says who is missing and why."""


@dataclass(frozen=True)
class Start:
    """The instant on which all have agreed."""

    mono_ns: int
    """On this host's CLOCK_MONOTONIC."""
    wall_ns: int
    hosts: Tuple[str, ...]
    late_s: float = 0.0
    """By how much this rank learned of it too late; 0 when in time."""


class Barrier:
    """One meeting as one rank sees it."""

    def __init__(self, run: RunPaths, name: str, token: str, rank: int, participants: Mapping[str, int]) -> None:
        self._run = run
        self._folder = run.barriers / name
        self._ranks = [(token, rank) for token in sorted(participants) for rank in range(participants[token])]
        self._self = (token, rank)
        if self._self not in self._ranks:
            raise ValueError(f"{_name(self._self)} is none of those who meet at {name}: {', '.join(map(_name, self._ranks))}")
        self._nonce = os.urandom(8).hex()  # `secrets` would load a cryptographic library for this

    def forget(self) -> None:
        """Remove what an earlier execution of this very rank left at the meeting point."""
        for path in (self._arrival(self._self), self._failure(self._self)):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()

    def fail(self, text: str) -> None:
        """Let the others know that this rank will not come, or has given up."""
        if len(self._ranks) > 1:
            make_private_folder(self._folder)
            write_json(self._failure(self._self), {"text": text})

    def trouble(self) -> Optional[str]:
        """Return why one of the others cannot come any more, or None; asks the file system."""
        if len(self._ranks) == 1:
            return None
        make_private_folder(self._folder)
        return self._gone(look_at_exits=True)

    def meet(self, timeout_s: float, stop: Callable[[], Optional[str]], ready_s: float = 0.0) -> Start:
        """Wait for all others and return the start that they share, a moment ahead.

        `ready_s` is what this rank needs to get ready for the start; the longest of all ranks counts.

        Raises:
            BarrierBroken: somebody cannot come, the time is over, or `stop` gave a reason; the others are told.
        """
        if len(self._ranks) == 1:
            return _start_in(LEAD_ALONE_S + ready_s, (socket.gethostname(),))
        make_private_folder(self._folder)
        try:
            meet = self._lead if self._self == self._ranks[0] else self._follow
            return meet(timeout_s, stop, ready_s)
        except BaseException as error:
            self.fail(str(error) or type(error).__name__)
            raise

    def _lead(self, timeout_s: float, stop: Callable[[], Optional[str]], ready_s: float) -> Start:
        missing = list(self._ranks[1:])
        answers: Dict[_Rank, Dict[str, Any]] = {}

        def all_answers(present: Set[str]) -> Optional[bool]:
            for rank in list(missing):
                if self._arrival(rank).name in present:
                    answer = _document(self._arrival(rank))
                    if answer.get("call") == self._nonce:
                        answers[rank] = answer
                        missing.remove(rank)
            return None if missing else True

        self._arrive(self._nonce, ready_s)
        self._until(all_answers, missing, timeout_s, stop)
        hosts = tuple(sorted({socket.gethostname(), *(str(answer["host"]) for answer in answers.values())}))
        lead_s = LEAD_ONE_HOST_S if len(hosts) == 1 else LEAD_SEVERAL_HOSTS_S
        start = _start_in(lead_s + max([ready_s, *(float(answer["ready_s"]) for answer in answers.values())]), hosts)
        nonces = {_name(rank): answer["nonce"] for rank, answer in answers.items()}
        write_json(
            self._folder / "go.json",
            {"call": self._nonce, "nonces": nonces, "start_wall_ns": start.wall_ns, "hosts": list(hosts)},
        )
        return start

    def _follow(self, timeout_s: float, stop: Callable[[], Optional[str]], ready_s: float) -> Start:
        answered = ""

        def go(present: Set[str]) -> Optional[Start]:
            nonlocal answered
            if self._arrival(self._ranks[0]).name in present:
                call = _document(self._arrival(self._ranks[0])).get("nonce")
                if call and call != answered:
                    answered = call
                    self._arrive(call, ready_s)
            if not answered or "go.json" not in present:
                return None
            document = _document(self._folder / "go.json")
            if document.get("call") != answered or document["nonces"].get(_name(self._self)) != self._nonce:
                return None
            return _start_at(document["start_wall_ns"], tuple(document["hosts"]))

        return self._until(go, [self._ranks[0]], timeout_s, stop)

    def _until(
        self,
        look: Callable[[Set[str]], Optional[_Found]],
        missing: List[_Rank],
        timeout_s: float,
        stop: Callable[[], Optional[str]],
    ) -> _Found:
        """Return what `look` finds among the files present; raise BarrierBroken when that cannot come any more."""
        began = time.monotonic()
        exits_due = began + _EXITS_EVERY_S
        while True:
            # Reasons to give up are gathered first and count last: a peer may have gone on, and ended, in between.
            now = time.monotonic()
            reason = self._gone(look_at_exits=now >= exits_due)
            if now >= exits_due:
                exits_due = now + _EXITS_EVERY_S
            found = look(set(os.listdir(self._folder)))
            if found is not None:
                return found
            reason = reason or stop()
            if not reason and now - began >= timeout_s:
                reason = f"{', '.join(map(_name, missing))} did not come within {timeout_s:g} s"
            if reason:
                raise BarrierBroken(reason)
            time.sleep(_POLL_S if now - began < _SLOW_AFTER_S else _POLL_SLOW_S)

    def _gone(self, look_at_exits: bool) -> Optional[str]:
        present = set(os.listdir(self._folder))
        for rank in self._ranks:
            if rank == self._self:
                continue
            failure = self._failure(rank)
            if failure.name in present:
                return f"{_name(rank)}: {_document(failure).get('text', 'gave up')}"
            if look_at_exits and self._run.job(rank[0]).rank(rank[1]).exit.exists():
                return f"{_name(rank)} has ended"
        return None

    def _arrive(self, call: str, ready_s: float) -> None:
        about = {"host": socket.gethostname(), "ready_s": ready_s}
        write_json(self._arrival(self._self), {"nonce": self._nonce, "call": call, **about})

    def _arrival(self, rank: _Rank) -> Path:
        return self._folder / f"{_name(rank)}.json"

    def _failure(self, rank: _Rank) -> Path:
        return self._folder / f"{_name(rank)}.failed"


def _name(rank: _Rank) -> str:
    return f"{rank[0]}.{rank[1]}"


def _document(path: Path) -> Dict[str, Any]:
    try:
        data = read_json(path, limit_bytes=1 << 22)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def _start_in(lead_s: float, hosts: Tuple[str, ...]) -> Start:
    return _start_at(time.time_ns() + int(lead_s * 1e9), hosts)


def _start_at(wall_ns: int, hosts: Tuple[str, ...]) -> Start:
    mono_ns = wall_ns - _wall_less_mono_ns()
    return Start(mono_ns, wall_ns, hosts, late_s=max(0.0, (time.monotonic_ns() - mono_ns) / 1e9))


def _wall_less_mono_ns() -> int:
    # Of several tries the one in which least time passed between the readings: a busy node may put a pause there.
    tries = []
    for _ in range(5):
        before, wall, after = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        tries.append((after - before, wall - (before + after) // 2))
    return min(tries)[1]
