"""A program of this machine that gets a request and prints the reply."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from typing import Optional

from .arrival import Arrival
from .framing import Reply


class _Carrier(asyncio.SubprocessProtocol):
    """Hands on what a process prints."""

    def __init__(self, arrival: Arrival) -> None:
        self._arrival = arrival
        self.gone = asyncio.Event()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        (self._arrival.stdout if fd == 1 else self._arrival.stderr)(data)

    def process_exited(self) -> None:
        self.gone.set()

    def connection_lost(self, _error: "Exception | None") -> None:
        self._arrival.close()  # both outputs and the process have ended


async def exchange(argv: Sequence[str], reply: Reply, *, environment: Optional[Mapping[str, str]] = None) -> Optional[int]:
    """Run a program with the request on its standard input, fill the reply, and return the exit status, as a shell counts it.

    It is None where the program was not waited for, because time ran out or too much came. Such a program is killed with its
    group, and so is one whose `exchange` is cancelled.

    Raises:
        OSError: the program cannot be started.
    """
    # A session of its own: Ctrl-C is for the controller, which decides what becomes of a command.
    arrival = Arrival(reply)
    starting = asyncio.ensure_future(
        asyncio.get_running_loop().subprocess_exec(lambda: _Carrier(arrival), *argv, env=environment, start_new_session=True)
    )
    try:
        transport, carrier = await asyncio.shield(starting)
    except asyncio.CancelledError:
        # One that is cancelled while it starts would be left half open, with a child that waits for its input for ever.
        await _end(*await starting)
        raise
    try:
        stdin = transport.get_pipe_transport(0)
        assert isinstance(stdin, asyncio.WriteTransport)
        stdin.write(reply.request.stdin)
        stdin.write_eof()
        await arrival.wait()
    finally:
        exit_status = await _end(transport, carrier)
    return exit_status if exit_status is None or exit_status >= 0 else 128 - exit_status


async def _end(transport: asyncio.SubprocessTransport, carrier: _Carrier) -> Optional[int]:
    """Kill a program that has not ended, with its group; return the exit status, None where it was killed."""
    exit_status = transport.get_returncode()
    if exit_status is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(transport.get_pid(), signal.SIGKILL)
    try:
        await carrier.gone.wait()
    finally:
        transport.close()
    return exit_status
