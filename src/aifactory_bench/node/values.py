"""What placeholders stand for on this node, and the files that hold them."""

import sys
from pathlib import Path
from typing import Dict, List, Mapping, Sequence

from .addresses import WILDCARD, reachable_host
from .ending import Ending
from .endpoint import Endpoint
from .files import make_private_folder, write_atomic
from .paths import RankPaths
from .placeholders import resolve
from .program import archive
from .spec import FileSpec, ServiceSpec, Spec

_PEERS = 10_000
_LAST_PORT = 65_535


def rank_values(spec: Spec, rank: int, paths: RankPaths) -> Dict[str, str]:
    """Return what every rank knows."""
    values = {
        "rank": str(rank),
        "replicas": str(spec.ranks),
        "folder": str(paths.work),
        "log": str(paths.log),
        "python": sys.executable,
        "host": reachable_host(WILDCARD, spec.fabric),
    }
    path = archive()
    if path is not None:
        values["node"] = path
    return values


def service_values(service: ServiceSpec, port: int, secret: str) -> Dict[str, str]:
    """Return what a service knows in addition."""
    peers = port + _PEERS if port + _PEERS <= _LAST_PORT else port - _PEERS
    return {"port": str(port), "port.peers": str(peers), "bind": service.bind, "secret": secret}


def client_values(endpoints: Mapping[str, Sequence[Endpoint]], secrets: Mapping[str, str]) -> Dict[str, str]:
    """Return what a client knows in addition: its targets, by role and replica."""
    values = {}
    for role, replicas in endpoints.items():
        for replica, endpoint in enumerate(replicas):
            name = f"endpoint.{role}.{replica}"
            values[f"{name}.host"] = endpoint.host
            values[f"{name}.port"] = str(endpoint.port)
            values[f"{name}.url"] = endpoint.url
            values[f"{name}.secret"] = secrets.get(role, "")
    return values


def resolve_all(encoded: Sequence[str], values: Mapping[str, str]) -> List[str]:
    """Fill in a command.

    Raises:
        Ending: a placeholder has no value here.
    """
    try:
        return [resolve(text, values) for text in encoded]
    except ValueError as error:
        raise Ending("failed", f"the command cannot be filled in: {error}") from None


def resolve_environment(encoded: Mapping[str, str], values: Mapping[str, str]) -> Dict[str, str]:
    """Fill in the values of environment variables.

    Raises:
        Ending: a placeholder has no value here.
    """
    return dict(zip(encoded, resolve_all(list(encoded.values()), values)))


def write_files(files: Sequence[FileSpec], folder: Path, values: Mapping[str, str]) -> None:
    """Write the files of a job into its work folder, mode 0600.

    Raises:
        Ending: a name leads out of the folder, or a placeholder has no value here.
        OSError: one cannot be written.
    """
    for file in files:
        name = Path(file.name)
        if name.is_absolute() or ".." in name.parts or not name.parts:
            raise Ending(
                "failed", f"the file {file.name!r} would not lie in the work folder; give a relative path without '..'"
            )
        path = folder / name
        make_private_folder(path.parent)
        write_atomic(path, "\n".join(resolve_all(file.lines, values)) + "\n")
