"""Names of a table's rows as tensors beside it: their UTF-8 in one row, and where each ends."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ..._messages import shown
from ..formats import safetensors_file
from ..formats.safetensors_file import Tensor

if TYPE_CHECKING:
    from ..._typing import Array

NAMES, ENDS = ".names", ".names.ends"  # after the name of the table: bytes, and an int64 for each row


def keys_of(table: str) -> tuple[str, str]:
    """The names of the two tensors of the names of a table's rows."""
    return table + NAMES, table + ENDS


def packed(table: str, names: Iterable[str]) -> dict[str, Array]:
    """The tensors of the names of a table's rows; ValueError if one is not Unicode."""
    text, ends = bytearray(), array("q")  # lists of objects would take ten times the memory
    for name in names:
        text += _encoded(name)
        ends.append(len(text))
    return {table + ENDS: np.frombuffer(ends, np.int64), table + NAMES: np.frombuffer(text, np.uint8)}


def _encoded(name: str) -> bytes:
    try:
        return name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"name {shown(name)} holds a surrogate, and cannot be written") from None


def unpacked(table: str, tensors: Mapping[str, Array]) -> list[str] | None:
    """The names of a table's rows among tensors, or None; ValueError if they are no names."""
    text, ends = (tensors.get(key) for key in keys_of(table))
    if text is None or ends is None:
        return None
    if text.dtype != np.uint8 or text.ndim != 1 or ends.dtype != np.int64 or ends.ndim != 1:
        raise ValueError(f"names of {shown(table)} must be bytes and int64s, got {text.dtype} and {ends.dtype}")
    if np.any(np.diff(ends, prepend=0) < 0) or (ends[-1] if len(ends) else 0) != len(text):
        raise ValueError(f"ends of the names of {shown(table)} must not decrease, up to {len(text)} bytes")
    data, first, names = text.tobytes(), 0, []
    for end in ends.tolist():
        names.append(data[first:end].decode())
        first = end
    return names


def read(file: BinaryIO, tensors: Mapping[str, Tensor], table: str) -> list[str] | None:
    """The names of a table's rows in a safetensors file, or None; or a ValueError."""
    found: dict[str, Any] = {}
    for key in keys_of(table):
        dtype = tensors[key].numpy_dtype() if key in tensors else None
        if dtype is not None:
            found[key] = safetensors_file.read_rows(file, key, tensors[key], dtype)
    return unpacked(table, found)
