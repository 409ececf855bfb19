"""Requests to servers of language models as bytes, made ahead: the hot path only puts a header before a body."""

import json
from collections import deque
from typing import Any, Callable, Deque, Dict, List, Mapping, NamedTuple
from urllib.parse import urlsplit

from aifactory_bench.node.endpoint import Endpoint

from .llm_prompts_node import Prompt

_AHEAD_BYTES = 64 << 20
"""What may be kept ready, a worker."""
_AHEAD = 20_000
"""Requests that are kept ready at most, a worker."""


class Request(NamedTuple):
    """One request without the begin of its header, which differs by server."""

    rest: bytes
    """Length of the body, the blank line, the body."""
    prompt: Prompt


def path_of(endpoint: Endpoint, api_path: str) -> str:
    """Return the path to ask for: the url of the service may have a part of it, such as `/v1` or a gateway's prefix.

    >>> path_of(Endpoint("s", 0, "h", 80, "http://h:80/gateway/v1"), "/v1/models")
    '/gateway/v1/models'
    """
    prefix = urlsplit(endpoint.url).path.rstrip("/")
    if prefix.endswith("/v1") and api_path.startswith("/v1/"):
        prefix = prefix[: -len("/v1")]
    return prefix + api_path


def head_of(endpoint: Endpoint, api_path: str, secret: str, *, stream: bool, keep: bool = True) -> bytes:
    """Return the header of all requests to one server, up to the value of `Content-Length`.

    Args:
        endpoint: of the server.
        api_path: such as `/v1/completions`.
        secret: bearer token; empty for none.
        stream: the answer is to be streamed.
        keep: the connection is to be kept. False: the server closes it behind the answer, and says so.
    """
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    fields = [
        f"POST {path_of(endpoint, api_path)} HTTP/1.1",
        f"Host: {host}:{endpoint.port}",
        "User-Agent: aifactory-bench",
        f"Accept: {'text/event-stream, application/x-ndjson, ' if stream else ''}application/json",
        "Accept-Encoding: identity",
        "Content-Type: application/json",
    ]
    if not keep:
        fields.append("Connection: close")
    if secret:
        fields.append(f"Authorization: Bearer {secret}")
    fields.append("Content-Length: ")
    return "\r\n".join(fields).encode("latin-1")


class Maker:
    """Makes the body of a request from a prompt."""

    def __init__(self, common: Mapping[str, Any], asked: Callable[[Prompt], Dict[str, Any]]) -> None:
        """Make a maker.

        Args:
            common: what is the same in all bodies.
            asked: what differs, see `llm_openai_node.asked` and its kin.
        """
        self._asked = asked
        self._common = json.dumps(common).encode()[1:]

    def make(self, prompt: Prompt) -> Request:
        """Return the request for a prompt."""
        own = json.dumps(self._asked(prompt)).encode()
        body = b"%b, %b" % (own[:-1], self._common) if len(self._common) > 1 else own
        return Request(b"%d\r\n\r\n%b" % (len(body), body), prompt)


class Pool:
    """Requests kept ready in the order of the prompts. What is asked for beyond them is made on the spot, and counted."""

    def __init__(self, maker: Maker, draw: Callable[[], Prompt], target: int) -> None:
        """Make a pool.

        Args:
            maker: of bodies.
            draw: returns the next prompt.
            target: requests to keep ready, as far as memory allows.
        """
        self.made_late = 0
        """Requests that were not ready when they were due."""
        self._maker = maker
        self._draw = draw
        self._ready: Deque[Request] = deque()
        self._target = max(1, min(target, _AHEAD))
        self._bytes = 0

    def fill(self, most: int) -> None:
        """Make at most so many requests ahead."""
        for _ in range(most):
            if len(self._ready) >= self._target or self._bytes >= _AHEAD_BYTES:
                return
            request = self._maker.make(self._draw())
            self._ready.append(request)
            self._bytes += len(request.rest)

    def take(self) -> Request:
        """Return the next request."""
        if not self._ready:
            self.made_late += 1
            return self._maker.make(self._draw())
        request = self._ready.popleft()
        self._bytes -= len(request.rest)
        return request

    def make(self, prompt: Prompt) -> Request:
        """Return a request that cannot be made ahead, such as a later turn of a conversation."""
        return self._maker.make(prompt)


def expected(load: Mapping[str, Any], parts: int) -> int:
    """Return about how many requests one of so many generators will send first, or in all where a schedule tells."""
    pool = int(load.get("concurrency") or load.get("connections") or 1)
    seconds = float(load.get("warmup_s") or 0) + float(load.get("duration_s") or 0)
    rates: List[float] = [float(load.get("rate_per_s") or 0)]
    rates += [max(step.get("rate_per_s") or 0, step.get("to_per_s") or 0) for step in load.get("rates") or ()]
    least = max(2 * pool, int(load.get("burst_size") or 0), round(max(rates) * seconds))
    return -(-least // parts) + 1
