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
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..._kernels.floats import own_floats
from ..._messages import shown
from ..atomic import beside, flush_folder, open_new
from ..errors import CheckpointError
from ..formats import safetensors_file
from ..status import is_there
from . import record as records

if TYPE_CHECKING:
    from ..._typing import Array
    from ..formats.tensor_file import Place

_MAGIC = b"fe-jrnl1"
_BLOCK = 4 << 20  # bytes that are copied at one time
_N_SAMPLE = 64  # rows
_RUN = 2 * 8  # bytes of a run: its first row, its number of rows


class Part(NamedTuple):
    """One file's share of a journal."""

    file: str
    start: int
    row_size: int
    n_rows: int
    file_size: int


def part_of(path: Path, place: Place) -> Part:
    return Part(path.name, place.start, place.row_size, place.shape[0], place.file_size)


class Identity(NamedTuple):
    """What a journal knows of a file, to tell it from another of the same name and shape.

    Attributes
    ----------
    inode : int
    id : str
        The random number in the file; "" if it has none.
    sample : list of int
        Some rows that the flush leaves as they are.
    checksum : int
        Of these rows.
    """

    inode: int
    id: str
    sample: list[int]
    checksum: int


def identity_of(place: Place, array: Array, rows: Array) -> Identity:
    """The identity of a file whose ``rows`` (sorted, distinct) are about to change."""
    sample = [] if place.id else np.setdiff1d(np.arange(min(len(array), len(rows) + _N_SAMPLE)), rows)[:_N_SAMPLE].tolist()
    return Identity(place.inode, place.id, sample, zlib.crc32(array[sample].tobytes()) if sample else 0)


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
    identities : list of Identity, or None
        Those of the files; None in a journal of an earlier version.
    """

    path: Path
    parts: list[Part]
    renamed: list[str]
    record: Any
    runs: Array
    data: memoryview
    identities: list[Identity] | None = None

    def check_file(self, k: int, path: Path) -> None:
        """CheckpointError unless ``path`` is the file of part k that the journal was written for.

        A file with a random number is known by that, also if it is a copy. Another one is known by
        rows that the journal does not change, and if these are few or zeros, by its inode; and a
        checkpoint has lost its checksum before a journal was written.
        """
        part = self.parts[k]
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
            is_same = found.st_size == part.file_size
            if is_same and self.identities is not None:
                known = self.identities[k]
                identity, has_checksum = safetensors_file.id_and_checksum(path)
                if known.id:
                    is_same = identity == known.id
                elif has_checksum:
                    is_same = False
                else:
                    rows = b"".join(os.pread(file.fileno(), part.row_size, part.start + r * part.row_size) for r in known.sample)
                    is_same = zlib.crc32(rows) == known.checksum and (found.st_ino == known.inode or any(rows))
        if not is_same:
            raise CheckpointError(
                f"{self.path} is not a journal of the {part.file} that is there: bring back the file that it was written for,"
                " or remove the journal"
            )

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
            file = table.with_name(name)
            if is_there(beside(file, "new")):
                os.replace(beside(file, "new"), file)
        for k, part in enumerate(self.parts):
            self.check_file(k, table.with_name(part.file))
        for k, part in enumerate(self.parts):
            descriptor = os.open(table.with_name(part.file), os.O_RDWR | os.O_CLOEXEC)
            try:
                for offset, data in self.changes(k):
                    _write_at(descriptor, data, part.start + offset)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        if self.record is not None:
            records.write(table, self.record)
        flush_folder(table.parent)
        os.unlink(self.path)
        flush_folder(table.parent)


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


def write(table: Path, files: list[tuple[Path, Place, Array]], rows: Array, record: Any, renamed: Iterable[str] = ()) -> Journal:
    """Write a journal of rows (sorted, distinct) of arrays. The final rename commits it."""
    record = None if record is None else records.checked(record)
    runs, path = runs_of(rows), beside(table, "journal")
    parts = [(part_of(file, place), array) for file, place, array in files]
    identities = [identity_of(place, array, rows) for _, place, array in files]
    head = {"parts": [part for part, _ in parts], "renamed": list(renamed), "record": record, "n_runs": len(runs)}
    text = json.dumps(head | {"identities": identities}).encode()
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


@own_floats  # in which Python reads the decimals of the record
def _parse(path: Path, table: Path, memory: memoryview) -> Journal:
    body, end = memory[len(_MAGIC) : -8], memory[-8:]
    if memory[: len(_MAGIC)] != _MAGIC or struct.unpack("<Q", end) != (zlib.crc32(body),):
        raise ValueError("its checksum is wrong")
    (length,) = struct.unpack("<Q", body[:8])
    head = json.loads(bytes(body[8 : 8 + length]))
    parts, n_runs = [Part(*part) for part in head["parts"]], head["n_runs"]
    identities = None if head.get("identities") is None else [Identity(*identity) for identity in head["identities"]]
    _check_head(table, head, parts, identities)
    runs = np.frombuffer(body[8 + length : 8 + length + n_runs * _RUN], np.int64).reshape(n_runs, 2)
    data = body[8 + length + n_runs * _RUN :]
    if any(part.start + part.n_rows * part.row_size > part.file_size or part.file_size >= 2**63 for part in parts):
        raise ValueError("its rows are not within the files")
    if any(row >= part.n_rows for part, one in zip(parts, identities or (), strict=False) for row in one.sample):
        raise ValueError("the rows that it knows of its files are not within them")
    n_rows = min((part.n_rows for part in parts), default=0)
    ends = runs.sum(axis=1)
    if np.any(runs < [0, 1]) or np.any(runs > n_rows) or np.any(ends > n_rows) or np.any(runs[1:, 0] < ends[:-1]):
        raise ValueError("its rows are not those of the table")
    if len(data) != int(runs[:, 1].sum()) * sum(part.row_size for part in parts):
        raise ValueError("its length is wrong")
    record = None if head["record"] is None else records.checked(head["record"])
    return Journal(path, parts, head["renamed"], record, runs, data, identities)


def _check_head(table: Path, head: dict[str, Any], parts: list[Part], identities: list[Identity] | None) -> None:
    """ValueError unless the names and numbers of a journal are of files of the table."""
    for name in [*(part.file for part in parts), *head["renamed"]]:
        if not isinstance(name, str) or "/" in name or not f"{name}.".startswith(f"{table.name}."):
            raise ValueError(f"{shown(name)} is no file of the table")
    numbers = [head["n_runs"], *(n for part in parts for n in part[1:])]
    if identities is not None:
        if len(identities) != len(parts) or not all(isinstance(one.id, str) for one in identities):
            raise ValueError("it must know each of its files")
        numbers += [n for one in identities for n in (one.inode, one.checksum, *one.sample)]
    if not all(type(n) is int and n >= 0 for n in numbers):
        raise ValueError("what it says of its files is no number")
