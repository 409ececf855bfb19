"""A server that closes its connections behind streams and does not say so, as llama-server does: no error, and no lost turn."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from aifactory_bench.node.endpoint import Endpoint

USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}


class Closing(BaseHTTPRequestHandler):
    """Four words and the end of the connection, which is announced only where it was asked for."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = b'{"object": "list", "data": [{"id": "tiny"}]}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.headers.get("Connection"), len(asked["messages"])))  # type: ignore[attr-defined]
        announced = self.headers.get("Connection") == "close"
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header(*(("Connection", "close") if announced else ("Keep-Alive", "timeout=5, max=100")))
        self.end_headers()
        events: list[Any] = [{"choices": [{"index": 0, "delta": {"content": f" word{number}"}}]} for number in range(4)]
        events[-1]["choices"][0]["finish_reason"] = "length"
        for event in [*map(json.dumps, [*events, {"choices": [], "usage": USAGE}]), "[DONE]"]:
            data = f"data: {event}\n\n".encode()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def log_message(self, *_args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Closing) as server:
        server.asked = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def endpoint(server: ThreadingHTTPServer) -> Endpoint:
    port = server.server_address[1]
    return Endpoint("llm", 0, "127.0.0.1", port, f"http://127.0.0.1:{port}", nonce=str(port))


@pytest.mark.parametrize("load", [{"concurrency": 3}, {"process": "poisson", "rate_per_s": 60.0, "connections": 8}])
def test_a_connection_for_each_request(
    server: Any, endpoint: Endpoint, context_of: Callable[..., Any], measure: Callable[..., Any], load: dict[str, Any]
) -> None:
    measured = measure(context_of(endpoint, api="chat", output_tokens=4, truth=False, **load))
    assert measured.errors == {}
    assert measured.counts.ok > 10
    first, *others = [connection for connection, _ in server.asked]
    assert first is None
    assert set(others) == {"close"}


def test_conversations_go_on_over_connections(
    server: Any, endpoint: Endpoint, context_of: Callable[..., Any], measure: Callable[..., Any]
) -> None:
    measured = measure(context_of(endpoint, api="chat", output_tokens=4, truth=False, turns=3, concurrency=2))
    assert measured.errors == {}
    turns = Counter(messages for connection, messages in server.asked if connection == "close")
    assert set(turns) == {1, 3, 5}
    assert turns[1] - 2 <= turns[5] <= turns[3] <= turns[1]
