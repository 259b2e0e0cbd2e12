"""Find a table in a safetensors or .npy file, checking its header; write new files of both."""

from __future__ import annotations

import errno
import io
import math
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from ... import _checks
from ..._messages import first_few, shown
from ..atomic import beside, flush_folder, open_new
from ..errors import CheckpointError
from ..status import is_there
from . import foreign_files, safetensors_file

if TYPE_CHECKING:
    from ..._typing import Array

_MAX_HEADER, _MAX_ENTRIES = 16 << 20, 100_000  # of safetensors: bytes of the header, and tensors
_MAX_NPY_HEADER = 1 << 16  # bytes
_NPY = b"\x93NUMPY"
_NAMES_SUFFIX = "names.txt"  # of the file of names beside a .npy file
_DTYPES = {"F32": "float32", "F64": "float64", "F16": "float16", "BF16": "bfloat16"}
_BLOCK = 4 << 20  # bytes that are copied or filled at one time
_MOST_BYTES = (1 << 63) - 1 - _MAX_HEADER  # of an array in a file
_MULTIPLE = 64  # bytes: in new safetensors files rows begin at a cache line


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
        Whether the file holds nothing else, and has no names of rows beside it. Only such a file
        can be rewritten with more or fewer rows.
    file_size : int
        Bytes of the whole file.
    metadata : dict
        The metadata of a safetensors file.
    checksum_at : int or None
        The offset of the digits of its checksum.
    inode : int
    is_fortran : bool
        Whether the elements of a column, not those of a row, lie side by side.
    """

    name: str
    start: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_alone: bool
    file_size: int
    metadata: Any = {}  # noqa: RUF012 - it is never written to
    checksum_at: int | None = None
    inode: int = 0
    is_fortran: bool = False

    @property
    def id(self) -> str:
        """The random number in a file that `create` made, or ""."""
        return safetensors_file.id_in(self.metadata)

    @property
    def row_size(self) -> int:
        """Bytes of a row."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    def resized(self, n_rows: int) -> tuple[Place, bytes]:
        """The place of this array with ``n_rows`` in a new file, and the header of that file."""
        place, size = self._replace(shape=(n_rows, *self.shape[1:])), n_rows * self.row_size
        if not self.name:
            header = _npy_header(place)
        else:
            metadata = {**self.metadata, safetensors_file.ID: secrets.token_hex(16)}
            if safetensors_file.CHECKSUM in metadata:
                metadata[safetensors_file.CHECKSUM] = safetensors_file.OUTDATED.decode()
            place = place._replace(metadata=metadata, checksum_at=None)
            entry = str(safetensors_file.dtype_name(place.dtype)), place.shape, size
            header = safetensors_file.header_bytes({place.name: entry}, place.metadata, _MULTIPLE)
        return place._replace(start=len(header), file_size=len(header) + size), header


def names_file(path: Path) -> Path:
    """The file that holds the names of the rows of a .npy file, one a line."""
    return beside(path, _NAMES_SUFFIX)


