"""What runs inside the job: the server itself, the probe, and the load. Standard library only, Python 3.9 or later."""

import asyncio
import socket
import sys
from typing import Any, Dict, List, Optional, Sequence, Tuple

from aifactory_bench.node.contract import Context, NotReady
from aifactory_bench.node.endpoint import Endpoint
from aifactory_bench.node.load import Batch, Driver, Outcome, Outcomes, Protocol

_TIMEOUT_S = 1.5


def probe(endpoint: Endpoint, secret: str, parameters: Dict[str, Any]) -> Dict[str, Any]:
    """Ask the server a real question; return what is known of it.

    Raises:
        NotReady: it does not answer, or not as it should.
    """
    try:
        with socket.create_connection((endpoint.host, endpoint.port), timeout=_TIMEOUT_S) as connection:
            connection.sendall(b"ready?\n")
            answer = connection.recv(64)
    except OSError as error:
        raise NotReady(str(error)) from None
    if answer != b"ready?\n":
        raise NotReady(f"it sent {answer!r} back")
    return {"server_name": "echo", "server_version": "0.1.0"}


def driver(context: Context) -> "EchoLoad":
    """Return the load of one measurement."""
    addresses = [(endpoint.host, endpoint.port) for endpoint in context.endpoints["main"]]
    return EchoLoad(addresses, int(context.parameters["message_size_bytes"]))


class EchoLoad(Driver):
    """The same line again and again."""

    unit = "line"

    def __init__(self, addresses: Sequence[Tuple[str, int]], message_size_bytes: int) -> None:
        self._addresses = addresses
        self._line = b"x" * (message_size_bytes - 1) + b"\n"

    def addresses(self) -> Sequence[Tuple[str, int]]:
        """Return host and port of the replicas."""
        return self._addresses

    def protocol(self, index: int) -> Protocol:
        """Return the state of a new connection."""
        return _Connection(self._line)


class _Connection(Protocol):
    """Knows what must come back, and what of it has."""

    def __init__(self, line: bytes) -> None:
        self._line = line
        self._buffer = b""

    def request(self, count: int) -> Tuple[bytes, Batch]:
        return self._line * count, Batch(["echo"] * count)

    def feed(self, data: bytes, now_ns: int) -> Outcomes:
        size = len(self._line)
        self._buffer += data
        outcomes: List[Optional[Outcome]] = []
        while len(self._buffer) >= size:
            line, self._buffer = self._buffer[:size], self._buffer[size:]
            outcomes.append(None if line == self._line else Outcome(error="changed", text=repr(line[:40])))
        return outcomes


class _Server(asyncio.Protocol):
    """The product: sends back what it gets."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert isinstance(self._transport, asyncio.Transport)
        self._transport.write(data)


async def _serve(host: str, port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Server, host, port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2])))
