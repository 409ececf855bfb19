"""Servers that are not the one a probe asks for: nobody, silence, nonsense, a hole."""

import random
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from threading import Thread

_HOST = "127.0.0.1"
_GARBAGE = random.Random(1).randbytes(4096)
_MOST_WAITING = 64


@contextmanager
def closed_port() -> Iterator[int]:
    """Give a port on which nobody listens, held so that nobody else takes it."""
    with socket.socket() as held:
        held.bind((_HOST, 0))
        yield int(held.getsockname()[1])


@contextmanager
def silent_server() -> Iterator[int]:
    """Give the port of a server that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind((_HOST, 0))
        listener.listen(_MOST_WAITING)
        yield int(listener.getsockname()[1])


@contextmanager
def black_hole() -> Iterator[int]:
    """Give a port to which a connection is neither made nor refused: the queue of its listener is full."""
    with ExitStack() as open_, socket.socket() as listener:
        listener.bind((_HOST, 0))
        listener.listen(0)
        port = int(listener.getsockname()[1])
        for _ in range(_MOST_WAITING):
            waiting = open_.enter_context(socket.socket())
            waiting.settimeout(0.05)
            try:
                waiting.connect((_HOST, port))
            except OSError:
                break
        yield port


@contextmanager
def _answering(reply: Callable[[socket.socket], None]) -> Iterator[int]:
    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            reply(connection)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.settimeout(10.0)
            Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.socket() as listener:
        listener.bind((_HOST, 0))
        listener.listen(_MOST_WAITING)
        Thread(target=accept, daemon=True).start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)


def _say_garbage(connection: socket.socket) -> None:
    connection.sendall(_GARBAGE)
    while connection.recv(4096):
        connection.sendall(_GARBAGE)


def _hang_up(connection: socket.socket) -> None:
    connection.recv(1)


def garbage_server() -> AbstractContextManager[int]:
    """Give the port of a server that sends 4 KiB of nonsense at once and after all that it gets."""
    return _answering(_say_garbage)


def hanging_up() -> AbstractContextManager[int]:
    """Give the port of a server that closes a connection as soon as it is asked something."""
    return _answering(_hang_up)


SERVERS: Mapping[str, Callable[[], AbstractContextManager[int]]] = {
    "a closed port": closed_port,
    "a server that hangs up": hanging_up,
    "a server that says nonsense": garbage_server,
    "a server that says nothing": silent_server,
    "a port that swallows connections": black_hole,
}
