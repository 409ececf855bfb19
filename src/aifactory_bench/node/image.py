"""Whether the image of a job is still the one that the plan was made for; asked on the node before anything is started."""

import hashlib
import os
from typing import Optional

from .files import read_json
from .spec import ImageSpec

_PIECE_BYTES = 1 << 22


def what_is_wrong(image: ImageSpec) -> Optional[str]:
    """Return why an image must not be used, or None.

    Size, time of change and the record beside it are compared. The file is read as a whole only where its time is another one,
    for some touch files to keep them: gigabytes would be minutes of a paid allocation.
    """
    try:
        found = os.stat(image.path)
    except OSError as error:
        return f"cannot be used: {error.strerror}"
    if found.st_size != image.size_bytes:
        return f"was changed: it has {found.st_size} bytes in place of {image.size_bytes}"
    base = os.path.splitext(image.path)[0]
    if os.path.exists(f"{base}.changed"):
        return "was changed: so it was found when the cache was verified"
    try:
        record = read_json(f"{base}.json", limit_bytes=1 << 16)
    except ValueError:
        record = None
    recorded = record.get("digest") if isinstance(record, dict) else None
    if recorded is not None and recorded != image.digest:
        return f"was replaced: its record names {recorded} in place of {image.digest}"
    if int(found.st_mtime) != image.modified_s:
        try:
            digest = _digest(image.path)
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        if digest != image.digest:
            return f"was changed: it is {digest} in place of {image.digest}"
    return None


def _digest(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while True:
            data = stream.read(_PIECE_BYTES)
            if not data:
                return f"sha256:{digest.hexdigest()}"
            digest.update(data)
