"""Arrays as a file that `numpy.load` opens, written without numpy: a zip of `.npy` files."""

import os
import sys
import zipfile
from array import array
from pathlib import Path
from typing import Dict, Mapping, Sequence, Tuple, Union

Values = Union["array[int]", Sequence[bytes]]
"""Numbers, or byte strings, which are padded with zero bytes to the longest of them."""

_LEVEL = 1
"""Of compression: stamps shrink by about half, at a cost of some 20 ns each."""
_KINDS = {**dict.fromkeys("bhilq", "i"), **dict.fromkeys("BHILQ", "u"), **dict.fromkeys("fd", "f")}
_ALIGNMENT = 64
_MAGIC = b"\x93NUMPY\x01\x00"
_PRIVATE = 0o600


def write_npz(path: Path, arrays: Mapping[str, Values], shapes: "Mapping[str, Tuple[int, ...]]" = {}) -> None:  # noqa: B006
    """Write arrays by name; the file is there whole or not at all.

    Args:
        path: of the file, as a rule `*.npz`; one that is there is replaced.
        arrays: the arrays.
        shapes: of those that have more than one dimension; rows first.

    Raises:
        OSError: the file cannot be written.
        ValueError: a shape does not fit its array.
    """
    part = path.with_name(path.name + ".part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive:
        for name, values in arrays.items():
            header, data = _npy(values, shapes.get(name, (len(values),)))
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                stream.write(header)
                stream.write(data)
    part.chmod(_PRIVATE)
    os.replace(part, path)


def _npy(values: Values, shape: "Tuple[int, ...]") -> "Tuple[bytes, Union[bytes, memoryview]]":
    """Return header and data of a `.npy` file.

    Raises:
        ValueError: the shape does not fit.
    """
    total = 1
    for length in shape:
        total *= length
    if total != len(values):
        raise ValueError(f"an array of {len(values)} values cannot have the shape {shape}")
    data: "Union[bytes, memoryview]"
    if isinstance(values, array):
        order = "|" if values.itemsize == 1 else "<" if sys.byteorder == "little" else ">"
        kind = f"{order}{_KINDS[values.typecode]}{values.itemsize}"
        data = memoryview(values).cast("B") if len(values) else b""
    else:
        width = max([1, *map(len, values)])
        kind = f"|S{width}"
        data = b"".join(value.ljust(width, b"\0") for value in values)
    fields: Dict[str, object] = {"descr": kind, "fortran_order": False, "shape": shape}
    text = repr(fields).encode("ascii")
    text += b" " * (-(len(_MAGIC) + 2 + len(text) + 1) % _ALIGNMENT) + b"\n"
    return _MAGIC + len(text).to_bytes(2, "little") + text, data
