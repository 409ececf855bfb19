"""Services that already run: an endpoint out of a url. They are asked and measured, never started or stopped."""

from urllib.parse import urlsplit

from .endpoint import Endpoint
from .spec import TargetSpec

_USUAL_PORTS = {"http": 80, "https": 443}


def external_endpoint(target: TargetSpec) -> Endpoint:
    """Return the endpoint of an external service.

    Raises:
        ValueError: its url names no host or no port.
    """
    url = target.url or ""
    try:
        parts = urlsplit(url)
        port = parts.port or _USUAL_PORTS.get(parts.scheme)
    except ValueError as error:
        raise ValueError(f"the url {url!r} of {target.service} cannot be used: {error}; write scheme://host:port") from None
    if not parts.hostname or port is None:
        raise ValueError(
            f"the url {url!r} of {target.service} names no {'port' if parts.hostname else 'host'}; write scheme://host:port"
        )
    return Endpoint(service=target.service, replica=0, host=parts.hostname, port=port, url=url)
