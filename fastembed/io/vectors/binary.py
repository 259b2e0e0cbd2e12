"""word2vec's binary files: a header, then for each row its name, a space, and float32s.

Rows may be followed by a line feed, as those of the original program are, or not, as gensim's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from ..._messages import counted, limit, shown
from .blocks import Block, Vectors, places
from .text import header

if TYPE_CHECKING:
    from ..._typing import Array
    from .blocks import Faults

_BLOCK = 1 << 20  # bytes of rows in a block, at least one row
_MAX_NAME = 1 << 20  # bytes
_FLOAT = np.dtype("<f4")


def read(file: BinaryIO, encoding: str, faults: Faults) -> Vectors:
    """The vectors of a binary file; ValueError if its header is not that of one."""
    n_rows, n_cols = header(file.readline(_MAX_NAME).removesuffix(b"\n"))
    return Vectors(n_cols, np.dtype(np.float32), _blocks(file, n_rows, n_cols, encoding, faults))


def _blocks(file: BinaryIO, n_rows: int, n_cols: int, encoding: str, faults: Faults) -> Iterator[Block]:
    size = n_cols * _FLOAT.itemsize
    n_block, rest, at = max(_BLOCK // size, 1), b"", 0
    for first in range(0, n_rows, n_block):
        names, rows, numbers = [], [], []
        for number in range(first, min(first + n_block, n_rows)):
            space = rest.find(b" ", at)
            while space < 0 or len(rest) - space <= size:
                more = file.read(max(_BLOCK, size))
                if not more:
                    raise ValueError(f"it ends within row {number} of the {n_rows} that its header states")
                rest, at = rest[at:] + more, 0
                space = rest.find(b" ")
                if not 0 <= space <= _MAX_NAME and len(rest) > _MAX_NAME:
                    raise ValueError(f"the name of row {number} has more than {limit(_MAX_NAME)} bytes")
            name = rest[at:space].lstrip(b"\n")
            at = space + 1 + size
            try:
                names.append(name.decode(encoding))
            except UnicodeDecodeError:
                faults.add(f"row {number}", f"the name {shown(name)} is not in {encoding}: give encoding=")
                continue
            rows.append(rest[space + 1 : at])
            numbers.append(number)
        array = np.frombuffer(b"".join(rows), _FLOAT).reshape(len(rows), n_cols)
        yield Block(names, array, places("row", numbers))
    left = rest[at:] + file.read(2)
    if left.strip(b"\n"):
        raise ValueError(f"more follows after the {counted(n_rows, 'row')} that its header states, {shown(left[:20])}")


def write(file: BinaryIO, names: Iterable[str], shape: tuple[int, int], blocks: Iterable[Array]) -> None:
    """Write names and blocks of rows, of float32 or half precision."""
    file.write(b"%d %d\n" % shape)
    given = iter(names)
    for rows in blocks:
        plain = np.ascontiguousarray(rows, _FLOAT)
        file.write(b"".join(name.encode() + b" " + row.tobytes() + b"\n" for row, name in zip(plain, given, strict=False)))


def check_names(names: Iterable[str]) -> None:
    """ValueError if a name could not be read back."""
    for i, name in enumerate(names):
        if " " in name or name.startswith("\n"):
            raise ValueError(f"name {shown(name)} of row {i} has a space, which ends names in a binary file of word2vec")
