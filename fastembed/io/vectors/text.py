"""Text: a name and numbers on each line, with a header (word2vec, fastText's .vec) or without one.

The header is the number of lines and the number of columns.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from ..._kernels.backend import kernels
from ..._kernels.floats import own_floats
from ..._messages import counted, limit, shown
from ...reference.formats.text import NO_NUMBER, TOO_FEW, is_number
from .blocks import Block, Vectors, places

_parse_lines = own_floats(kernels.parse_lines)

if TYPE_CHECKING:
    from ..._typing import Array
    from .blocks import Faults

_BLOCK = 1 << 20  # bytes that are parsed at one time
MAX_LINE = 1 << 26  # bytes
_COMMA = re.compile(rb"[-+]?[0-9]+,[0-9]+")  # a number with a decimal comma
_WITH_COMMAS = re.compile(rb"[ \t]" + _COMMA.pattern + rb"(?:[ \t]|\r?$)")  # after a name
_N_FIRST = 100  # lines that tell the number of columns of a file without a header
HEADER = re.compile(rb"[ \t]*([0-9]{1,18})[ \t]+([0-9]{1,18})[ \t\r]*")
_BOM = b"\xef\xbb\xbf"


class Lines:
    """The lines of a file in blocks of about a megabyte, of which ``first`` may be put back."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._rest, self._is_over = file, b"", False

    def read(self) -> bytes:
        """Whole lines; nothing at the end of the file."""
        parts = [self._rest]
        size = len(self._rest)
        self._rest = b""
        while not self._is_over:
            block = self._file.read(_BLOCK)
            self._is_over = not block
            end = block.rfind(b"\n") + 1
            if end:
                self._rest = block[end:]
                return b"".join([*parts, block[:end]])
            parts.append(block)
            size += len(block)
            if size > MAX_LINE:
                raise ValueError(f"a line has more than {limit(MAX_LINE)} bytes")
        return b"".join(parts)

    def put_back(self, lines: bytes) -> None:
        """Lines that the next `read` is to begin with; only what the last one returned."""
        self._rest = lines + self._rest


def read(file: BinaryIO, has_header: bool, encoding: str, numbers_in_names: bool, faults: Faults) -> Vectors:
    """The vectors of a text; ValueError if its beginning is not that of one."""
    lines = Lines(file)
    first = lines.read().removeprefix(_BOM)
    n_rows = None
    if has_header:
        head, _, first = first.partition(b"\n")
        n_rows, n_cols = header(head)
    else:
        n_cols = _most_frequent_width(first)
    lines.put_back(first)
    blocks = _blocks(lines, n_cols, int(has_header), n_rows, encoding, numbers_in_names, faults)
    return Vectors(n_cols, np.dtype(np.float32), blocks)


def header(line: bytes) -> tuple[int, int]:
    """The number of rows and of columns that a header states."""
    found = HEADER.fullmatch(line)
    if found is None:
        raise ValueError(f"line 1 must be two integers, the number of rows and of columns, got {shown(line)}")
    n_rows, n_cols = int(found[1]), int(found[2])
    if not 0 < n_cols <= MAX_LINE // 2:
        raise ValueError(f"the header, line 1, must state 1 to {limit(MAX_LINE // 2)} columns, got {n_cols}")
    return n_rows, n_cols


def _most_frequent_width(lines: bytes) -> int:
    """How many numbers end most of the first lines; of two that are as frequent, the first."""
    first = lines.split(b"\n", _N_FIRST)[:_N_FIRST]
    widths = collections.Counter(map(_n_numbers, first))
    del widths[0]
    if _WITH_COMMAS.search(first[0]):
        raise ValueError(f"line 1 must be a name and numbers, got {shown(first[0])}: decimal commas must be points")
    if not widths:
        line, *_ = lines.split(b"\n", 1)
        raise ValueError(f"line 1 must be a name and numbers, got {shown(line)}")
    return widths.most_common(1)[0][0]


