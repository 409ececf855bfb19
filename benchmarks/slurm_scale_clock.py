"""Virtual time for `slurm_scale.py`."""

import asyncio
import selectors
import time

SETTLE_S = 0.05
"""Real time for what is on its way (answers to keep-alives), before virtual time jumps."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps over waits in which nothing happens; a command that is under way is waited for really."""

    def __init__(self):
        self.skipped_s = 0.0
        self.under_way = 0
        self.idle = lambda: None
        super().__init__(_Selector(self))

    def time(self):
        return time.monotonic() + self.skipped_s


class _Selector(selectors.DefaultSelector):
    def __init__(self, loop):
        super().__init__()
        self._loop = loop

    def select(self, timeout=None):
        if self._loop.under_way or timeout is None or timeout <= SETTLE_S:
            return super().select(timeout)
        self._loop.idle()
        events = super().select(SETTLE_S)
        if not events:
            self._loop.skipped_s += timeout - SETTLE_S
        return events
