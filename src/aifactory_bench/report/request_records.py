"""The records of single requests that LLM clients leave in their raw folders: columns of `requests-<part>.npz`.

Read without numpy. The files come from a site, so what is in them is checked.
"""

import ast
import struct
import sys
import zipfile
import zlib
from array import array
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path

PATTERN = "requests-*.npz"
_MAGIC = b"\x93NUMPY\x01\x00"
_LONGEST_HEADER = 4096
_MOST_BYTES = 1 << 34
_CODES = {"|u1": "B", "|i1": "b", "<u2": "H", "<i2": "h", "<u4": "I", "<i4": "i", "<i8": "q", "<u8": "Q"}
NEEDED = (
    *("scheduled_ns", "sent_ns", "first_ns", "last_ns", "end_ns", "phase", "error", "prompt_tokens", "output_tokens"),
    *("chunk_offset", "chunk_ns", "anchor"),
)

Columns = Mapping[str, "array[int]"]


class RecordsError(ValueError):
    """A file is not the records that it should be; the text names it."""


class RequestRecords:
    """The requests of one generator."""

    def __init__(self, columns: Columns, errors: "tuple[str, ...]") -> None:
        self.columns = columns
        self.errors = errors
        """Classes by the number in the column `error`; empty: it ended well."""

    def __len__(self) -> int:
        return len(self.columns["sent_ns"])

    def wall_s(self, time_ns: int) -> float:
        """Return a moment of CLOCK_MONOTONIC as seconds since 1970, by the clocks as they were at the begin."""
        wall_ns, mono_ns = self.columns["anchor"][:2]
        return (wall_ns + time_ns - mono_ns) / 1e9

    def gaps_s(self, request: int) -> list[float]:
        """Return the times between the chunks of a request, seconds."""
        offset, stamps = self.columns["chunk_offset"], self.columns["chunk_ns"]
        own = stamps[offset[request] : offset[request + 1]]
        return [(later - earlier) / 1e9 for earlier, later in pairwise(own)]


def find_records(folders: Iterable[Path]) -> list[RequestRecords]:
    """Return the records in folders, in the order of their parts; folders that are not there have none.

    Raises:
        RecordsError: a file is something else.
        OSError: a file cannot be read.
    """
    paths = [path for folder in folders for path in folder.glob(PATTERN)]
    return [read_records(path) for path in sorted(paths, key=lambda path: (len(path.name), path.name))]


def read_records(path: Path) -> RequestRecords:
    """Return the records in a file.

    Raises:
        RecordsError: it is something else.
        OSError: it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _MOST_BYTES:
                raise RecordsError(f"{path}: holds more than {_MOST_BYTES >> 30} GiB")
            files = {entry.filename.removesuffix(".npy"): archive.read(entry) for entry in archive.infolist()}
        columns = {name: column for name, data in files.items() if (column := _numbers(data)) is not None}
        errors = _texts(files["error_names"])
        _check(columns, errors)
    except KeyError as error:
        raise RecordsError(f"{path}: has no {error.args[0]}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, SyntaxError) as error:
        raise RecordsError(f"{path}: not records of requests: {error}") from None
    return RequestRecords(columns, errors)


def _check(columns: Columns, errors: "tuple[str, ...]") -> None:
    """Refuse columns that do not fit together.

    Raises:
        KeyError: one is missing.
        ValueError: they do not fit.
    """
    total = len(columns["sent_ns"])
    for name in NEEDED:
        expected = {"chunk_offset": total + 1, "chunk_ns": len(columns["chunk_ns"]), "anchor": 4}.get(name, total)
        if len(columns[name]) != expected:
            raise ValueError(f"{name} has {len(columns[name])} values, expected {expected}")
    offset = columns["chunk_offset"]
    if offset[0] != 0 or offset[-1] > len(columns["chunk_ns"]) or any(map(int.__gt__, offset, offset[1:])):
        raise ValueError("chunk_offset does not rise from 0 to the number of chunks")
    if max(columns["error"], default=0) >= len(errors):
        raise ValueError("error has a number without a name")


def _split(data: bytes) -> tuple[str, int, bytes]:
    """Return type, number of values and data of a `.npy` file.

    Raises:
        ValueError: it is none.
    """
    if not data.startswith(_MAGIC):
        raise ValueError("no array of numpy's format 1.0")
    (length,) = struct.unpack_from("<H", data, len(_MAGIC))
    start = len(_MAGIC) + 2
    if length > _LONGEST_HEADER:
        raise ValueError("the header of an array is too long")
    header = ast.literal_eval(data[start : start + length].decode("latin-1"))
    if not isinstance(header, dict) or header.get("fortran_order") is not False:
        raise ValueError("the header of an array is another one")
    shape = header.get("shape")
    if not isinstance(shape, tuple) or not shape or not all(isinstance(side, int) and side >= 0 for side in shape):
        raise ValueError("the shape of an array is none")
    total = 1
    for side in shape:
        total *= side
    return str(header.get("descr")), total, data[start + length :]


def _numbers(data: bytes) -> "array[int] | None":
    """Return an array of whole numbers, row by row; None for one of something else."""
    kind, total, content = _split(data)
    if kind not in _CODES:
        return None
    values: array[int] = array(_CODES[kind])
    if total * values.itemsize != len(content):
        raise ValueError(f"an array of {total} values has {len(content)} bytes")
    values.frombytes(content)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def _texts(data: bytes) -> "tuple[str, ...]":
    kind, total, content = _split(data)
    if not kind.startswith("|S") or not kind[2:].isdigit() or total * int(kind[2:]) != len(content):
        raise ValueError("error_names are no texts")
    width = int(kind[2:])
    return tuple(content[at : at + width].rstrip(b"\0").decode("utf-8", "replace") for at in range(0, len(content), width))