def _n_numbers(line: bytes) -> int:
    """How many numbers end a line that begins with a name."""
    words = re.split(rb"[ \t]+", line.rstrip(b" \t\r"))[1:]
    numbers = (k for k, word in enumerate(reversed(words)) if not is_number(word))
    return next(numbers, len(words))


def _blocks(
    lines: Lines, n_cols: int, n_lines: int, n_stated: int | None, encoding: str, numbers_in_names: bool, faults: Faults
) -> Iterator[Block]:
    """The lines after the first ``n_lines``, parsed; a block is overwritten by the next one."""
    n_rows = 0
    while data := lines.read():
        # A line has two bytes at least for each column.
        rows = np.empty((len(data) // (2 * n_cols) + 1, n_cols))
        spans = np.empty((len(rows), 3), np.int64)
        at = 0
        while at < len(data):
            at, n, n_parsed, fault, first, end = _parse_lines(data, at, n_cols, numbers_in_names, rows, spans)
            spans[:n, 2] += n_lines + 1
            n_lines += n_parsed
            block = _decoded(data, rows[:n], spans[:n], encoding, faults)
            n_rows += n + (fault != 0)
            yield block
            if fault:
                faults.add(f"line {n_lines}", _what_is_wrong(fault, n_cols, data[first:end], end))
    if n_stated is not None and n_rows != n_stated:
        follow = "line follows" if n_rows == 1 else "lines follow"
        faults.add("line 1", f"the header states {counted(n_stated, 'row')}, and {n_rows} {follow}")


def _decoded(data: bytes, rows: Array, spans: Array, encoding: str, faults: Faults) -> Block:
    """The rows with their names; those whose name is not in the encoding are faults."""
    numbers = spans[:, 2]
    names, kept = [], []
    for i, (first, end, number) in enumerate(spans.tolist()):
        try:
            names.append(data[first:end].decode(encoding))
            kept.append(i)
        except UnicodeDecodeError:
            faults.add(f"line {number}", f"the name {shown(data[first:end])} is not in {encoding}: give encoding=")
    if len(kept) < len(rows):
        rows, numbers = rows[kept], numbers[kept]
    return Block(names, rows, places("line", numbers))


def _what_is_wrong(fault: int, n_cols: int, word: bytes, n_words: int) -> str:
    wanted = f"a name and {counted(n_cols, 'number')}"
    if fault == TOO_FEW:
        return f"must be {wanted}, got {counted(n_words, 'word')} after the name"
    if fault == NO_NUMBER:
        comma = ": decimal commas must be points" if _COMMA.fullmatch(word) else ""
        return f"must be {wanted}, got {shown(word)} as one of the numbers{comma}"
    return f"must be {wanted}, got one number more, {shown(word)} (numbers_in_names takes it for a part of the name)"


def write(file: BinaryIO, has_header: bool, names: Iterable[str], shape: tuple[int, int], blocks: Iterable[Array]) -> None:
    """Write names and blocks of rows as text that is read back to the bit."""
    if has_header:
        file.write(b"%d %d\n" % shape)
    form = None
    given = iter(names)
    for rows in blocks:
        # Nine digits tell float32s (and halves) apart; of a float64, repr gives the fewest that do.
        form = form or " ".join(["%r" if rows.dtype == np.float64 else "%.9g"] * shape[1])
        lines = [f"{name} {form % tuple(row)}\n" for row, name in zip(rows.tolist(), given, strict=False)]
        if not has_header and HEADER.fullmatch(lines[0].encode()[:-1]):
            raise ValueError(f"the first line, {shown(lines[0])}, would be taken for a header: write the format word2vec")
        file.write("".join(lines).encode())


def check_names(names: Iterable[str]) -> None:
    """ValueError if a name could not be read back from a text."""
    for i, name in enumerate(names):
        last = name.replace("\t", " ").rstrip(" ").rpartition(" ")
        if "\n" in name or (i == 0 and name.startswith("\ufeff")):
            raise ValueError(f"name {shown(name)} of row {i} has a character that a line of text cannot begin with or hold")
        if last[1] and is_number(last[2].encode()):
            raise ValueError(f"name {shown(name)} of row {i} ends in a number, which a text would take for one of the row's")
