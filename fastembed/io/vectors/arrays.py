"""Arrays: .npy, .npz, safetensors; a table by its name, and the names of its rows."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ... import _checks
from ..._messages import counted, first_few, shown
from ..errors import CheckpointError
from ..formats import safetensors_file, tensor_file
from ..status import is_there
from . import names as names_of
from .blocks import Block, Vectors, places

if TYPE_CHECKING:
    from ..._typing import Array

_BLOCK = 1 << 20  # bytes that are read at one time
_MOST_DEFLATED = 1100  # bytes, at most, that one byte of a deflated file can stand for
_ENCRYPTED = 1  # a flag of a member of an archive
_MAX_NAMES = 1 << 30  # bytes of the names of a .npz archive, as an array of strings of one length


def read_npy(path: Path, file: BinaryIO) -> Vectors:
    place = tensor_file.find(path, is_copied=True)
    file.seek(place.start)
    names, found = names_beside(path), tensor_file.names_file(path)
    if place.is_fortran and 0 not in place.shape:
        columns = np.memmap(path, place.dtype, "r", place.start, (place.shape[0], place.shape[1]), order="F")
        return _checked(place.shape, place.dtype, names, found, lambda first, end: np.ascontiguousarray(columns[first:end]))
    return _vectors(file, place.shape, place.dtype, names, found)


def names_in(path: Path, encoding: str = "utf-8") -> list[str]:
    """The names in a file, one a line: line feeds end them, or all end as lines of Windows do."""
    text = path.read_bytes().decode(encoding)
    names = text.removesuffix("\n").split("\n") if text else []
    ended = names if text.endswith("\n") else names[:-1]  # the last line may have no end
    is_of_windows = bool(ended) and all(name.endswith("\r") for name in ended)
    return [name.removesuffix("\r") for name in names] if is_of_windows else names


def names_beside(path: Path) -> list[str] | None:
    """The names of the rows of a .npy file, if it has any."""
    found = tensor_file.names_file(path)
    return names_in(found) if is_there(found) else None


def names_of_file(path: Path, table: str, n_rows: int) -> list[str] | None:
    """The names of the rows of a table in a file, or None; CheckpointError if they are no names."""
    try:
        if table:
            with open(path, "rb") as file:
                header = safetensors_file.read_header(file, os.fstat(file.fileno()).st_size)
                return names_of.read(file, header.tensors, table)
        names, where = names_beside(path), tensor_file.names_file(path)
        _check_names(names, n_rows, where)
        return None if names is None else _checks.distinct_names(f"names in {where}", names)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: {error!s:.500}") from error


def read_safetensors(path: Path, file: BinaryIO, name: str | None, is_widened: bool) -> Vectors:
    """A tensor; bfloat16, unless it is to stay that, as float32, for which NumPy suffices."""
    header = safetensors_file.read_header(file, path.stat().st_size)
    safetensors_file.check_checksum(file, header)
    try:
        place = tensor_file.find(path, name, is_widened=is_widened)
    except ImportError as error:
        raise ImportError(f'{error}, or give dtype="float32"') from None
    names = names_of.read(file, header.tensors, place.name)
    file.seek(place.start)
    vectors = _vectors(file, place.shape, place.dtype, names, path)
    if place.dtype != np.uint16:
        return vectors
    blocks = (block._replace(rows=(block.rows.astype(np.uint32) << 16).view(np.float32)) for block in vectors.blocks)
    return vectors._replace(dtype=np.dtype(np.float32), blocks=blocks)


def _vectors(file: Any, shape: tuple[int, ...], dtype: np.dtype[Any], names: list[str] | None, where: Path) -> Vectors:
    """Rows that follow one another in a file from where it is now."""
    size = shape[1] * dtype.itemsize

    def read(first: int, end: int) -> Array:
        data = file.read((end - first) * size)
        if len(data) != (end - first) * size:
            raise ValueError(f"it ends within rows {first} to {end - 1} of {shape[0]}")
        return np.frombuffer(data, np.uint8).view(dtype).reshape(end - first, shape[1])

    return _checked(shape, dtype, names, where, read)


def _checked(
    shape: tuple[int, ...], dtype: np.dtype[Any], names: list[str] | None, where: Path, rows: Callable[[int, int], Array]
) -> Vectors:
    """Rows that a function gives, one block after the other, and their names."""
    _check_names(names, shape[0], where)
    return Vectors(shape[1], dtype.newbyteorder("="), _blocks(shape, dtype, names, rows))


def _check_names(names: list[str] | None, n_rows: int, where: Path) -> None:
    """ValueError unless there is a name for each row, or none at all."""
    if names is not None and len(names) != n_rows:
        raise ValueError(f"{where} has {counted(len(names), 'name')}, and the table {counted(n_rows, 'row')}")


def _blocks(
    shape: tuple[int, ...], dtype: np.dtype[Any], names: list[str] | None, rows: Callable[[int, int], Array]
) -> Iterator[Block]:
    n_block = max(_BLOCK // max(shape[1] * dtype.itemsize, 1), 1)
    for first in range(0, shape[0], n_block):
        end = min(first + n_block, shape[0])
        yield Block(names and names[first:end], rows(first, end), places("row", range(first, end)))


def read_npz(file: BinaryIO, name: str | None) -> Vectors:
    """The table of an archive, and its array of strings, if there is one."""
    archive = zipfile.ZipFile(file)
    tables: dict[str, Any] = {}
    strings: dict[str, Any] = {}
    for info in archive.infolist():
        if not 0 <= info.header_offset < archive.start_dir or info.flag_bits & _ENCRYPTED:
            raise ValueError(f"{shown(info.filename)} lies outside of the archive, or is encrypted")
        if info.filename.endswith(".npy"):
            member: Any = archive.open(info)
            shape, dtype = _npy_header(member, info)
            by_kind = tables if dtype.kind == "f" and len(shape) == 2 else strings if dtype.kind in "US" else {}
            by_kind[info.filename.removesuffix(".npy")] = member, shape, dtype
    if name is None and len(tables) != 1:
        raise ValueError(f"name must say which, of {first_few(sorted(tables))}")
    if name is not None and name not in tables:
        raise ValueError(f"it has no table {shown(name)}, but {first_few(sorted(tables))}")
    member, shape, dtype = tables[next(iter(tables)) if name is None else name]
    names = None
    if len(strings) == 1:
        ((of_names, n_names, kind),) = strings.values()
        names = np.frombuffer(of_names.read(), kind).reshape(n_names).astype(str).tolist()
    return _vectors(member, shape, dtype, names, Path("its array of strings"))


def _npy_header(member: Any, info: zipfile.ZipInfo) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """The shape and dtype of an array in C order that fits into a member of an archive."""
    from numpy.lib import format as npy

    version = npy.read_magic(member)
    shape, is_fortran, dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(member)
    if is_fortran and len(shape) > 1:
        raise ValueError(f"the rows of {shown(info.filename)} do not lie one after the other (Fortran order)")
    if math.prod(shape) * dtype.itemsize > min(info.file_size, info.compress_size * _MOST_DEFLATED):
        raise ValueError(f"{shown(info.filename)} has no {math.prod(shape)} elements of {dtype}")
    return shape, dtype


def write_npy(file: BinaryIO, shape: tuple[int, int], dtype: np.dtype[Any], blocks: Iterable[Array]) -> None:
    """Write a .npy file of rows that are given in blocks."""
    place = tensor_file.new_place(Path("x.npy"), "", shape, dtype)
    file.write(place.resized(shape[0])[1])
    for rows in blocks:
        file.write(np.ascontiguousarray(rows, dtype).data)


def check_names(names: Iterable[str]) -> None:
    """ValueError if names could not be read back from the file beside a .npy file."""
    all_names = list(names)
    for i, name in enumerate(all_names):
        if "\n" in name:
            raise ValueError(f"name {shown(name)} of row {i} has a line feed, and the names beside a .npy file are one a line")
    if all_names and all(name.endswith("\r") for name in all_names):
        raise ValueError("all names end in a carriage return, which would be taken for the ends of lines")


def write_names(file: BinaryIO, names: Iterable[str]) -> None:
    """Write names, which `check_names` takes, one a line."""
    for name in names:
        file.write(f"{name}\n".encode())


def write_npz(
    file: BinaryIO, names: list[str] | None, shape: tuple[int, int], dtype: np.dtype[Any], blocks: Iterable[Array]
) -> None:
    """Write an archive of the arrays "vectors" and, if there are names, "names"."""
    longest = max(map(len, names or ()), default=0)
    if 4 * longest * shape[0] > _MAX_NAMES:
        raise ValueError(f"a .npz archive would take {longest} characters for each name: write .safetensors")
    if any(name.endswith("\0") for name in names or ()):
        raise ValueError("a .npz archive cannot hold names that end in a NUL: write .safetensors")
    with zipfile.ZipFile(file, "w", allowZip64=True) as archive:
        with archive.open("vectors.npy", "w", force_zip64=True) as member:
            write_npy(member, shape, dtype, blocks)  # type: ignore[arg-type]
        if names is not None:
            with archive.open("names.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.array(names, f"<U{max(longest, 1)}"), allow_pickle=False)
