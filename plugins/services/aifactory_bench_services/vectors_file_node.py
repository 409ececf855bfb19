"""Vectors out of files: `.npy`, `.fvecs`, and the HDF5 of ann-benchmarks where the node's Python has h5py."""

import ast
import importlib
import struct
import sys
from array import array
from pathlib import Path
from typing import BinaryIO, NamedTuple, Optional, Tuple

from .vectors_node import Vectors, finite

_NPY = b"\x93NUMPY"
_HDF5 = (".hdf5", ".h5")
_CODES = {"<f4": "f", "<f8": "d"}


class FileError(Exception):
    """A file cannot be used; the text says which and why."""


class Found(NamedTuple):
    """What a file holds."""

    vectors: Vectors
    queries: Optional[Vectors]
    """Of a file that has both."""


def read_vectors(path: str, most: int) -> Found:
    """Return the vectors of a file, the first `most` of them.

    Raises:
        FileError: it cannot be read, or holds something else.
    """
    try:
        if path.endswith(_HDF5):
            found = _read_hdf5(path, most)
        elif path.endswith(".npy"):
            with Path(path).open("rb") as stream:
                found = Found(_read_npy(stream, path, most), None)
        elif path.endswith(".fvecs"):
            with Path(path).open("rb") as stream:
                found = Found(_read_fvecs(stream, path, most), None)
        else:
            raise FileError(f"{path}: the name ends in none of .npy, .fvecs, .hdf5, .h5")
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from None
    if not len(found.vectors):
        raise FileError(f"{path}: there are no vectors in it")
    if not finite(found.vectors.values):
        raise FileError(f"{path}: not all of its numbers are finite")
    return found


def _read_npy(stream: BinaryIO, path: str, most: int) -> Vectors:
    start = stream.read(8)
    if start[:6] != _NPY or len(start) < 8:
        raise FileError(f"{path}: not a file of numpy")
    size = "<H" if start[6] == 1 else "<I"
    try:
        (length,) = struct.unpack(size, stream.read(struct.calcsize(size)))
        head = ast.literal_eval(stream.read(length).decode("latin-1"))
        kind, shape, is_fortran = head["descr"], head["shape"], head["fortran_order"]
    except (ValueError, SyntaxError, KeyError, TypeError, struct.error):
        raise FileError(f"{path}: its header makes no sense") from None
    if kind not in _CODES or is_fortran or not isinstance(shape, tuple) or len(shape) != 2 or not shape[1]:
        raise FileError(f"{path}: {kind} of shape {shape}; needed: <f4 or <f8, a row a vector, in C's order")
    count, dimension = min(shape[0], most), shape[1]
    return Vectors(array("f", _numbers(stream, _CODES[kind], count * dimension, path)), dimension)


def _read_fvecs(stream: BinaryIO, path: str, most: int) -> Vectors:
    values, dimension = array("f"), 0
    while most > 0:
        head = stream.read(4)
        if not head:
            break
        own = int.from_bytes(head, "little", signed=True)
        if own <= 0 or (dimension and own != dimension):
            raise FileError(f"{path}: a vector of {own} numbers{f' behind one of {dimension}' if dimension else ''}")
        dimension = own
        values.extend(_numbers(stream, "f", dimension, path))
        most -= 1
    return Vectors(values, dimension or 1)


def _numbers(stream: BinaryIO, code: str, count: int, path: str) -> "array[float]":
    values: "array[float]" = array(code)
    data = stream.read(count * values.itemsize)
    if len(data) < count * values.itemsize:
        raise FileError(f"{path}: it ends early")
    values.frombytes(data)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def _read_hdf5(path: str, most: int) -> Found:
    try:
        h5py = importlib.import_module("h5py")  # a node need not have it
    except ImportError:
        raise FileError(
            f"{path}: to read HDF5 the node's Python needs h5py; without it make a file of `train` as .npy or .fvecs"
        ) from None
    with h5py.File(path, "r") as file:
        missing = [name for name in ("train", "test") if name not in file]
        if missing:
            raise FileError(f"{path}: it has no {' and no '.join(missing)}, as files of ann-benchmarks have")
        return Found(*map(_of_hdf5, ((file, "train", most), (file, "test", None))))


def _of_hdf5(wanted: Tuple[object, str, Optional[int]]) -> Vectors:
    file, name, most = wanted
    rows = file[name][:most]  # type: ignore[index]
    return Vectors(array("f", rows.astype("<f4").tobytes()), rows.shape[1])
