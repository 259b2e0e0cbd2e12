"""Which format a file of vectors has: by its content when it is read, by its name when written."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import BinaryIO

from ..._messages import shown
from ...reference.formats.text import is_number
from ..errors import CheckpointError
from ..formats import foreign_files
from .text import HEADER

FORMATS = ("word2vec", "word2vec-binary", "glove", "fasttext", "npy", "npz", "safetensors", "parquet", "arrow")
SUFFIXES = {
    ".txt": "word2vec", ".vec": "word2vec", ".glove": "glove", ".bin": "word2vec-binary", ".npy": "npy", ".npz": "npz",
    ".safetensors": "safetensors", ".parquet": "parquet", ".arrow": "arrow", ".feather": "arrow",
}  # fmt: skip
TEXTS = ("word2vec", "word2vec-binary", "glove")  # the formats that gzip may compress
_OF_NUMBERS = set(b"0123456789.,'+-eE \t\r\n")
_GZIP = b"\x1f\x8b"
_BEGINNINGS = ((b"\x93NUMPY", "npy"), (b"PAR1", "parquet"), (b"ARROW1", "arrow"))


def is_gzip(file: BinaryIO) -> bool:
    """Whether a file, which is put back to its beginning, is compressed by gzip."""
    head = file.read(len(_GZIP))
    file.seek(0)
    return head == _GZIP


def head_of(file: BinaryIO) -> bytes:
    """The first bytes of a file, decompressed; it is put back to its beginning."""
    if is_gzip(file):
        with gzip.open(file) as inner:
            head = inner.read(foreign_files.N_BYTES)
    else:
        head = file.read(foreign_files.N_BYTES)
    file.seek(0)
    return head


def of_content(head: bytes) -> str:
    """The format of a file that begins with these bytes; CheckpointError for an unknown one."""
    first, _, more = head.removeprefix(b"\xef\xbb\xbf").partition(b"\n")
    header = HEADER.fullmatch(first)
    if head[8:9] == b"{" and header is None:
        return "safetensors"
    for beginning, name in _BEGINNINGS:
        if head.startswith(beginning):
            return name
    what = foreign_files.description(head)
    if head.startswith(b"PK\x03\x04") and what is not None and ".npz" in what:
        return "npz"
    if header is not None:
        is_whole = len(head) < foreign_files.N_BYTES
        return "word2vec-binary" if _is_binary(more, int(header[1]), int(header[2]), is_whole) else "word2vec"
    if (what is None or what.startswith("it is text")) and _ends_in_number(first, len(first) < len(head)):
        return "glove"
    raise CheckpointError(f"it holds no vectors of a format that is read ({', '.join(FORMATS)}): {what or 'it is unknown'}")


def _ends_in_number(line: bytes, is_whole: bool) -> bool:
    """Whether the last word of a line, or of what is there of it, is a number after a name."""
    words = line.split()[1 : None if is_whole else -1]
    return bool(words) and is_number(words[-1])


def _is_binary(rows: bytes, n_rows: int, n_cols: int, is_whole: bool) -> bool:
    """Whether rows after a header are no text: by control characters, numbers and their length."""
    words = rows.partition(b"\n")[0].split()
    is_text = len(words) > 1 and all(map(is_number, words[-min(n_cols, len(words) - 1) :]))
    return not is_text and (not foreign_files.is_text(rows) or (is_whole and _are_binary_rows(rows, n_rows, n_cols)))


def _are_binary_rows(rows: bytes, n_rows: int, n_cols: int) -> bool:
    """Whether these are n_rows names, each with a space and four bytes a number after it.

    Bytes that are all of written numbers, if wrong ones such as 1,5, are text.
    """
    at, others = 0, set()
    for _ in range(n_rows):
        space = rows.find(b" ", at)
        at = space + 1 + 4 * n_cols
        if space < 0 or at > len(rows):
            return False
        others |= set(rows[space + 1 : at]) - _OF_NUMBERS
        at += rows[at : at + 1] == b"\n"
    return at == len(rows) and bool(others)


def of_name(path: Path, given: str | None) -> str:
    """The format to write, by the suffix of the file if none is given; or a ValueError."""
    if given is not None:
        if given not in FORMATS:
            raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {shown(given)}")
        return "word2vec" if given == "fasttext" else given
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if suffix not in SUFFIXES:
        raise ValueError(f"{path}: give format=, for its suffix is none of {', '.join(SUFFIXES)}")
    return SUFFIXES[suffix]