def new_place(path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Place:
    """The place of an array in a new file, whose format the suffix of ``path`` selects."""
    is_npy = path.suffix == ".npy"
    if is_npy and dtype.name == "bfloat16":
        raise TypeError(f"{path}: a .npy file cannot say bfloat16, a safetensors file can")
    return Place("" if is_npy else name, 0, shape, dtype, True, 0)


def find(
    path: Path, name: str | None = None, n_axes: int | None = 2, *, is_copied: bool = False, is_widened: bool = False
) -> Place:
    """The place of a tensor in a file: of that name, or the only one that can be a table.

    It has ``n_axes`` axes (None: any number) and one of the dtypes of tables. Its rows lie one
    after the other, unless it ``is_copied``. The dtype of bfloat16 that ``is_widened`` is uint16,
    which needs no other package.

    Raises
    ------
    CheckpointError
        The file has another format, is damaged or truncated, or holds no such tensor, or several.
    """
    with open(path, "rb") as file:
        found = os.fstat(file.fileno())
        head = file.read(foreign_files.N_BYTES)
        file.seek(0)
        is_npy = head.startswith(_NPY)
        try:
            place = _find_npy(file, found.st_size) if is_npy else _find_tensor(file, found.st_size, name, n_axes, is_widened)
            if place.is_fortran and not is_copied:
                raise ValueError("its rows do not lie one after the other (Fortran order); fastembed.load_vectors copies it")
        except (OSError, MemoryError, SystemError):
            raise
        except CheckpointError as error:  # of a sound file, in which the table has to be named
            raise CheckpointError(f"{path}: {error}") from None
        except ImportError as error:  # bfloat16 without ml_dtypes
            raise ImportError(f"{path}: {error}") from None
        except Exception as error:  # the parsers of NumPy and json raise many types
            why = None if is_npy else foreign_files.description(head)
            raise CheckpointError(f"{path} holds no table that can be mapped: {why or f'{error!s:.500}'}") from error
    if n_axes not in (None, len(place.shape)):
        raise CheckpointError(f"{path} holds an array of shape {shown(place.shape)} where one with {n_axes} axes is needed")
    is_alone = place.is_alone and not (is_npy and is_there(names_file(path)))
    return place._replace(inode=found.st_ino, is_alone=is_alone)


def _find_npy(file: BinaryIO, size: int) -> Place:
    from numpy.lib import format as npy

    head = io.BytesIO(file.read(_MAX_NPY_HEADER))  # a longer header fails to parse
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(npy.read_magic(head))
    if read is None:
        raise ValueError("its version of the .npy format is unknown")
    shape, is_fortran, dtype = read(head)
    _checks.table("its array", np.empty((0, 0), dtype))
    if not all(type(n) is int and n >= 0 for n in shape):  # a boolean is an integer to NumPy's parser
        raise ValueError(f"shape of its array must be lengths, got {shown(shape)}")
    safetensors_file.check_extent("shape of its array", shape, dtype.itemsize * 8, safetensors_file.MAX_MAPPED)
    place = Place("", head.tell(), tuple(shape), dtype, True, size, is_fortran=bool(is_fortran) and len(shape) > 1)
    if place.start + math.prod(shape) * dtype.itemsize != size:
        raise ValueError(f"an array of shape {shown(shape)} does not end where the file does, at byte {size}")
    return place


def _find_tensor(file: BinaryIO, size: int, name: str | None, n_axes: int | None, is_widened: bool) -> Place:
    header = safetensors_file.read_header(file, size, _MAX_HEADER, _MAX_ENTRIES)
    fits = [key for key, tensor in header.tensors.items() if tensor.dtype in _DTYPES and n_axes in (None, len(tensor.shape))]
    if name is None and not fits:
        what = f"no tensor of {n_axes} axes and a dtype of {', '.join(_DTYPES)}"
        raise ValueError(f"it has {what} (packed and quantised rows are for fastembed.load)")
    if name is None and len(fits) > 1:
        some = f"[{', '.join(map(shown, tables_first(fits)[:3]))}{', ...' * (len(fits) > 3)}]"
        raise CheckpointError(f"several tables are there: name must say which, of {some}")
    found = fits[0] if name is None else table_name(header.tensors, name)
    if found not in fits:
        raise ValueError(f"there is no tensor {shown(found)} of {n_axes} axes and a dtype of {', '.join(_DTYPES)}")
    dtype, shape, start, _ = header.tensors[found]
    to = np.dtype(np.uint16) if is_widened and dtype == "BF16" else _checks.dtype(_DTYPES[dtype])
    is_alone = len(header.tensors) == 1
    safetensors_file.check_extent(f"shape of tensor {shown(found)}", shape, to.itemsize * 8, safetensors_file.MAX_MAPPED)
    return Place(found, start, shape, to, is_alone, size, header.metadata, header.checksum_at)


def table_name(tensors: Iterable[str], name: str) -> str:
    """The whole name of a tensor: of ``wte``, it may be ``transformer.wte.weight``."""
    if name in (tensors := list(tensors)):
        return name
    weight = f"{name}.weight"
    fits = [key for key in tensors if key == weight or key.endswith((f".{name}", f".{weight}"))]
    if len(fits) != 1:
        raise CheckpointError(
            f"name {shown(name)} must be that of one tensor, and {first_few(fits or tables_first(tensors))} are there"
        )
    return fits[0]


OF_OPTIMIZERS = ("exp_avg.", "exp_avg_sq.", "optimizer.")  # what names of optimisers' state begin with


def tables_first(names: Iterable[str]) -> list[str]:
    """Names of tensors, sorted: those of an optimiser's state last, those in modules late."""
    return sorted(names, key=lambda name: (name.startswith(OF_OPTIMIZERS), name.count("."), name))


def _npy_header(place: Place) -> bytes:
    from numpy.lib import format as npy

    buffer = io.BytesIO()
    npy.write_array_header_1_0(buffer, {"descr": place.dtype.str, "fortran_order": False, "shape": place.shape})
    return buffer.getvalue()


Fill = Callable[[int, int], "Array | None"]  # rows first .. end - 1; None for zeros


def write(file: BinaryIO, place: Place, fill: Fill, first_row: int = 0, kept: Iterable[tuple[int, Any]] = ()) -> Place:
    """Write a file of one array, and flush it to the disk.

    ``kept`` has the bytes of the first ``first_row`` rows, each with its offset in the array, and
    ``fill`` returns the others. What ``kept`` lacks, and rows for which ``fill`` returns None,
    become holes, which read as zeros.
    """
    n_rows = place.shape[0]
    place, header = place.resized(n_rows)
    file.write(header)
    file.truncate(place.start + n_rows * place.row_size)
    for offset, block in kept:
        file.seek(place.start + offset)
        file.write(block)
    n_block = max(_BLOCK // max(place.row_size, 1), 1)
    for first in range(first_row, n_rows, n_block):
        rows = fill(first, min(first + n_block, n_rows))
        if rows is not None:
            file.seek(place.start + first * place.row_size)
            file.write(np.ascontiguousarray(rows, place.dtype).reshape(-1).view(np.uint8).data)
    file.flush()
    os.fsync(file.fileno())
    return place._replace(inode=os.fstat(file.fileno()).st_ino)


def without_checksum(path: Path, place: Place) -> Place:
    """The place in a file that is about to change: its checksum, if any, is marked as outdated."""
    if place.checksum_at is not None:
        safetensors_file.forget_checksum(path, place.checksum_at)
    return place._replace(checksum_at=None)


def data_blocks(path: Path, place: Place, n_bytes: int) -> Iterator[tuple[int, bytes]]:
    """(offset in the array, bytes) of the first bytes of an array in a file, leaving out holes."""
    with open(path, "rb") as file:
        at, end = place.start, place.start + n_bytes
        while at < end:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                break  # a hole up to the end of the file
            hole = min(os.lseek(file.fileno(), at, os.SEEK_HOLE), end)
            file.seek(at)
            while at < hole:
                block = file.read(min(_BLOCK, hole - at))
                if not block:
                    raise CheckpointError(f"{path} has become shorter")
                yield at - place.start, block
                at += len(block)


def new_file(path: Path, mode_from: Path, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], fill: Fill) -> None:
    """Write a new file of one array atomically, with the permissions of ``mode_from``."""
    place = new_place(path, name, shape, dtype)
    if not place.name and is_there(names_file(path)):
        raise FileExistsError(f"{names_file(path)} is there already, and would name the rows of {path}: move it away")
    n_bytes = shape[0] * place.row_size
    if n_bytes > _MOST_BYTES:
        raise OSError(errno.EFBIG, f"{shape[0]} rows of {place.row_size} bytes are {n_bytes:,}, too many for a file", str(path))
    try:
        with open_new(path, mode_from) as file:
            write(file, place, fill)
        os.replace(beside(path, "new"), path)
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, f"{error.strerror}, for {n_bytes:,} bytes", str(path)) from error  # of a call on an open file
    finally:
        beside(path, "new").unlink(missing_ok=True)
    flush_folder(path.parent)


def fill_with(shape: tuple[int, ...], value: float) -> Fill:
    """Rows filled with one number; None for 0.0, since holes of a file read as zeros."""
    return lambda first, end: None if str(float(value)) == "0.0" else np.full((end - first, *shape[1:]), value)


def fill_from(new_rows: Array | None, n_kept: int) -> Fill:
    """The rows that a resize adds after the ``n_kept`` first; None for zeros."""
    return lambda first, end: None if new_rows is None else new_rows[first - n_kept : end - n_kept]
