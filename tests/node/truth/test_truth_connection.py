"""When a request came: by the kernel's stamp, and never before the client has sent it."""

import socket
import time

from aifactory_bench.node import truth_connection
from aifactory_bench.node.truth_connection import Connection


def test_a_request_is_never_earlier_than_its_sending(monkeypatch):
    """Whatever comes between the two clocks: here 20 ms go by while the wall clock is read."""
    wall = time.time_ns

    def slow():
        time.sleep(0.02)
        return wall()

    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        connection = Connection(listener.accept()[0])
        connection.socket.setblocking(True)
        monkeypatch.setattr(truth_connection.time, "time_ns", slow)
        with connection.socket:
            # Again until there is a stamp: the kernel begins to stamp a moment after the first socket has asked for it, and
            # what it says is worth nothing when the machine's clock was set meanwhile.
            give_up_ns = time.monotonic_ns() + 10_000_000_000
            while not connection.read_late_ns and time.monotonic_ns() < give_up_ns:
                sent_ns = time.monotonic_ns()
                client.sendall(b"GET / HTTP/1.1\r\n\r\n")
                assert connection.receive() == b"GET / HTTP/1.1\r\n\r\n"
                assert sent_ns < connection.received_ns <= time.monotonic_ns()
    assert connection.read_late_ns > 0
