"""The safetensors format: headers read and checked, files written with a checksum."""

from __future__ import annotations

import importlib
import json
import math
import os
import re
import struct
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from ..._messages import limit, shown
from ..errors import CheckpointError

if TYPE_CHECKING:
    from ..._typing import Array

MAX_HEADER = 100_000_000  # bytes: the limit of the safetensors library
MAX_MAPPED = min(1 << 47, sys.maxsize)  # bytes of a table: no process can address more
_BLOCK = 4 << 20  # bytes that are read at one time

# The name of a dtype in the file: its name in NumPy or ml_dtypes, and the bits of an element.
_DTYPES = {
    "BOOL": ("bool", 8), "U8": ("uint8", 8), "I8": ("int8", 8), "U16": ("uint16", 16), "I16": ("int16", 16),
    "U32": ("uint32", 32), "I32": ("int32", 32), "U64": ("uint64", 64), "I64": ("int64", 64),
    "F16": ("float16", 16), "BF16": ("bfloat16", 16), "F32": ("float32", 32), "F64": ("float64", 64), "C64": ("complex64", 64),
    "F8_E4M3": ("float8_e4m3fn", 8), "F8_E5M2": ("float8_e5m2", 8), "F8_E8M0": ("float8_e8m0fnu", 8),
    "F8_E4M3FNUZ": ("float8_e4m3fnuz", 8), "F8_E5M2FNUZ": ("float8_e5m2fnuz", 8),
}  # fmt: skip
_PACKED_BITS = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}  # several elements share a byte: no array of NumPy has that layout
_NAMES = {name: key for key, (name, _) in _DTYPES.items()}

METADATA = "__metadata__"
ID = "fastembed_id"  # metadata: a random number of the file
CHECKSUM = "fastembed_crc32"  # metadata: the CRC-32 of the file with zeros in the place of these eight digits
_CHECKSUM = re.compile(rb'"fastembed_crc32"\s*:\s*"([0-9a-f]{8})"')
_NO_DIGITS = b"00000000"
OUTDATED = b"outdated"  # in the place of the digits: the file has been changed since


class Tensor(NamedTuple):
    """An entry of a header: the offset of its first byte in the file, and its number of bytes."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int

    @property
    def dtype_name(self) -> str:
        """The name of its dtype in NumPy or ml_dtypes; that in the file if they have none."""
        return _DTYPES.get(self.dtype, (self.dtype, 0))[0]

    def numpy_dtype(self) -> np.dtype[Any] | None:
        """The dtype of its array, or None if NumPy and ml_dtypes have no such dtype."""
        name, _ = _DTYPES.get(self.dtype, ("", 0))
        if not name.startswith(("bfloat", "float8")):
            return np.dtype(name).newbyteorder("<") if name else None
        try:
            found = getattr(importlib.import_module("ml_dtypes"), name, None)
        except ImportError:
            raise ImportError(f"{name} needs ml_dtypes: pip install 'microgpt-fastembed[bfloat16]'") from None
        return None if found is None else np.dtype(found)


class Header(NamedTuple):
    """The checked header of a file.

    Attributes
    ----------
    tensors : dict of str to Tensor
    metadata : dict of str to str
    checksum_at : int or None
        The offset in the file of the digits of its checksum; None if it has none, or an outdated
        one.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    checksum_at: int | None

    @property
    def id(self) -> str:
        """The random number in a file that this package made, or ""."""
        return id_in(self.metadata)


def id_in(metadata: Mapping[str, str]) -> str:
    found = metadata.get(ID, "")
    return found if re.fullmatch("[0-9a-f]{32}", found) else ""


