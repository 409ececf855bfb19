"""A Chroma server on the node: is it there, which one is it, how much does it hold."""

import importlib.util
import os
import re
import shutil
import sysconfig
from pathlib import Path
from typing import Any, Dict, Optional

from aifactory_bench.node.contract import NotReady
from aifactory_bench.node.endpoint import Endpoint

from .chroma_api_node import probe_api, totals
from .llm_http_node import HttpError

_TRIAL = "aifactory-bench-probe"
_INSTALLED = "lib/python*/site-packages/chromadb-*.dist-info"
_VERSION = re.compile(r"chromadb-(.+)\.dist-info")
_FORBIDDEN = frozenset((401, 403))


def probe(endpoint: Endpoint, secret: str, parameters: "Dict[str, Any]") -> "Dict[str, Any]":
    """Return what a server is that has made a collection for us and removed it again.

    `server_version` is that of the package it was started from, where that lies on this node: what the server itself says
    of its interface (`api_version`) is 1.0.0 in every release.

    Raises:
        NotReady: it does not answer yet; the text is what it said.
    """
    api = probe_api(endpoint, secret)
    try:
        made = api.make(_TRIAL, {})
        api.remove(_TRIAL)
        limits, version = api.limits(), api.ask("/api/v2/version")
        enforced = parameters.get("server") == "python" and _refuses_strangers(endpoint)
    except (OSError, HttpError) as error:
        raise NotReady(str(error)) from None
    configuration = made.get("configuration_json")
    facts = {
        "server_name": "chroma",
        "server_version": _package_version(str(parameters.get("program") or "")),
        "api_version": version,
        "max_batch_size": limits.batch,
        "token_enforced": enforced,
        "hnsw_defaults": configuration.get("hnsw") if isinstance(configuration, dict) else None,
    }
    return {name: value for name, value in facts.items() if value is not None}


def locate(name: str) -> Optional[str]:
    """Return the path of `chroma` beside the Python that runs here, where the package is installed for it, or None."""
    if name != "chroma" or importlib.util.find_spec("chromadb") is None:
        return None
    path = os.path.join(sysconfig.get_path("scripts"), name)
    return path if os.access(path, os.X_OK) else None


def sample(endpoint: Endpoint, secret: str) -> "Dict[str, Optional[float]]":
    """Return how many collections and vectors there are.

    Raises:
        OSError, HttpError: the server does not answer as Chroma does.
    """
    return {name: float(number) for name, number in totals(endpoint, secret).items()}


def _refuses_strangers(endpoint: Endpoint) -> bool:
    """Return True; a server that lets in whoever comes is not the one that was to be started."""
    try:
        probe_api(endpoint, "").collections()
    except HttpError as error:
        if error.status in _FORBIDDEN:
            return True
        raise
    raise NotReady("the server answers without a token, and was started to ask for one")


def _package_version(program: str) -> Optional[str]:
    """Return the version of the package that a program belongs to, from beside the program."""
    found = shutil.which(program or "chroma") or locate(program or "chroma")
    if found is None:
        return None
    for link in (Path(found), Path(found).resolve()):  # an interpreter in an environment is a link out of it
        for folder in link.parent.parent.glob(_INSTALLED):
            match = _VERSION.fullmatch(folder.name)
            if match is not None:
                return match.group(1)
    return None
