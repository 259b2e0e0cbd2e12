"""GGUF files: the metadata and the places of the tensors, every number checked against the file.

The format is that of ggml (docs/gguf.md there), versions 2 and 3, little-endian. Nothing of a size
that the file states is allocated before the file is known to hold as much.
"""

from __future__ import annotations

import math
import mmap
import os
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ... import _checks
from ..._memory import memory_errors
from ..._messages import shown
from ...reference.formats.gguf import LAYOUTS
from ..errors import CheckpointError, need_regular_file, tensor_of
from ..status import is_there

if TYPE_CHECKING:
    from ..._typing import Array

_MAGIC, _VERSIONS = b"GGUF", (2, 3)
_MAX_DEPTH = 4  # of arrays of arrays
_MAX_AXES = 4
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_PLAIN = {0: "float32", 1: "float16", 24: "int8", 25: "int16", 26: "int32", 27: "int64", 28: "float64", 30: "bfloat16"}
_BLOCKS = {2: "q4_0", 8: "q8_0", 10: "q2_k", 11: "q3_k", 12: "q4_k", 13: "q5_k", 14: "q6_k"}
_SIZES = {name: (1, 2 if name == "bfloat16" else np.dtype(name).itemsize) for name in _PLAIN.values()}
_SIZES |= {name: (layout.n_cols, layout.size) for name, layout in LAYOUTS.items()}
_OTHERS = {3: (32, 20), 6: (32, 22), 7: (32, 24), 9: (32, 36), 15: (256, 292)}  # q4_1, q5_0, q5_1, q8_1, q8_k: not read
_SPLIT = re.compile(r"(.*)-([0-9]{5})-of-([0-9]{5})\.gguf")


class GGUFTensor(NamedTuple):
    """The place of a tensor in a GGUF file.

    Attributes
    ----------
    format : str
        A format of `fastembed.PackedTable`, or a dtype; "type N" if it is none of these.
    shape : tuple of int
        As in NumPy: the last axis is the one whose elements lie side by side.
    start, size : int
        The offset of its first byte in the file, and its bytes.
    path : Path
    """

    format: str
    shape: tuple[int, ...]
    start: int
    size: int
    path: Path