def read_header(file: BinaryIO, size: int, max_length: int = MAX_HEADER, max_names: int | None = None) -> Header:
    """The header of a file of that size, checked; ValueError or TypeError if it is not valid."""
    head = file.read(8)
    if len(head) < 8:
        raise ValueError(f"it has {size} bytes, fewer than the length of a header")
    (length,) = struct.unpack("<Q", head)
    if length > min(max_length, size - 8):
        raise ValueError(f"its header of {length} bytes is longer than the file, or than {max_length} bytes")
    text = file.read(length)
    entries = json.loads(text.decode(), object_pairs_hook=without_duplicates)
    if not isinstance(entries, dict) or (max_names is not None and len(entries) > max_names):
        raise ValueError(f"its header is no mapping{'' if max_names is None else f' of at most {max_names} names'}")
    metadata = entries.pop(METADATA, None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError(f"{METADATA} of its header must be texts by name, got {shown(metadata)}")
    tensors = {key: _checked_entry(key, entry, 8 + length) for key, entry in entries.items()}
    _check_places(tensors, 8 + length, size)
    at = _checksum_at(text, metadata)
    return Header(tensors, metadata, None if at is None else 8 + at)


def _checksum_at(text: bytes, metadata: Mapping[str, str]) -> int | None:
    """Where the digits of the checksum are in a header; None if it has none, or an outdated one."""
    value = metadata.get(CHECKSUM, OUTDATED.decode())
    if value == OUTDATED.decode():
        return None
    found = _CHECKSUM.search(text)
    if found is None or found[1].decode() != value:
        raise ValueError(f"its {CHECKSUM} must be 8 hexadecimal digits or {OUTDATED.decode()}, got {shown(value)}")
    return found.start(1)


def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice in its header")
    return found


def _checked_entry(key: str, entry: Any, first: int) -> Tensor:
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        raise ValueError(f"tensor {shown(key)} must have a dtype, shape and data_offsets, got {shown(entry)}")
    dtype, shape, ends = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str):
        raise ValueError(f"dtype of tensor {shown(key)} must be a name, got {shown(dtype)}")
    if not _are_sizes(shape):
        raise ValueError(f"shape of tensor {shown(key)} must be a list of lengths, got {shown(shape)}")
    if not (_are_sizes(ends) and len(ends) == 2 and ends[0] <= ends[1]):
        raise ValueError(f"data_offsets of tensor {shown(key)} must be two offsets in order, got {shown(ends)}")
    bits = _PACKED_BITS.get(dtype) or _DTYPES.get(dtype, ("", 0))[1]
    check_extent(f"shape of tensor {shown(key)}", shape, bits, sys.maxsize)
    if bits and math.prod(shape) * bits != (ends[1] - ends[0]) * 8:
        raise ValueError(f"tensor {shown(key)} of {dtype} and shape {shown(shape)} has {ends[1] - ends[0]} bytes")
    return Tensor(dtype, tuple(shape), first + ends[0], ends[1] - ends[0])


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and len(values) <= 64 and all(type(x) is int and 0 <= x < 2**63 for x in values)


def check_extent(what: str, shape: Any, bits: int, limit: int) -> None:
    """ValueError if an array of that shape, without its lengths of 0, has more bytes."""
    if math.prod(max(n, 1) for n in shape) * max(bits, 8) > limit * 8:
        raise ValueError(f"{what} must be of at most {limit} bytes, got {shown(tuple(shape))}")


def _check_places(tensors: Mapping[str, Tensor], first: int, size: int) -> None:
    """ValueError unless the tensors lie one after the other up to the end of the file."""
    end, before = first, ""
    for key, tensor in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].size)):
        if tensor.start != end:
            what = f"tensors {shown(before)} and {shown(key)} overlap" if tensor.start < end else f"nothing precedes {shown(key)}"
            raise ValueError(f"{what} at byte {tensor.start}")
        end, before = end + tensor.size, key
    if end != size:
        raise ValueError(f"its tensors end at byte {end}, and the file at byte {size}")


