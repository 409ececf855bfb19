"""One question over HTTP, for probes and readers of counters; load goes over the load core."""

import http.client
import json
import ssl
from typing import Any, Optional

from aifactory_bench.node.endpoint import Endpoint

_LONGEST_ANSWER_BYTES = 64 << 20
_OK = range(200, 300)


class HttpError(Exception):
    """The server answered, and not as wanted; the text says with what."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def ask(
    endpoint: Endpoint,
    path: str,
    body: Optional[Any] = None,
    *,
    secret: str = "",
    method: str = "",
    timeout_s: float = 1.5,
    tls: Optional[ssl.SSLContext] = None,
) -> str:
    """Return the text of an answer with a status of 200 to 299.

    Args:
        endpoint: of the server; TLS where its url says `https`.
        path: begins with a slash.
        body: sent as JSON; None sends nothing.
        secret: sent as a bearer token; empty sends none.
        method: default GET, with a body POST.
        timeout_s: of each wait for the server.
        tls: checks the server of an `https` url; None: with the certificates that the node trusts.

    Raises:
        OSError: the server cannot be reached, or is silent.
        HttpError: it answers something else.
    """
    headers = {"Accept": "*/*", "Connection": "close"}
    if secret:
        headers["Authorization"] = f"Bearer {secret}"
    data = None
    if body is not None:
        data = json.dumps(body).encode()
        headers["Content-Type"] = "application/json"
    connection = _connection(endpoint, timeout_s, tls)
    try:
        connection.request(method or ("GET" if body is None else "POST"), path, data, headers)
        response = connection.getresponse()
        text = response.read(_LONGEST_ANSWER_BYTES).decode("utf-8", "replace")
    except http.client.HTTPException as error:
        raise HttpError(0, f"{path}: no answer of HTTP: {type(error).__name__}: {error}") from None
    finally:
        connection.close()
    if response.status not in _OK:
        raise HttpError(response.status, f"{path}: status {response.status}: {_short(text)}")
    return text


def ask_json(
    endpoint: Endpoint,
    path: str,
    body: Optional[Any] = None,
    *,
    secret: str = "",
    method: str = "",
    timeout_s: float = 1.5,
    tls: Optional[ssl.SSLContext] = None,
) -> Any:
    """Return the JSON of an answer; arguments as of `ask`.

    Raises:
        OSError: the server cannot be reached, or is silent.
        HttpError: it answers something else.
    """
    text = ask(endpoint, path, body, secret=secret, method=method, timeout_s=timeout_s, tls=tls)
    try:
        return json.loads(text)
    except ValueError:
        raise HttpError(200, f"{path}: the answer is no JSON: {_short(text)}") from None


def _connection(endpoint: Endpoint, timeout_s: float, tls: Optional[ssl.SSLContext]) -> http.client.HTTPConnection:
    if endpoint.url.startswith("https:"):
        context = tls or ssl.create_default_context()
        return http.client.HTTPSConnection(endpoint.host, endpoint.port, timeout=timeout_s, context=context)
    return http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=timeout_s)


def _short(text: str) -> str:
    return " ".join(text.split())[:300] or "nothing"
