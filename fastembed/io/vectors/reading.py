"""Reads a file of vectors into an array, or into a new file that can be mapped."""

from __future__ import annotations

import contextlib
import gzip
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from ... import _checks
from ..._kernels.floats import own_floats
from ..._memory import memory_errors
from ..._messages import shown
from ..atomic import replacing
from ..errors import CheckpointError, need_regular_file
from . import arrays, arrow, binary, folders, formats, text
from .blocks import Faults, Names, Progress, Vectors
from .table_file import TableFile

_rounded = own_floats(_checks.rounded)

if TYPE_CHECKING:
    from ..._typing import Array

_GROWTH = 1.125  # of the array in memory, which is moved by the system and not copied


class Options(NamedTuple):
    """How a file is read; the arguments of `fastembed.load_vectors`."""

    format: str | None = None
    name: str | None = None
    names: Any = None
    dtype: Any = None
    encoding: str = "utf-8"
    errors: str = "raise"
    numbers_in_names: bool = False
    progress: Progress | None = None
    has_names: bool = True

    def checked(self) -> Options:
        """ValueError or TypeError if one of them is not valid."""
        given = self.format if self.format is None else formats.of_name(Path(), self.format)
        _checks.one_of("errors", self.errors, ("raise", "skip"))
        try:
            is_ascii = "0 \n".encode(self.encoding) == b"0 \n"
        except (LookupError, TypeError):
            is_ascii = False
        if not is_ascii:
            raise ValueError(f"encoding must be one that ASCII is a part of, such as utf-8, got {shown(self.encoding)}")
        flag = _checks.flag("numbers_in_names", self.numbers_in_names)
        names = None if self.names is None else _checks.distinct_names("names", self.names)
        dtype = None if self.dtype is None else _checks.dtype(self.dtype)
        return self._replace(format=given, numbers_in_names=flag, names=names, dtype=dtype)


class Loaded(NamedTuple):
    """What a file holds: a table, and the names of its rows with their ids, or None."""

    table: Array
    ids: dict[str, int] | None


@memory_errors()
def load(path: str | os.PathLike[str], options: Options) -> Loaded:
    """The table and the names of a file."""
    with _opened(path, options) as reading:
        table = np.empty((0, reading.vectors.n_cols), reading.dtype)
        n_rows = 0
        for rows in reading.rows():
            if n_rows + len(rows) > len(table):
                n_new = max(n_rows + len(rows), int(len(table) * _GROWTH))
                table.resize((n_new, table.shape[1]), refcheck=False)
            table[n_rows : n_rows + len(rows)] = rows
            n_rows += len(rows)
        table.resize((n_rows, table.shape[1]), refcheck=False)
        return Loaded(table, reading.ids())


def load_tensor(path: str | os.PathLike[str], name: str, dtype: Any, *, has_names: bool) -> Loaded:
    """A table of a checkpoint, and the names of its rows if there are any and ``has_names``."""
    options = Options(format="safetensors", name=name, dtype=dtype, has_names=has_names).checked()
    return load(path, options)


@memory_errors()
def convert(path: str | os.PathLike[str], into: Path, options: Options) -> None:
    """Write the table and the names of a file to a new safetensors file, row by row."""
    with replacing(into) as temporary, _opened(path, options) as reading, open(temporary, "xb") as file:
        table = TableFile(file, reading.vectors.n_cols, reading.dtype)
        for rows in reading.rows():
            table.append(rows)
        table.finish(reading.ids())


class _Reading:
    """A file that is being read."""

    def __init__(self, vectors: Vectors, file: BinaryIO, faults: Faults, options: Options) -> None:
        self.vectors, self._file, self._faults, self._options = vectors, file, faults, options
        self.dtype = (_checks.dtype(vectors.dtype) if options.dtype is None else options.dtype).newbyteorder("=")
        self._names, self._n_rows = Names(), 0

    def rows(self) -> Iterator[Array]:
        """Blocks of rows of the dtype that is wanted, each to be copied before the next."""
        size = os.fstat(self._file.fileno()).st_size
        for block in self.vectors.blocks:
            if self._options.names is not None or not self._options.has_names:
                block = block._replace(names=None)
            rows = self._names.add(block, self._faults)
            self._n_rows += len(rows)
            yield _rounded(rows, self.dtype)
            if self._options.progress is not None:
                self._options.progress(self._file.tell(), size)

    def ids(self) -> dict[str, int] | None:
        """The names of the rows, when all have been read."""
        names = self._options.names
        if names is None:
            return self._names.ids
        if len(names) != self._n_rows:
            raise ValueError(f"names must be one for each of the {self._n_rows} rows, got {len(names)}")
        return {name: i for i, name in enumerate(names)}


@contextlib.contextmanager
def _opened(given: str | os.PathLike[str], options: Options) -> Iterator[_Reading]:
    """A file, and errors of its content as CheckpointErrors that say what it is."""
    path = _checks.path("path", given)
    faults = Faults(path, options.errors)
    if path.is_dir():
        is_wanted = options.names is None and options.has_names
        tokens = folders.tokens_in(path) if is_wanted else options.names
        path, options = folders.table_in(path), options._replace(names=tokens)
    need_regular_file(path)
    with open(path, "rb") as file, contextlib.ExitStack() as opened:
        try:
            kind = options.format or formats.of_content(formats.head_of(file))
            plain: Any = file
            if kind in formats.TEXTS and formats.is_gzip(file):
                plain = opened.enter_context(gzip.open(file))
            yield _Reading(_vectors(path, plain, kind, options, faults), file, faults, options)
        except CheckpointError as error:
            raise error if str(error).startswith(str(path)) else CheckpointError(f"{path}: {error}") from error
        except (ValueError, TypeError, KeyError, EOFError, IndexError, AssertionError, SyntaxError, RecursionError) as error:
            raise CheckpointError(f"{path}: {_on_a_line(error)}") from error
        except (struct.error, zlib.error, zipfile.BadZipFile, NotImplementedError) as error:
            raise CheckpointError(f"{path} is damaged: {_on_a_line(error)}") from error
        except OSError as error:
            if error.errno is not None:
                raise
            raise CheckpointError(f"{path} is damaged: {_on_a_line(error)}") from error  # what gzip and pyarrow raise
    faults.warn()


def _on_a_line(error: Exception) -> str:
    return " ".join(str(error).split())[:500]


def _vectors(path: Path, file: BinaryIO, kind: str, options: Options, faults: Faults) -> Vectors:
    """What a file of that format holds."""
    if kind in ("word2vec", "glove"):
        return text.read(file, kind == "word2vec", options.encoding, options.numbers_in_names, faults)
    if kind == "word2vec-binary":
        return binary.read(file, options.encoding, faults)
    if kind == "npy":
        return arrays.read_npy(path, file)
    if kind == "npz":
        return arrays.read_npz(file, options.name)
    if kind == "safetensors":
        is_widened = options.dtype is not None and options.dtype.name != "bfloat16"
        return arrays.read_safetensors(path, file, options.name, is_widened)
    return arrow.read(file, kind == "parquet", options.name)
