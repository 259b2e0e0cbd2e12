"""Find a table in a safetensors or .npy file, checking its header; write new files of both."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from .. import _checks
from .checkpoint import CheckpointError

if TYPE_CHECKING:
    from .._typing import Array

_MAX_HEADER, _MAX_ENTRIES = 16 << 20, 100_000  # of safetensors: bytes of the header, and tensors
_MAX_NPY_HEADER = 1 << 16  # bytes
_NPY, _METADATA = b"\x93NUMPY", "__metadata__"
_DTYPES = {"F32": "float32", "F64": "float64", "F16": "float16", "BF16": "bfloat16"}
_BLOCK = 4 << 20  # bytes that are copied or filled at one time


class Place(NamedTuple):
    """The place of an array in a file.

    Attributes
    ----------
    name : str
        The name of the tensor; empty in a .npy file.
    start : int
        The offset of its first byte.
    shape : tuple of int
    dtype : dtype
    is_alone : bool
        Whether the file holds nothing else. Only such a file can be rewritten with more or fewer
        rows.
    file_size : int
        Bytes of the whole file.
    metadata : dict or None
        The metadata of a safetensors file.
    """

    name: str
    start: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_alone: bool
    file_size: int
    metadata: Any = None

    @property
    def row_size(self) -> int:
        """Bytes of a row."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    def resized(self, n_rows: int) -> tuple[Place, bytes]:
        """The place of this array with ``n_rows`` in a new file, and the header of that file."""
        place = self._replace(shape=(n_rows, *self.shape[1:]))
        header = _npy_header(place) if not self.name else _safetensors_header(place)
        size = len(header) + n_rows * place.row_size
        return place._replace(start=len(header), file_size=size), header


