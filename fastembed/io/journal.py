"""The journal of a mapped table: the rows that a flush is about to write to its files.

It is written atomically before the files are. A journal that exists is complete, and to replay it
twice has the same effect as once. So the next writer of the table replays the journal of a killed
process.
"""

from __future__ import annotations

import itertools
import json
import mmap
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from .. import _checks
from .checkpoint import CheckpointError, flush_folder

if TYPE_CHECKING:
    from .._typing import Array
    from .tensor_file import Place

_MAGIC = b"fe-jrnl1"
_BLOCK = 4 << 20  # bytes that are copied at one time
_RUN = 2 * 8  # bytes of a run: its first row, its number of rows
_MAX_RECORD = 1 << 20  # bytes
NO_RECORD: dict[str, Any] = {"tensor": "", "optimizer": None, "step": 0, "options": {}, "states": {}}


def beside(path: Path, suffix: str) -> Path:
    """The file ``<name>.<suffix>`` that belongs to ``path``, in the same folder."""
    return path.with_name(f"{path.name}.{suffix}")


def open_new(path: Path, mode_from: Path) -> BinaryIO:
    """Open ``<path>.new``, later renamed to ``path``; permissions are those of ``mode_from``."""
    mode = mode_from.stat().st_mode & 0o666 if mode_from.exists() else None
    file = open(beside(path, "new"), "wb")  # noqa: SIM115 - the caller closes it
    try:
        if mode is not None:
            os.fchmod(file.fileno(), mode)
    except BaseException:
        file.close()
        raise
    return file


class Part(NamedTuple):
    """One file's share of a journal."""

    file: str
    start: int
    row_size: int
    n_rows: int
    file_size: int


def part_of(path: Path, place: Place) -> Part:
    return Part(path.name, place.start, place.row_size, place.shape[0], place.file_size)


def runs_of(rows: Array) -> Array:
    """Sorted distinct rows as runs (first row, number of rows), shape (n, 2)."""
    firsts = np.flatnonzero(np.diff(rows, prepend=-2) != 1)
    return np.stack([rows[firsts], np.diff(firsts, append=len(rows))], axis=1)


class Journal(NamedTuple):
    """A journal that has been read from its file.

    Attributes
    ----------
    parts : list of Part
        The files whose rows change.
    renamed : list of str
        Files that are first replaced by ``<name>.new``.
    record : JSON-able
        The new content of the record file.
    runs : ndarray of shape (n, 2)
        The rows that change, the same in each file.
    data : memoryview
        The bytes of these rows, one file after the other.
    """

    path: Path
    parts: list[Part]
    renamed: list[str]
    record: Any
    runs: Array
    data: memoryview

    def changes(self, k: int) -> Iterator[tuple[int, memoryview]]:
        """(offset, bytes) of each run of part k, from the start of the rows of its file."""
        n_rows, size = int(self.runs[:, 1].sum()), self.parts[k].row_size
        at = n_rows * sum(part.row_size for part in self.parts[:k])
        for first, n in self.runs.tolist():
            yield first * size, self.data[at : at + n * size]
            at += n * size

    def replay(self, table: Path) -> None:
        """Write the journal's rows to the files, flush them to the disk, remove the journal."""
        for name in self.renamed:
            if table.with_name(f"{name}.new").exists():
                os.replace(table.with_name(f"{name}.new"), table.with_name(name))
        for k, part in enumerate(self.parts):
            descriptor = os.open(table.with_name(part.file), os.O_RDWR | os.O_CLOEXEC)
            try:
                if os.fstat(descriptor).st_size != part.file_size:
                    raise CheckpointError(f"{self.path} is not a journal of the {part.file} that is there")
                for offset, data in self.changes(k):
                    _write_at(descriptor, data, part.start + offset)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        if self.record is not None:
            write_record(table, self.record)
        flush_folder(table.parent)
        os.unlink(self.path)
        flush_folder(table.parent)


def write_record(table: Path, record: Any) -> None:
    """Write the record file atomically."""
    path = beside(table, "optimizer.json")
    with open_new(path, table) as file:
        file.write(json.dumps(record, indent=1).encode())
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside(path, "new"), path)