def check_checksum(file: BinaryIO, header: Header) -> None:
    """ValueError if the file has a checksum, and not the one of its bytes."""
    if header.checksum_at is None:
        return
    file.seek(0)
    before, digits = file.read(header.checksum_at), file.read(len(_NO_DIGITS))
    checksum = zlib.crc32(_NO_DIGITS, zlib.crc32(before))
    while block := file.read(_BLOCK):
        checksum = zlib.crc32(block, checksum)
    if digits != _digits(checksum):
        raise ValueError("its checksum is wrong: a byte has changed, or another program has written into it")


def _digits(checksum: int) -> bytes:
    return f"{checksum:08x}".encode()


def read_rows(file: BinaryIO, name: str, tensor: Tensor, dtype: np.dtype[Any], first: int = 0, end: int | None = None) -> Array:
    """A new array of a tensor, or of its rows first .. end - 1, in native byte order."""
    shape = tensor.shape if end is None else (end - first, *tensor.shape[1:])
    row_size = math.prod(tensor.shape[1:]) * dtype.itemsize
    raw = np.empty(math.prod(shape) * dtype.itemsize, np.uint8)
    file.seek(tensor.start + first * row_size)
    if file.readinto(raw.data) != len(raw):  # type: ignore[attr-defined]
        raise CheckpointError(f"the file has become shorter, and tensor {shown(name)} is not whole")
    array = raw.view(dtype).reshape(shape)
    native = dtype.newbyteorder("=")
    return array.view(native) if dtype.isnative else array.astype(native)


def dtype_name(dtype: np.dtype[Any]) -> str | None:
    """The name of a NumPy dtype in the format, or None."""
    return _NAMES.get(dtype.name) if dtype.kind in "?biufcV" else None


def header_bytes(entries: Mapping[str, tuple[str, tuple[int, ...], int]], metadata: Mapping[str, str], multiple: int) -> bytes:
    """The header for tensors of (dtype, shape, bytes), padded so that they begin at a multiple."""
    described: dict[str, Any] = {METADATA: metadata} if metadata else {}
    at = 0
    for name, (dtype, shape, size) in entries.items():
        described[_unicode(name)] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(described, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % multiple)
    if len(text) > MAX_HEADER:
        raise ValueError(f"names and description take {len(text)} bytes, more than the {limit(MAX_HEADER)} of a header")
    return struct.pack("<Q", len(text)) + text


def _unicode(name: str) -> str:
    """The name of a tensor; ValueError if it has no UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"a tensor cannot be called {shown(name)}, which holds a surrogate") from None
    return name


class Writer:
    """A file of these arrays, which have dtypes of the format, and this metadata.

    The header is made here, and what is wrong with names raises a ValueError before a file is.
    """

    def __init__(self, arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
        # As in the safetensors library: large elements first, so that all are aligned.
        self._arrays = dict(sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0])))
        entries = {name: (str(dtype_name(array.dtype)), array.shape, array.nbytes) for name, array in self._arrays.items()}
        self._header = header_bytes(entries, {CHECKSUM: _NO_DIGITS.decode(), **metadata}, 8)

    def write(self, file: BinaryIO) -> None:
        checksum = zlib.crc32(self._header)
        file.write(self._header)
        for array in self._arrays.values():
            plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
            data = plain.reshape(-1).view(np.uint8).data
            checksum = zlib.crc32(data, checksum)
            file.write(data)
        file.seek(self._header.index(_NO_DIGITS))
        file.write(_digits(checksum))


def forget_checksum(path: Path, at: int) -> None:
    """Mark the checksum of a file of `checkpoint.save`, whose rows will change, as outdated."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.pwrite(descriptor, OUTDATED, at)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def id_and_checksum(path: Path) -> tuple[str, bool]:
    """The random number in a safetensors file that this package made, or "" for any other file.

    And whether it has a checksum that no change has made outdated.
    """
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        try:
            header = read_header(file, size)
        except (ValueError, TypeError, RecursionError):
            return "", False
    return header.id, header.checksum_at is not None
