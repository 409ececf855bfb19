"""Where a service is to be reached, published as a file on the shared folder."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional

from .files import make_private_folder, read_json, write_json

VERSION = 1


@dataclass(frozen=True)
class Endpoint:
    """One replica of a service that has answered a real request."""

    service: str
    replica: int
    host: str
    port: int
    url: str
    token: str = ""
    """Of the job; empty for an external service."""
    job_id: str = ""
    restart: int = 0
    """How often the scheduler has restarted the job."""
    nonce: str = ""
    """Differs with every start of the service."""
    interfaces: Dict[str, List[str]] = field(default_factory=dict)
    """Interface -> addresses of the node."""
    facts: Dict[str, Any] = field(default_factory=dict)
    """What the probe learned: `server_name`, `server_version`, ..."""
    published_wall_ns: int = 0


def publish(path: Path, endpoint: Endpoint) -> None:
    """Make the endpoint known, atomically."""
    make_private_folder(path.parent)
    write_json(path, {"v": VERSION, **asdict(endpoint)})


def read(path: Path) -> Optional[Endpoint]:
    """Return a published endpoint, or None when there is none yet.

    Raises:
        ValueError: the file is not an endpoint.
    """
    data = read_json(path, limit_bytes=1 << 20)
    if data is None:
        return None
    if not isinstance(data, dict) or data.pop("v", None) != VERSION:
        raise ValueError(f"{path}: not an endpoint of version {VERSION}")
    try:
        return Endpoint(**data)
    except TypeError as error:
        raise ValueError(f"{path}: not an endpoint: {error}") from None
