"""The throw-away password of a service, made on the node at its first start."""

import os
import time
from pathlib import Path

from .files import PRIVATE_FILE, make_private_folder, read_text

LENGTH = 32
"""Hexadecimal digits: none that begins with '-' would be an option where a program takes it as an argument."""
_WAIT_S = 5.0


def service_secret(path: Path) -> str:
    """Return the password in a file, made now if it is not there; ranks and restarts of one job share it.

    Raises:
        OSError: it cannot be written, or another rank has begun to write it and did not end.
    """
    make_private_folder(path.parent)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
    except FileExistsError:
        return _read(path)
    try:
        value = os.urandom(LENGTH // 2).hex()  # `secrets` would load a cryptographic library for this
        os.write(descriptor, value.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return value


def _read(path: Path) -> str:
    end = time.monotonic() + _WAIT_S
    while time.monotonic() < end:
        value = (read_text(path) or "").strip()
        if len(value) == LENGTH:
            return value
        time.sleep(0.02)
    raise OSError(f"{path}: holds no password of {LENGTH} characters")
