"""The two Linux calls that keep processes together, which Python does not offer."""

import ctypes
import os
import signal
from typing import Callable

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


def dying_with_parent(number: int = signal.SIGKILL) -> Callable[[], None]:
    """Return what a child is to call between fork and exec, so that it gets the signal when this process dies."""
    parent = os.getpid()

    def call() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:  # died in between
            os._exit(1)

    return call
