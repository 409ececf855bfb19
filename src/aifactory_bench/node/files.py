"""Reading and writing files that other processes, and other hosts, read at the same time."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any, Optional, Union

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700


def write_atomic(path: Union[str, Path], content: Union[str, bytes], mode: int = PRIVATE_FILE) -> None:
    """Write a file so that a reader sees the whole of it or the file before it: temporary file, fsync, rename."""
    path = Path(path)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content.encode("utf-8") if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Union[str, Path], value: Any, mode: int = PRIVATE_FILE) -> None:
    """Write a JSON document atomically, keys sorted, NaN refused."""
    write_atomic(path, json.dumps(value, sort_keys=True, allow_nan=False) + "\n", mode)


def read_text(path: Union[str, Path], limit_bytes: int = 64 << 20) -> Optional[str]:
    """Return the text of a file, or None when it is not there; what lies past the limit is not read."""
    try:
        with open(path, "rb") as stream:
            # read(n) takes room for n bytes at once, so the file's own size bounds it.
            return stream.read(min(limit_bytes, os.fstat(stream.fileno()).st_size)).decode("utf-8", "replace")
    except (FileNotFoundError, NotADirectoryError):
        return None


def read_json(path: Union[str, Path], limit_bytes: int = 256 << 20) -> Optional[Any]:
    """Return a JSON document, or None when it is not there.

    Raises:
        ValueError: the file is there and is not JSON.
    """
    text = read_text(path, limit_bytes)
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    except RecursionError:
        raise ValueError(f"{path}: not JSON that anybody meant: nested too deeply") from None


def make_private_folder(path: Union[str, Path]) -> Path:
    """Make a folder and its parents, mode 0700, and return it; one that exists is left as it is."""
    path = Path(path)
    if not path.is_dir():
        # Path.mkdir(parents=True) gives its mode to the last one only.
        if path.parent != path:
            make_private_folder(path.parent)
        path.mkdir(exist_ok=True, mode=PRIVATE_FOLDER)
    return path
