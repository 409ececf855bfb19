"""Several ranks of a job on this machine, where there is no `srun`: one process each, with `AFB_RANK` set."""

import os
import signal
import subprocess
import sys
import time
from typing import Dict, List

from .__main__ import HELD
from .kernel import dying_with_parent
from .wakeup import Wakeup

GROUP = "AFB_RANKS"
"""Environment variable that the ranks of one execution share and those of another do not."""
_LOOK_S = 1.0
_ARGUMENTS_MIN = 3
_USAGE = "usage: node ranks N -- COMMAND..."


def main(arguments: List[str]) -> int:
    """Run a command as N ranks until all have ended; return the greatest of their exit statuses, 2 for a wrong command line.

    The command is one of this program: it begins with the signals of `HELD` blocked.
    """
    if len(arguments) < _ARGUMENTS_MIN or arguments[1] != "--" or not arguments[0].isdigit() or int(arguments[0]) < 1:
        print(_USAGE, file=sys.stderr)
        return 2
    wakeup = Wakeup()
    group = f"{os.getpid()}-{time.time_ns()}"
    ranks: List["subprocess.Popen[bytes]"] = []
    status = 0
    try:
        for rank in range(int(arguments[0])):
            started = _start(arguments[2:], {**os.environ, "AFB_RANK": str(rank), GROUP: group})
            ranks.append(started)  # one by one: those before one that fails are to be stopped
    except OSError as error:
        print(f"aifactory-bench: {arguments[2]} could not be started as rank {len(ranks)}: {error}", file=sys.stderr)
        status, wakeup.stop_signal = 3, "SIGTERM"
    _wait(ranks, wakeup)
    return max([status, *(rank.returncode if rank.returncode >= 0 else 128 - rank.returncode for rank in ranks)])


def _start(argv: List[str], environment: Dict[str, str]) -> "subprocess.Popen[bytes]":
    # TERM, not KILL: a supervise whose parent has died is to stop its child and say how it ended.
    die_with_us = dying_with_parent(signal.SIGTERM)

    def before_exec() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, HELD)  # as long as the interpreter starts, too
        die_with_us()

    return subprocess.Popen(argv, env=environment, stdin=subprocess.DEVNULL, preexec_fn=before_exec)  # noqa: PLW1509 - two calls


def _wait(ranks: "List[subprocess.Popen[bytes]]", wakeup: Wakeup) -> None:
    """Return when all have ended; pass on what we are told, each signal once."""
    stop_told = walltime_told = False
    while any([rank.poll() is None for rank in ranks]):  # noqa: C419 - every one is to be asked, or it stays a zombie
        if wakeup.stop_signal is not None and not stop_told:
            stop_told = True
            _send(ranks, signal.SIGTERM)
        if wakeup.walltime_near and not walltime_told:
            walltime_told = True
            _send(ranks, signal.SIGUSR1)
        wakeup.wait(_LOOK_S)


def _send(ranks: "List[subprocess.Popen[bytes]]", number: int) -> None:
    for rank in ranks:
        rank.send_signal(number)
