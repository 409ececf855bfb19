"""A container image with Redis in it, made of this machine's own programs and the libraries they need."""

import re
import shutil
import subprocess
from pathlib import Path

NAME = "redis.sif"
MARK = "etc/image-release"
_PROGRAMS = ("redis-server", "redis-cli", "redis-benchmark")
_SHELL = ("sh", "cat", "ls", "env", "id", "sleep", "touch", "hostname", "grep")
_PATH = "/usr/bin:/bin:/usr/local/bin"
_LIBRARY = re.compile(r"(/\S+) \(0x")


def build(folder: Path) -> Path | None:
    """Make the root folder of an image and the file that stands for it; return that file, or None without Redis."""
    if shutil.which(_PROGRAMS[0], path=_PATH) is None:
        return None
    root = folder / "redis"
    for name in ("bin", "usr/bin", "dev", "proc", "sys", "tmp", "etc", "run", "var/tmp", "data"):
        (root / name).mkdir(parents=True)
    wanted = ((name, shutil.which(name, path=_PATH)) for name in (*_PROGRAMS, *_SHELL))
    found = [(name, path) for name, path in wanted if path is not None]
    for name, path in found:
        _copy(Path(path).resolve(), root / ("bin" if name in _SHELL else "usr/bin") / name)
    listing = subprocess.run(["ldd", *(path for _, path in found)], capture_output=True, text=True, check=False).stdout
    for library in sorted(set(_LIBRARY.findall(listing))):
        _copy(Path(library).resolve(), root / library.lstrip("/"))
    (root / MARK).write_text("redis image of the test bed\n")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    file = folder / NAME
    file.write_text("#!sandbox redis\n")  # beside this file
    return file


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)
