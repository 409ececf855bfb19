"""`node place SOURCE TARGET ...`: bring files or folders into place before the jobs that need them, once and whole.

A copy grows beside its target under another name and is renamed at the end: a target that is there is complete, whoever
made it and whatever was interrupted.
"""

import os
import shutil
import signal
import socket
import sys
import time
from pathlib import Path
from typing import List, NoReturn

_USAGE = "usage: node place SOURCE TARGET [SOURCE TARGET ...]"
_EXIT_USAGE = 2
_MIB = 1 << 20


class PlaceError(Exception):
    """It cannot be brought into place; the text says why."""


def main(arguments: List[str]) -> int:
    """Bring each source to its target; return 0, 1 when one cannot be, 2 for a wrong command line."""
    if not arguments or len(arguments) % 2:
        print(_USAGE, file=sys.stderr)
        return _EXIT_USAGE
    signal.signal(signal.SIGTERM, _stop)
    source = target = ""
    try:
        for source, target in zip(arguments[::2], arguments[1::2]):
            print(place(Path(source), Path(target)), flush=True)
    except (OSError, shutil.Error, PlaceError) as error:
        print(f"{socket.gethostname()}: {source} cannot be brought to {target}: {error}", file=sys.stderr)
        return 1
    return 0


def place(source: Path, target: Path) -> str:
    """Copy a file or a folder, links followed, unless the target is there; return what was done.

    Raises:
        PlaceError: there is no source, or not enough room.
        OSError, shutil.Error: it cannot be read or written.
    """
    if target.exists():
        return f"{target} is there already"
    if not source.exists():
        raise PlaceError("there is no such file or folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    size_bytes = _size_bytes(source)
    room = os.statvfs(target.parent)
    room_bytes = room.f_bavail * room.f_frsize
    if size_bytes > room_bytes:
        raise PlaceError(f"it takes {size_bytes // _MIB} MiB, and {target.parent} has room for {room_bytes // _MIB} MiB")
    began = time.monotonic()
    part = target.with_name(f".{target.name}.part-{socket.gethostname()}-{os.getpid()}")
    try:
        if source.is_dir():
            shutil.copytree(source, part)
        else:
            shutil.copy2(source, part)
        try:
            part.rename(target)
        except OSError:
            if not target.exists():
                raise
            return f"{target} was brought there by another job meanwhile"
    finally:
        _remove(part)
    return f"{target}: {size_bytes} bytes in {time.monotonic() - began:.1f} s"


def _size_bytes(path: Path) -> int:
    if not path.is_dir():
        return path.stat().st_size
    return sum(Path(folder, name).stat().st_size for folder, _, names in os.walk(path, followlinks=True) for name in names)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _stop(_number: int, _frame: object) -> NoReturn:
    raise SystemExit(1)  # on the way out what has been copied of an unfinished target is removed
