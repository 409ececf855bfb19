"""Files in one tar stream, which is how they travel to a site and back."""

import hashlib
import io
import tarfile
from collections.abc import Mapping

SUMS = ".sums"
"""The last file of an archive, for `sha256sum -c`: one that was cut off anywhere is not taken for a whole one."""


def pack(files: "Mapping[str, str | bytes]") -> bytes:
    """Return an archive of small files and of their check sums.

    Args:
        files: Path relative to where it is unpacked, without blanks and backslashes -> content.
    """
    stream = io.BytesIO()
    sums = []
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in files.items():
            data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
            sums.append(f"{hashlib.sha256(data).hexdigest()}  {name}\n")
            _add(archive, name, data)
        _add(archive, SUMS, "".join(sums).encode())
    return stream.getvalue()


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), 0o600
    archive.addfile(entry, io.BytesIO(data))


def unpack(data: bytes, names: "tuple[str, ...]") -> "dict[str, bytes]":
    """Return the files of these names in an archive; nothing is written anywhere.

    Raises:
        ValueError: it is no archive, or not a whole one.
    """
    found = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for entry in archive:
                stream = archive.extractfile(entry) if entry.isreg() and entry.name in names else None
                if stream is not None:
                    found[entry.name] = stream.read()
    except (tarfile.TarError, EOFError, OverflowError, ValueError) as error:
        raise ValueError(f"not an archive: {error}") from None
    return found