def read_record(path: Path) -> dict[str, Any]:
    """The record of the optimiser at the last flush."""
    file = beside(path, "optimizer.json")
    try:
        with open(file, "rb") as opened:
            found = json.loads(opened.read(_MAX_RECORD))
        names = [found["optimizer"], *found["states"]]
        is_valid = found.keys() == NO_RECORD.keys() and all(name.isidentifier() for name in names)
        is_valid = is_valid and all(isinstance(start, float) for start in found["states"].values())
        if not (is_valid and isinstance(found["options"], dict) and _checks.size("step", found["step"]) >= 0):
            raise ValueError("invalid names or numbers")
    except FileNotFoundError:
        return NO_RECORD
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{file} does not describe an optimiser: {error}") from error
    return found


def _write_at(descriptor: int, data: memoryview, offset: int) -> None:
    while len(data):
        n_written = os.pwrite(descriptor, data, offset)
        data, offset = data[n_written:], offset + n_written


def _row_blocks(array: Array, rows: Array) -> Iterator[Array]:
    """The bytes of the given rows, in blocks."""
    flat = array.reshape(len(array), -1).view(np.uint8) if array.size else np.empty((len(array), 0), np.uint8)
    n_block = max(_BLOCK // max(flat.shape[1], 1), 1)
    for first in range(0, len(rows), n_block):
        yield flat[rows[first : first + n_block]]


def write(table: Path, parts: list[tuple[Part, Array]], rows: Array, record: Any, renamed: Iterable[str] = ()) -> Journal:
    """Write a journal of rows (sorted, distinct) of arrays. The final rename commits it."""
    runs, path = runs_of(rows), beside(table, "journal")
    head = {"parts": [part for part, _ in parts], "renamed": list(renamed), "record": record, "n_runs": len(runs)}
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    blocks: Iterator[Any] = (block.data for _, array in parts for block in _row_blocks(array, rows))
    with open_new(path, table) as file:
        file.write(_MAGIC)
        checksum = 0
        for chunk in itertools.chain((struct.pack("<Q", len(text)), text, runs.data), blocks):
            checksum = zlib.crc32(chunk, checksum)
            file.write(chunk)
        file.write(struct.pack("<Q", checksum))
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside(path, "new"), path)
    flush_folder(table.parent)
    found = read(table)
    assert found is not None
    return found


def read(table: Path) -> Journal | None:
    """The journal of a table, or None.

    Raises
    ------
    CheckpointError
        The journal is damaged, and so the state of the table is unknown.
    """
    path = beside(table, "journal")
    try:
        with open(path, "rb") as file:
            memory = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except FileNotFoundError:
        return None
    except ValueError:  # an empty file
        memory = memoryview(b"")
    try:
        return _parse(path, table, memory)
    except (ValueError, TypeError, KeyError, RecursionError, struct.error) as error:
        raise CheckpointError(f"{path} is not a journal of {table.name}, or is damaged: {error}") from error


def _parse(path: Path, table: Path, memory: memoryview) -> Journal:
    body, end = memory[len(_MAGIC) : -8], memory[-8:]
    if memory[: len(_MAGIC)] != _MAGIC or struct.unpack("<Q", end) != (zlib.crc32(body),):
        raise ValueError("its checksum is wrong")
    (length,) = struct.unpack("<Q", body[:8])
    head = json.loads(bytes(body[8 : 8 + length]))
    parts, n_runs = [Part(*part) for part in head["parts"]], head["n_runs"]
    runs = np.frombuffer(body[8 + length : 8 + length + n_runs * _RUN], np.int64).reshape(n_runs, 2)
    data = body[8 + length + n_runs * _RUN :]
    ends = runs.sum(axis=1)
    for name in [*(part.file for part in parts), *head["renamed"]]:
        if "/" in name or not f"{name}.".startswith(f"{table.name}."):
            raise ValueError(f"{name!r} is no file of the table")
    if not all(type(n) is int and n >= 0 for part in parts for n in part[1:]):
        raise ValueError("what it says of its files is no number")
    if np.any(runs < [0, 1]) or np.any(runs[1:, 0] < ends[:-1]) or any(np.any(ends > part.n_rows) for part in parts):
        raise ValueError("its rows are not those of the table")
    if len(data) != int(runs[:, 1].sum()) * sum(part.row_size for part in parts):
        raise ValueError("its length is wrong")
    return Journal(path, parts, head["renamed"], head["record"], runs, data)
