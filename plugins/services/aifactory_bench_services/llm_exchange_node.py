"""One question to a server before the load, read by the same reader as the load's answers: what fails here would fail there."""

import socket
import ssl
import time
from typing import NamedTuple, Optional

from .llm_answer_node import Answer
from .llm_driver_node import Dialect, Server
from .llm_framing_node import Arrival
from .llm_prompts_node import Prompt
from .llm_reading_node import ReadingError

_READ_BYTES = 65536
_CLOSING_S = 0.1
"""How long a server that will not keep the connection may take to close it."""


class Exchange(NamedTuple):
    """What one question gave."""

    answer: Answer
    took_s: float
    """From connecting to the last byte."""
    keeps: bool
    """The server keeps the connection for a next request. Some close it behind a stream and do not say so."""


def secure_context(url: str, ca_file: Optional[str]) -> Optional[ssl.SSLContext]:
    """Return what checks the server of an `https` url, or None for plain HTTP.

    Raises:
        OSError: the file of certificates cannot be read, or holds none.
    """
    return ssl.create_default_context(cafile=ca_file) if url.startswith("https:") else None


def exchange(server: Server, dialect: Dialect, prompt: Prompt, timeout_s: float) -> Exchange:
    """Ask a server for an answer to a prompt, over a connection of its own.

    Raises:
        OSError: it cannot be reached, is silent, or ends the connection; TLS that fails is among it.
        ReadingError, ProtocolError: its answer makes no sense.
    """
    began_ns = time.monotonic_ns()
    arrival = Arrival()
    with socket.create_connection((server.host, server.port), timeout_s) as plain:
        sock = plain if server.tls is None else server.tls.wrap_socket(plain, server_hostname=server.host)
        with sock:
            sock.sendall(server.head + dialect.maker.make(prompt).rest)
            sent_ns = time.monotonic_ns()
            while True:
                data = sock.recv(_READ_BYTES)
                now_ns = time.monotonic_ns()
                if not data:
                    if not arrival.whole_at_close():
                        raise OSError("it closed the connection before its answer was whole")
                    break
                if arrival.take(data, now_ns):
                    break
            took_s = (time.monotonic_ns() - began_ns) / 1e9
            keeps = bool(data) and _is_kept(sock)
    answer = Answer(sent_ns, sent_ns)
    answer.header_ns, answer.end_ns = arrival.stamps[0], arrival.stamps[-1]
    try:
        dialect.read(answer, arrival)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ReadingError("stream:json", f"JSON of an unknown shape ({type(error).__name__}: {error})") from None
    return Exchange(answer, took_s, keeps)


def _is_kept(sock: socket.socket) -> bool:
    sock.settimeout(_CLOSING_S)
    try:
        return bool(sock.recv(1))
    except socket.timeout:
        return True
    except OSError:
        return False
