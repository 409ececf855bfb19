"""The node program: our node side and the products' node modules in one zipapp, the same bytes wherever it is built."""

import hashlib
import importlib.util
import io
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from attrs import field, frozen

from .. import node
from ..errors import PluginError, SiteError
from ..node.files import PRIVATE_FILE, write_atomic
from ..node.paths import RunPaths
from .imports import node_imports

_EARLIEST = (1980, 1, 1, 0, 0, 0)
_MAIN = b"""import sys

from aifactory_bench.node.__main__ import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""


@frozen
class NodeProgram:
    """A zipapp for `python3 node-<digest>.pyz`."""

    digest: str
    """First 16 hex digits of the SHA-256 of the bytes."""
    data: bytes = field(repr=False)


def build_node_program(node_modules: Sequence[str]) -> NodeProgram:
    """Return the program that holds the node side and the named node modules with the siblings that they import.

    Raises:
        PluginError: a module cannot be found, or imports what a node does not have.
    """
    files: dict[str, bytes] = {"__main__.py": _MAIN, "aifactory_bench/__init__.py": b""}
    own = Path(node.__file__).parent
    for path in own.rglob("*.py"):
        files[f"aifactory_bench/node/{path.relative_to(own).as_posix()}"] = path.read_bytes()
    waiting = sorted(set(node_modules))
    packed: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in packed:
            continue
        packed.add(name)
        path = _source_of(name)
        data = path.read_bytes()
        waiting.extend(node_imports(name, path, data))
        *packages, last = name.split(".")
        files["/".join([*packages, f"{last}.py"])] = data
        for depth in range(1, len(packages) + 1):
            files.setdefault("/".join([*packages[:depth], "__init__.py"]), b"")
    data = _archive(files)
    return NodeProgram(digest=hashlib.sha256(data).hexdigest()[:16], data=data)


def write_node_program(folder: Path, program: NodeProgram) -> Path:
    """Put the program into a run folder, mode 0600, and return its path; one that is there already stays.

    Raises:
        SiteError: it cannot be written.
    """
    path = RunPaths(folder).node_program(program.digest)
    try:
        if not path.is_file() or path.read_bytes() != program.data:
            write_atomic(path, program.data, PRIVATE_FILE)
    except OSError as error:
        raise SiteError(
            f"{path}: the node program cannot be written: {error.strerror or error}",
            "check that the run folder exists, may be written to and has space left",
        ) from None
    return path


def _archive(files: "dict[str, bytes]") -> bytes:
    # Stored, not deflated: compressed bytes differ between releases of zlib.
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _EARLIEST)
            entry.create_system = 3
            entry.external_attr = 0o100600 << 16
            archive.writestr(entry, files[name])
    return buffer.getvalue()


def _source_of(name: str) -> Path:
    """Return the source file of a module, loaded from a loose file or to be found by import."""
    loaded = sys.modules.get(name)
    place = getattr(loaded, "__file__", None)
    if place is None:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError, AttributeError) as error:
            raise PluginError(f"node module {name}: {error}", "a job class names it in `node_module`") from None
        if spec is None:
            raise PluginError(
                f"node module {name}: no such module",
                "a job class names it in `node_module`; check the name, and that its distribution is installed",
            )
        place = spec.origin if spec.has_location else None
    if place is None or not place.endswith(".py") or Path(place).name == "__init__.py" or not Path(place).is_file():
        raise PluginError(
            f"node module {name}: not a plain source file (found {place or 'no file'})",
            "a node module is one .py file, so that it can travel to the node",
        )
    return Path(place)
