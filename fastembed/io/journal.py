"""The journal of a mapped table: what a flush is about to write into its files, written whole or not at all, then carried out.

A journal that is there under its name is complete, and carrying it out once more changes nothing: so whoever opens the table
finishes what a killed process has begun.
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
_RUN = 2 * 8  # bytes: the first row, and how many
_MAX_RECORD = 1 << 20  # bytes
NO_RECORD: dict[str, Any] = {"tensor": "", "optimizer": None, "step": 0, "options": {}, "states": {}}


def beside(path: Path, suffix: str) -> Path:
    """A file that belongs to another one and lies beside it."""
    return path.with_name(f"{path.name}.{suffix}")


def open_new(path: Path, like: Path) -> BinaryIO:
    """What is to take the place of a file when it is whole, for the eyes of those who may read another."""
    mode = like.stat().st_mode & 0o666 if like.exists() else None
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
    """Sorted distinct rows as (first row, how many), shape (n, 2)."""
    firsts = np.flatnonzero(np.diff(rows, prepend=-2) != 1)
    return np.stack([rows[firsts], np.diff(firsts, append=len(rows))], axis=1)


class Journal(NamedTuple):
    """A journal as it was read.

    Attributes
    ----------
    parts : list of Part
        The files whose rows change.
    renamed : list of str
        Files that one beside them, ``<name>.new``, takes the place of first.
    record : JSON-able
        What the record file is to say.
    runs : ndarray of shape (n, 2)
        Which rows change, the same in each file.
    data : memoryview
        Those rows, of one file after the other.
    """

    path: Path
    parts: list[Part]
    renamed: list[str]
    record: Any
    runs: Array
    data: memoryview

    def changes(self, k: int) -> Iterator[tuple[int, memoryview]]:
        """Where in the rows of part k some bytes belong, and these bytes."""
        n_rows, size = int(self.runs[:, 1].sum()), self.parts[k].row_size
        at = n_rows * sum(part.row_size for part in self.parts[:k])
        for first, n in self.runs.tolist():
            yield first * size, self.data[at : at + n * size]
            at += n * size

    def carry_out(self, table: Path) -> None:
        """Let the files hold what the journal says, flush them to the disk, and remove the journal."""
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
            put_record(table, self.record)
        flush_folder(table.parent)
        os.unlink(self.path)
        flush_folder(table.parent)


def put_record(table: Path, record: Any) -> None:
    """Let the record file say that; whole or not at all."""
    path = beside(table, "optimizer.json")
    with open_new(path, table) as file:
        file.write(json.dumps(record, indent=1).encode())
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside(path, "new"), path)


def read_record(path: Path) -> dict[str, Any]:
    """What the last flush said of the optimiser."""
    file = beside(path, "optimizer.json")
    try:
        with open(file, "rb") as opened:
            found = json.loads(opened.read(_MAX_RECORD))
        names = [found["optimizer"], *found["states"]]
        is_whole = found.keys() == NO_RECORD.keys() and all(name.isidentifier() for name in names)
        is_whole = is_whole and all(isinstance(start, float) for start in found["states"].values())
        if not (is_whole and isinstance(found["options"], dict) and _checks.size("step", found["step"]) >= 0):
            raise ValueError("names or numbers are none")
    except FileNotFoundError:
        return NO_RECORD
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{file} does not describe an optimiser: {error}") from error
    return found


def _write_at(descriptor: int, data: memoryview, offset: int) -> None:
    while len(data):
        n_written = os.pwrite(descriptor, data, offset)
        data, offset = data[n_written:], offset + n_written


def _rows_of(array: Array, rows: Array) -> Iterator[Array]:
    """The bytes of some rows, in blocks."""
    flat = array.reshape(len(array), -1).view(np.uint8) if array.size else np.empty((len(array), 0), np.uint8)
    n_block = max(_BLOCK // max(flat.shape[1], 1), 1)
    for first in range(0, len(rows), n_block):
        yield flat[rows[first : first + n_block]]


def write(table: Path, parts: list[tuple[Part, Array]], rows: Array, record: Any, renamed: Iterable[str] = ()) -> Journal:
    """Write a journal of what rows (sorted, distinct) of some arrays hold; once it has its name it counts."""
    runs, path = runs_of(rows), beside(table, "journal")
    head = {"parts": [part for part, _ in parts], "renamed": list(renamed), "record": record, "n_runs": len(runs)}
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    blocks: Iterator[Any] = (block.data for _, array in parts for block in _rows_of(array, rows))
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
    """The journal of a table, if there is one.

    Raises
    ------
    CheckpointError
        It is damaged: then nothing can be said about the table either.
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
        return _parsed(path, table, memory)
    except (ValueError, TypeError, KeyError, RecursionError, struct.error) as error:
        raise CheckpointError(f"{path} is not a journal of {table.name}, or is damaged: {error}") from error


def _parsed(path: Path, table: Path, memory: memoryview) -> Journal:
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