def new_place(path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Place:
    """The place of an array in a new file, whose format the suffix of ``path`` selects."""
    is_npy = path.suffix == ".npy"
    if is_npy and dtype.name == "bfloat16":
        raise TypeError(f"{path}: a .npy file cannot say bfloat16, a safetensors file can")
    return Place("" if is_npy else name, 0, shape, dtype, True, 0)


def find(path: Path, name: str | None = None, n_axes: int | None = 2) -> Place:
    """The place of a tensor in a file: of that name, or the only one that can be a table.

    It has ``n_axes`` axes (None: any number) and one of the dtypes of tables.

    Raises
    ------
    CheckpointError
        The file has another format, is damaged or truncated, or holds no such tensor, or several.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            is_npy = file.read(len(_NPY)) == _NPY
            file.seek(0)
            place = _find_npy(file, size) if is_npy else _find_tensor(file, size, name, n_axes)
    except OSError:
        raise
    except ImportError as error:  # bfloat16 without ml_dtypes
        raise ImportError(f"{path}: {error}") from None
    except Exception as error:  # the parsers of NumPy and json raise many types
        raise CheckpointError(f"{path} holds no table that can be mapped: {error}") from error
    if n_axes not in (None, len(place.shape)):
        raise CheckpointError(f"{path} holds an array of shape {place.shape} where one with {n_axes} axes is needed")
    return place


def _find_npy(file: BinaryIO, size: int) -> Place:
    from numpy.lib import format as npy

    head = io.BytesIO(file.read(_MAX_NPY_HEADER))  # a longer header fails to parse
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(npy.read_magic(head))
    if read is None:
        raise ValueError("its version of the .npy format is unknown")
    shape, is_fortran, dtype = read(head)
    _checks.table("its array", np.empty((0, 0), dtype))
    if is_fortran:
        raise ValueError("its rows do not lie one after the other (Fortran order)")
    place = Place("", head.tell(), tuple(shape), dtype, True, size)
    if min(shape, default=0) < 0 or place.start + math.prod(shape) * dtype.itemsize != size:
        raise ValueError(f"an array of shape {shape} does not end where the file does, at byte {size}")
    return place


def _find_tensor(file: BinaryIO, size: int, name: str | None, n_axes: int | None) -> Place:
    (length,) = struct.unpack("<Q", file.read(8))
    if length > min(_MAX_HEADER, size - 8):
        raise ValueError(f"its header of {length} bytes is longer than the file, or than {_MAX_HEADER} bytes")
    entries = json.loads(file.read(length).decode(), object_pairs_hook=_without_duplicates)
    if not isinstance(entries, dict) or len(entries) > _MAX_ENTRIES:
        raise ValueError(f"its header is no mapping of at most {_MAX_ENTRIES} names")
    metadata = entries.pop(_METADATA, None)
    places = {key: _checked_entry(key, entry) for key, entry in entries.items()}
    end = 8 + length + max((last for *_, last in places.values()), default=0)
    if end != size:
        raise ValueError(f"its tensors end at byte {end}, and the file at byte {size}")
    fits = [key for key, (dtype, shape, *_) in places.items() if dtype in _DTYPES and n_axes in (None, len(shape))]
    if name is None and len(fits) != 1:
        raise ValueError(f"name must say which, of {sorted(fits)[:3]}{'...' * (len(fits) > 3)}")
    found = fits[0] if name is None else name
    if found not in fits:
        raise ValueError(f"there is no tensor {found!r} of {n_axes} axes and a dtype of {', '.join(_DTYPES)}")
    dtype, shape, first, last = places[found]
    shared = [key for key, (*_, a, b) in places.items() if key != found and a < last and first < b]
    if shared:
        raise ValueError(f"tensors {found!r} and {shared[0]!r} overlap")
    place = Place(found, 8 + length + first, tuple(shape), _checks.dtype(_DTYPES[dtype]), len(places) == 1, size, metadata)
    if last - first != math.prod(shape) * place.dtype.itemsize:
        raise ValueError(f"tensor {found!r} of {dtype} and shape {shape} has {last - first} bytes")
    return place


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice in its header")
    return found


def _checked_entry(key: str, entry: Any) -> tuple[str, list[int], int, int]:
    dtype, shape, ends = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not (isinstance(dtype, str) and _are_sizes(shape) and _are_sizes(ends) and len(ends) == 2 and ends[0] <= ends[1]):
        raise ValueError(f"invalid dtype, shape or data_offsets of {key!r}")
    return dtype, shape, *ends


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and len(values) <= 64 and all(type(x) is int and 0 <= x < 2**63 for x in values)


def _npy_header(place: Place) -> bytes:
    from numpy.lib import format as npy

    buffer = io.BytesIO()
    npy.write_array_header_1_0(buffer, {"descr": place.dtype.str, "fortran_order": False, "shape": place.shape})
    return buffer.getvalue()


def _safetensors_header(place: Place) -> bytes:
    """The header of a file with one tensor, padded so that rows begin at a cache line."""
    (dtype,) = (key for key, name in _DTYPES.items() if name == place.dtype.name)
    entry = {"dtype": dtype, "shape": place.shape, "data_offsets": [0, place.shape[0] * place.row_size]}
    text = json.dumps(({_METADATA: place.metadata} if place.metadata else {}) | {place.name: entry}).encode()
    text += b" " * (-(8 + len(text)) % 64)
    return struct.pack("<Q", len(text)) + text


Fill = Callable[[int, int], "Array | None"]  # rows first .. end - 1; None for zeros


def write(file: BinaryIO, place: Place, fill: Fill, first_row: int = 0, source: tuple[Path, Place] | None = None) -> Place:
    """Write a file of one array, and flush it to the disk.

    The first ``first_row`` rows are copied from ``source``; ``fill`` returns the others. Rows for
    which it returns None become holes, and holes of ``source`` stay holes.
    """
    n_rows = place.shape[0]
    place, header = place.resized(n_rows)
    file.write(header)
    file.truncate(place.start + n_rows * place.row_size)
    if source is not None:
        _copy(source, file, place.start, min(first_row, n_rows) * place.row_size)
    n_block = max(_BLOCK // max(place.row_size, 1), 1)
    for first in range(first_row, n_rows, n_block):
        rows = fill(first, min(first + n_block, n_rows))
        if rows is not None:
            file.seek(place.start + first * place.row_size)
            file.write(np.ascontiguousarray(rows, place.dtype).reshape(-1).view(np.uint8).data)
    file.flush()
    os.fsync(file.fileno())
    return place


def _copy(source: tuple[Path, Place], file: BinaryIO, start: int, n_bytes: int) -> None:
    """Copy the first bytes of an array, leaving out holes."""
    path, place = source
    with open(path, "rb") as old:
        at, end = place.start, place.start + n_bytes
        while at < end:
            try:
                at = os.lseek(old.fileno(), at, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                break  # a hole up to the end of the file
            hole = min(os.lseek(old.fileno(), at, os.SEEK_HOLE), end)
            old.seek(at)
            file.seek(start + at - place.start)
            while at < hole:
                block = old.read(min(_BLOCK, hole - at))
                if not block:
                    raise CheckpointError(f"{path} has become shorter")
                at += file.write(block)
