"""The two Linux calls that keep processes together, which Python does not offer."""

import ctypes
import os
import signal
from typing import Callable, Sequence

OURS = (signal.SIGUSR1,)
"""What a scheduler sends to tell that the walltime is near. It may reach every process of a job, and is meant for supervise."""
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
# Looked up once, before any fork: what runs between fork and exec must not load a library.
_LIBC = ctypes.CDLL(None, use_errno=True)


def adopt_orphans() -> None:
    """Make this process the parent of every descendant whose own parent ends.

    Raises:
        OSError: the kernel refuses.
    """
    if _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def dying_with_parent(number: int = signal.SIGKILL, *, deaf_to: "Sequence[signal.Signals]" = ()) -> Callable[[], None]:
    """Return what a child is to call between fork and exec.

    Args:
        number: The signal that it gets when this process dies.
        deaf_to: Signals that it passes over, unless it decides otherwise.
    """
    parent = os.getpid()

    def call() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        for unheard in deaf_to:
            signal.signal(unheard, signal.SIG_IGN)
        if os.getppid() != parent:  # died in between
            os._exit(1)

    return call
