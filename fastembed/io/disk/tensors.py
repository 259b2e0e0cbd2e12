"""The tensors of a file of any format: where each lies, and what its elements are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ..._messages import first_few, shown
from ..errors import CheckpointError, need_regular_file, tensor_of
from ..formats import tensor_file
from ..formats.gguf_file import open_gguf
from ..formats.shards import open_shards
from ..vectors.arrays import names_of_file
from ..vectors.names import keys_of

_GGUF, _NPY = b"GGUF", b"\x93NUMPY"


class DiskTensor(NamedTuple):
    """The place of a tensor.

    Attributes
    ----------
    name : str
    format : str
        The name of its dtype in NumPy or ml_dtypes, or of its blocks in GGUF.
    shape : tuple of int
    path : Path
    start, size : int
        The offset of its first byte in the file, and its bytes.
    """

    name: str
    format: str
    shape: tuple[int, ...]
    path: Path
    start: int
    size: int

    @property
    def row_size(self) -> int:
        """Bytes of a row; 0 without rows."""
        return self.size // self.shape[0] if self.shape[0] else 0


def tensors_in(path: Path) -> dict[str, DiskTensor]:
    """The tensors of a GGUF or safetensors file or of all its parts, or the array of a .npy file.

    Raises
    ------
    OSError, CheckpointError
        As `open_gguf`, `open_shards` and `Embedding.open` raise them.
    """
    need_regular_file(path)
    with open(path, "rb") as file:
        head = file.read(len(_NPY))
    if head.startswith(_GGUF):
        return {name: DiskTensor(name, t.format, t.shape, t.path, t.start, t.size) for name, t in open_gguf(path).tensors.items()}
    if head == _NPY:
        place = tensor_file.find(path)
        if not place.dtype.isnative:
            raise CheckpointError(f"{path}: rows on disk are read as they are, and these are byte-swapped ({place.dtype.str})")
        size = place.shape[0] * place.row_size
        return {"": DiskTensor("", place.dtype.name, place.shape, path, place.start, size)}
    shards = open_shards(path)
    return {
        name: DiskTensor(name, t.dtype_name, t.shape, shards.paths[name], t.start, t.size) for name, t in shards.tensors.items()
    }


def rows_named(tensors: Mapping[str, DiskTensor], name: str | list[str] | None) -> list[DiskTensor]:
    """The tensors whose rows, one after the other, are those of a table.

    Raises
    ------
    KeyError
        There is no tensor of that name.
    ValueError
        ``name`` is missing, a tensor has no two axes or no rows, or several differ in their rows.
    """
    if name is None:
        found = sorted(key for key, tensor in tensors.items() if len(tensor.shape) == 2)
        if len(found) != 1:
            raise ValueError(f"name must say which of the tensors of two axes is the table: there is {first_few(found)}")
        name = found[0]
    chosen = [tensor_of(tensors, key) for key in ([name] if isinstance(name, str) else name)]
    if not chosen:
        raise ValueError("name must be that of one tensor at least, got []")
    for tensor in chosen:
        if len(tensor.shape) != 2 or 0 in tensor.shape:
            raise ValueError(f"tensor {shown(tensor.name)} must have rows and columns, got shape {tensor.shape}")
        if (tensor.format, tensor.shape[1]) != (chosen[0].format, chosen[0].shape[1]):
            raise ValueError(
                f"tensor {shown(tensor.name)} must have rows of {chosen[0].shape[1]} {chosen[0].format}, as the first one, "
                f"got {tensor.shape[1]} {tensor.format}"
            )
    return chosen


def names_of(tensors: Mapping[str, DiskTensor], rows: list[DiskTensor]) -> list[str] | None:
    """The names of the rows that a file has beside the one tensor of them, or None.

    Raises
    ------
    CheckpointError
        They are no names of rows.
    """
    table = rows[0]
    if len(rows) > 1 or (table.name and not {*keys_of(table.name)} <= tensors.keys()):
        return None
    return names_of_file(table.path, table.name, table.shape[0])
