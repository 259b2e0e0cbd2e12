"""Writes a table and the names of its rows in a format of vectors, block by block."""

from __future__ import annotations

import contextlib
import gzip
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np

from ... import _checks
from ..._memory import memory_errors
from ..atomic import remove, replacing, writable_path
from ..formats import tensor_file
from . import arrays, arrow, binary, formats, text
from .blocks import Progress
from .names import packed
from .table_file import TableFile

if TYPE_CHECKING:
    from ..._typing import Array

_BLOCK = 1 << 20  # bytes of rows that are written at one time
Content = Callable[[Path], object]  # writes a file at the path that it is given


class Table(NamedTuple):
    """What is written: a table, in memory or mapped, and the names of its rows or None."""

    rows: Array
    names: list[str] | None
    progress: Progress | None = None

    def blocks(self) -> Iterator[Array]:
        n_block = max(_BLOCK // max(self.rows[:1].nbytes, 1), 1)
        for first in range(0, len(self.rows), n_block):
            yield self.rows[first : first + n_block]
            if self.progress is not None:
                self.progress(min(first + n_block, len(self.rows)) * self.rows[:1].nbytes, self.rows.nbytes)


@memory_errors()
def save(path: str | os.PathLike[str], format: str | None, table: Table) -> None:
    """Write the files of a format: all of them, or they are as they were."""
    found = files(_checks.path("path", path), format, table)
    with contextlib.ExitStack() as renamed:  # when all have been written
        for target, content in found.items():
            if content is not None:
                content(renamed.enter_context(replacing(target)))
    for target, content in found.items():
        if content is None:
            remove(target)


def files(path: Path, format: str | None, table: Table) -> dict[Path, Content | None]:
    """The files of a format, and what writes each; None for one that is not to be there.

    ValueError or TypeError if it cannot hold the table.
    """
    kind = formats.of_name(path, format)
    is_gzip = path.suffix == ".gz"
    _check(kind, is_gzip, table)
    found: dict[Path, Content | None] = {path: lambda to: _write(to, kind, is_gzip, table)}
    if kind == "npy":
        names = table.names
        found[tensor_file.names_file(path)] = None if names is None else lambda to: _write_names(to, names)
    for target in found:
        writable_path(target)
    return found


def _check(kind: str, is_gzip: bool, table: Table) -> None:
    if not table.rows.shape[1]:
        raise ValueError("a table without columns cannot be written as vectors")
    if kind == "glove" and not len(table.rows):
        raise ValueError("a table without rows cannot be written as glove, whose first row tells the columns")
    if is_gzip and kind not in formats.TEXTS:
        raise ValueError(f"only text and word2vec's binary files are compressed by gzip, not {kind}")
    if kind in formats.TEXTS:
        if table.names is None:
            raise ValueError(f"a file of {kind} has a name for each row: set the layer's vocabulary")
        (binary if kind == "word2vec-binary" else text).check_names(table.names)
    if kind == "npy":
        arrays.check_names(table.names or ())
    if kind == "word2vec-binary" and table.rows.dtype == np.float64:
        raise TypeError("a binary file of word2vec holds float32, and the table is float64: write text, or another format")
    if kind in ("npy", "npz", "parquet", "arrow") and table.rows.dtype.name not in arrow.FLOATS.values():
        raise TypeError(f"a file of {kind} cannot hold {table.rows.dtype}, a safetensors file can")
    packed("", table.names or ())  # all are Unicode


def _write(path: Path, kind: str, is_gzip: bool, table: Table) -> None:
    with open(path, "xb") as file:
        if is_gzip:
            with gzip.GzipFile("", "wb", 6, file, 0) as compressed:
                _write_to(compressed, kind, table)  # type: ignore[arg-type]
        else:
            _write_to(file, kind, table)


def _write_to(file: BinaryIO, kind: str, table: Table) -> None:
    rows, names, _ = table
    shape = len(rows), rows.shape[1]
    if kind in ("word2vec", "glove"):
        text.write(file, kind == "word2vec", names or (), shape, table.blocks())
    elif kind == "word2vec-binary":
        binary.write(file, names or (), shape, table.blocks())
    elif kind == "npy":
        arrays.write_npy(file, shape, rows.dtype, table.blocks())
    elif kind == "npz":
        arrays.write_npz(file, names, shape, rows.dtype, table.blocks())
    elif kind == "safetensors":
        made = TableFile(file, shape[1], rows.dtype)
        for block in table.blocks():
            made.append(block)
        made.finish(names)
    else:
        arrow.write(file, kind == "parquet", names, shape, rows.dtype, table.blocks())


def _write_names(path: Path, names: list[str]) -> None:
    with open(path, "xb") as file:
        arrays.write_names(file, names)
