"""How this very program was started, and where others are found."""

import os
import shutil
import socket
import sys
from types import ModuleType
from typing import Callable, List, Mapping, Optional

from .ending import Ending


def archive() -> Optional[str]:
    """Return the path of the zipapp that this runs from, or None when it runs from a folder."""
    path = getattr(globals().get("__loader__"), "archive", None)
    return os.path.abspath(path) if isinstance(path, str) else None


def node_command() -> List[str]:
    """Return the argument vector that starts the node program as this process was started."""
    path = archive()
    return [sys.executable, path] if path else [sys.executable, "-m", __package__ or "aifactory_bench.node"]


def find(name: str, environment: Mapping[str, str], node_module: Callable[[], Optional[ModuleType]]) -> str:
    """Return the path of an executable: as given, on PATH, or where the product's node module says.

    `node_module` gives the module; it is asked only when nothing is on PATH.

    Raises:
        Ending: there is none; the text says where was looked and what to do.
    """
    path = environment.get("PATH", os.defpath)
    found = shutil.which(name, path=path)
    if found is None and os.sep not in name:
        locate = getattr(node_module(), "locate", None)
        found = locate(name) if locate is not None else None
    if found is None:
        looked = "not on PATH, which the job's log tells" if os.sep not in name else "no such executable file"
        if os.sep not in name:
            # Told here once: the text of an end is repeated by every job that waits for this one.
            print(f"{name}: not on PATH ({path})", file=sys.stderr, flush=True)
        raise Ending(
            "failed",
            f"the program {name!r} was not found on {socket.gethostname()}: {looked}; "
            f"install it there, load a module that brings it (`modules` of the site), or use an image and a container runtime",
        )
    return os.path.abspath(found)