class _Reader:
    """Numbers and strings of the header, one after the other; ValueError where the file ends."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data, self.at = data, 0

    def take(self, size: int) -> bytes:
        if size > len(self._data) - self.at:
            raise ValueError(f"at byte {self.at} it says that {size} bytes follow, and it ends at byte {len(self._data)}")
        self.at += size
        return self._data[self.at - size : self.at]

    def number(self, code: str) -> Any:
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0]

    def string(self) -> str:
        return self.take(self.number("Q")).decode()

    def count(self, what: str, least_size: int) -> int:
        """A number of things of which each takes so many bytes at least."""
        n: int = self.number("Q")
        if n > (len(self._data) - self.at) // least_size:
            raise ValueError(f"at byte {self.at} it says that {n} {what} follow, more than it has bytes for")
        return n

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind == _STRING:
            return self.string()
        if kind == 7:
            return self._bools(1)[0]
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind != _ARRAY or depth == _MAX_DEPTH:
            raise ValueError(f"at byte {self.at} is a value of the unknown type {kind}, or arrays are nested too deeply")
        of_items = self.number("I")
        if of_items in _SCALARS:
            code, size = _SCALARS[of_items], struct.calcsize("<" + _SCALARS[of_items])
            n = self.count("numbers", size)
            return self._bools(n) if of_items == 7 else list(struct.unpack(f"<{n}{code}", self.take(n * size)))
        return [self.value(of_items, depth + 1) for _ in range(self.count("values", 8))]

    def _bools(self, n: int) -> list[bool]:
        values = self.take(n)
        if values.strip(b"\x00\x01"):
            raise ValueError(f"before byte {self.at} is a boolean that is neither 0 nor 1")
        return [byte == 1 for byte in values]


def _read(path: Path, data: mmap.mmap) -> tuple[dict[str, Any], dict[str, GGUFTensor]]:
    reader = _Reader(data)
    if reader.take(4) != _MAGIC:
        raise ValueError("it does not begin with GGUF")
    version = reader.number("I")
    if version not in _VERSIONS:
        raise ValueError(f"its version is {version}, and only 2 and 3, little-endian, are read")
    n_tensors, n_keys = reader.count("tensors", 24), reader.count("keys", 13)
    metadata: dict[str, Any] = {}
    for _ in range(n_keys):
        key = reader.string()
        if key in metadata:
            raise ValueError(f"key {shown(key)} occurs twice")
        metadata[key] = reader.value(reader.number("I"))
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or not 0 < alignment <= 1 << 20 or alignment % 8:
        raise ValueError(f"general.alignment must be a multiple of 8 up to 2**20, got {shown(alignment)}")
    entries = [_entry(reader) for _ in range(n_tensors)]
    first = -(-reader.at // alignment) * alignment
    tensors: dict[str, GGUFTensor] = {}
    for name, shape, kind, offset in entries:
        if name in tensors:
            raise ValueError(f"tensor {shown(name)} occurs twice")
        if offset % alignment:
            raise ValueError(f"tensor {shown(name)} begins at {offset}, which is no multiple of {alignment}")
        format, size = _extent(name, shape, kind)
        tensors[name] = GGUFTensor(format, shape, first + offset, size, path)
    _check_places(tensors, len(data), first, alignment)
    return metadata, tensors


def _entry(reader: _Reader) -> tuple[str, tuple[int, ...], int, int]:
    name, n_axes = reader.string(), reader.number("I")
    if n_axes > _MAX_AXES:
        raise ValueError(f"tensor {shown(name)} has {n_axes} axes, more than {_MAX_AXES}")
    shape = tuple(reader.number("Q") for _ in range(n_axes))[::-1]
    return name, shape, reader.number("I"), reader.number("Q")


def _extent(name: str, shape: tuple[int, ...], kind: int) -> tuple[str, int]:
    """The format of a tensor, and its bytes: 0 for a type that is not known."""
    format = _PLAIN.get(kind) or _BLOCKS.get(kind) or f"type {kind}"
    n_cols, size = _SIZES.get(format) or _OTHERS.get(kind, (1, 0))
    width = shape[-1] if shape else 1
    if width % n_cols:
        raise ValueError(f"tensor {shown(name)} of {format} has rows of {width} elements, no multiple of {n_cols}")
    return format, math.prod(shape) // n_cols * size


def _check_places(tensors: Mapping[str, GGUFTensor], size: int, first: int, alignment: int) -> None:
    """ValueError unless the tensors lie apart, without gaps, within the file."""
    end, before = first, ""
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].size)):
        if tensor.start < end:
            raise ValueError(f"tensors {shown(before)} and {shown(name)} overlap at byte {tensor.start}")
        if tensor.start - end >= alignment and not _is_of_unknown_size(tensors, before):
            raise ValueError(f"nothing lies from byte {end} to tensor {shown(name)} at byte {tensor.start}")
        end, before = tensor.start + tensor.size, name
        if end > size:
            raise ValueError(f"tensor {shown(name)} ends at byte {end}, and the file at byte {size}")
    if size - end >= alignment and tensors and not _is_of_unknown_size(tensors, before):
        raise ValueError(f"its tensors end at byte {end}, and the file at byte {size}")


def _is_of_unknown_size(tensors: Mapping[str, GGUFTensor], name: str) -> bool:
    """Whether a tensor is of a type whose size is not known."""
    return bool(name) and tensors[name].format.startswith("type ") and tensors[name].size == 0


class GGUFFile:
    """A GGUF file, or all files of one that is split; made by `open_gguf`.

    Attributes
    ----------
    metadata : mapping of str to value
        Numbers, booleans, strings and lists of them.
    tensors : mapping of str to GGUFTensor
    """

    def __init__(self, metadata: dict[str, Any], tensors: dict[str, GGUFTensor], data: dict[Path, mmap.mmap]) -> None:
        self.metadata: Mapping[str, Any] = MappingProxyType(metadata)
        self.tensors: Mapping[str, GGUFTensor] = MappingProxyType(tensors)
        self._data = data

    def array(self, name: str) -> Array:
        """A tensor as a read-only array, mapped: of its dtype, or of bytes if it has blocks.

        Raises
        ------
        KeyError
            There is no tensor of that name.
        TypeError
            Its type is not read.
        """
        tensor = tensor_of(self.tensors, name)
        if tensor.format not in _SIZES:
            raise TypeError(f"tensor {shown(name)} is of {tensor.format}, which is not read")
        if tensor.format in LAYOUTS:
            n_cols, size = _SIZES[tensor.format]
            dtype, shape = np.dtype(np.uint8), (*tensor.shape[:-1], tensor.shape[-1] // n_cols * size)
        else:
            dtype, shape = self._plain_dtype(tensor.format), tensor.shape
        return np.ndarray(shape, dtype, self._data[tensor.path], tensor.start)

    def _plain_dtype(self, format: str) -> np.dtype[Any]:
        return _checks.dtype(format) if format == "bfloat16" else np.dtype(format).newbyteorder("<")

    def __repr__(self) -> str:
        return f"GGUFFile({len(self.tensors)} tensors, {len(self.metadata)} keys, {len(self._data)} files)"


@memory_errors()
def open_gguf(path: str | os.PathLike[str]) -> GGUFFile:
    """Read the metadata of a GGUF file, and map its tensors.

    Of a file that is split (``name-00001-of-00003.gguf``) any part may be given; all must be there.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    GGUFFile

    Raises
    ------
    OSError
        A file cannot be read.
    CheckpointError
        A file is not GGUF, is damaged or truncated, or the parts do not belong together.

    Examples
    --------
    >>> import tempfile, struct, fastembed as fe
    >>> header = struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + struct.pack("<Q1sII", 1, b"n", 4, 7)
    >>> with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
    ...     _ = file.write(header), file.flush()
    ...     dict(fe.open_gguf(file.name).metadata)
    {'n': 7}
    """
    paths = _parts(_checks.path("path", path))
    metadata: dict[str, Any] = {}
    tensors: dict[str, GGUFTensor] = {}
    data = {}
    for k, part in enumerate(paths):
        of_part, found, data[part] = _open_part(part)
        if len(paths) > 1 and (of_part.get("split.no"), of_part.get("split.count")) != (k, len(paths)):
            numbers = shown(of_part.get("split.no")), shown(of_part.get("split.count"))
            raise CheckpointError(f"{part} says that it is part {numbers[0]} of {numbers[1]}, counted from 0")
        twice = tensors.keys() & found.keys()
        if twice:
            raise CheckpointError(f"{part} has tensor {shown(min(twice))} of another part")
        metadata = metadata or of_part
        tensors |= found
    return GGUFFile(metadata, tensors, data)


def _parts(path: Path) -> list[Path]:
    """All files of a split one; the file itself for any other."""
    match = _SPLIT.fullmatch(path.name)
    if match is None:
        return [path]
    stem, number, count = match[1], int(match[2]), int(match[3])
    if not 1 <= number <= count:
        raise CheckpointError(f"{path} has the number {number} of {count} parts in its name")
    return list(_named(path, stem, count))


def _named(path: Path, stem: str, count: int) -> Iterator[Path]:
    for k in range(1, count + 1):
        part = path.with_name(f"{stem}-{k:05}-of-{count:05}.gguf")
        if not is_there(part):
            raise CheckpointError(f"{part} is missing: {path.name} is one of {count} parts")
        yield part


def _open_part(path: Path) -> tuple[dict[str, Any], dict[str, GGUFTensor], mmap.mmap]:
    need_regular_file(path)
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise CheckpointError(f"{path} is not a GGUF file, or is damaged: it is empty")
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        return *_read(path, data), data
    except (ValueError, struct.error) as error:
        raise CheckpointError(f"{path} is not a GGUF file, or is damaged: {error!s:.500}") from error
