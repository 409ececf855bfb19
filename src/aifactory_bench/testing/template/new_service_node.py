"""What of new-service runs inside a job: questions to the server, the load, and the server too. Python 3.9, nothing else."""

import http.client
import json
import os
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Dict, List, Optional, Sequence, Tuple

from aifactory_bench.node.contract import Context, NotReady
from aifactory_bench.node.endpoint import Endpoint
from aifactory_bench.node.load import Batch, Driver, Outcome, Outcomes, Protocol, ProtocolError

_TIMEOUT_S = 1.0
_LENGTH = re.compile(rb"\r\nContent-Length: ([0-9]{1,9})\r\n", re.IGNORECASE)
_LONGEST_HEAD_BYTES = 65536


def probe(endpoint: Endpoint, secret: str, parameters: Dict[str, Any]) -> Dict[str, Any]:
    """Ask the server a real question with the run's password; return what is known of it.

    Raises:
        NotReady: it does not answer, or not as it should.
    """
    try:
        return {"server_name": "new-service", "server_version": _ask(endpoint, secret, "/stats")["version"]}
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        raise NotReady(f"{type(error).__name__}: {error}") from None


def counters(endpoint: Endpoint, secret: str) -> Dict[str, float]:
    """Return the server's own total of answers; questions for the total itself are not in it.

    Raises:
        OSError: the server is not there.
    """
    return {"operations": float(_ask(endpoint, secret, "/stats")["answers"])}


# More that may stand here: `sample(endpoint, secret)`, what the server tells of itself beside the load, and
# `prepare(context)`, which brings the data into place before it.


def _ask(endpoint: Endpoint, secret: str, path: str) -> Any:
    connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {secret}"})
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise ValueError(f"the server answers {answer.status} {answer.reason}")
        return json.loads(answer.read())
    finally:
        connection.close()


def driver(context: Context) -> "NewServiceDriver":
    """Return the load of one measurement."""
    addresses = [(endpoint.host, endpoint.port) for endpoint in context.endpoints["main"]]
    return NewServiceDriver(addresses, context.secrets.get("main", ""))


class NewServiceDriver(Driver):
    """The same request again and again."""

    def __init__(self, addresses: Sequence[Tuple[str, int]], secret: str) -> None:
        self._addresses = addresses
        self._request = f"GET / HTTP/1.1\r\nHost: server\r\nAuthorization: Bearer {secret}\r\n\r\n".encode()

    def addresses(self) -> Sequence[Tuple[str, int]]:
        """Return host and port of the replicas."""
        return self._addresses

    def protocol(self, index: int) -> Protocol:
        """Return the state of a new connection."""
        return _Connection(self._request)


class _Connection(Protocol):
    """Finds the ends of answers in what arrives."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._batch = Batch(["get"])
        self._buffer = b""

    def request(self, count: int) -> Tuple[bytes, Batch]:
        """Return the bytes of `count` requests."""
        return self._request * count, self._batch if count == 1 else Batch(["get"] * count)

    def feed(self, data: bytes, now_ns: int) -> Outcomes:
        """Return an outcome for each answer that is whole by now."""
        self._buffer += data
        outcomes: List[Optional[Outcome]] = []
        while True:
            head, separator, rest = self._buffer.partition(b"\r\n\r\n")
            if not separator:
                if len(head) > _LONGEST_HEAD_BYTES:
                    raise ProtocolError("a head without an end")
                return outcomes
            length = _LENGTH.search(head + b"\r\n")
            if length is None or not head.startswith(b"HTTP/1.1 "):
                raise ProtocolError(f"no answer that it could be: {head[:60]!r}")
            if len(rest) < int(length[1]):
                return outcomes
            self._buffer = rest[int(length[1]) :]
            status = head[9:12].decode("latin-1")
            outcomes.append(None if status == "200" else Outcome(error=f"http:{status}"))


# From here on it is the server in Python: delete it once there is one of your own.
class _Handler(BaseHTTPRequestHandler):
    """An answer of a given size to whoever knows the password."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server_version = "new-service"
    answer = b""
    answers = 0

    def do_GET(self) -> None:
        """Answer one request."""
        if self.headers["Authorization"] != f"Bearer {os.environ['NEW_SERVICE_PASSWORD']}":
            self._send(401, b"")
        elif self.path == "/stats":
            self._send(200, json.dumps({"version": "1", "answers": _Handler.answers}).encode())
        else:
            _Handler.answers += 1
            self._send(200, self.answer)

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing for each request."""


if __name__ == "__main__":
    _Handler.answer = b"x" * int(sys.argv[3])
    ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), _Handler).serve_forever()
