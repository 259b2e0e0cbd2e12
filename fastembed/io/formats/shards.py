"""Safetensors files of one model: the index that says which file has which tensor."""

from __future__ import annotations

import errno
import json
import mmap
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import _checks
from ..._memory import memory_errors
from ..._messages import counted, first_few, limit, shown
from ..errors import CheckpointError, need_regular_file, tensor_of
from ..status import is_there
from . import foreign_files, safetensors_file
from .safetensors_file import Tensor

if TYPE_CHECKING:
    from ..._typing import Array

_MAX_INDEX = 100_000_000  # bytes
_SUFFIX = ".index.json"


class Shards:
    """The tensors of several safetensors files; made by `open_shards`.

    Attributes
    ----------
    tensors : mapping of str to Tensor
        The dtype (as in the file), shape, offset and bytes of each.
    paths : mapping of str to Path
        The file of each tensor.
    """

    def __init__(self, tensors: dict[str, Tensor], paths: dict[str, Path], data: dict[Path, mmap.mmap]) -> None:
        self.tensors: Mapping[str, Tensor] = MappingProxyType(tensors)
        self.paths: Mapping[str, Path] = MappingProxyType(paths)
        self._data = data

    def array(self, name: str) -> Array:
        """A tensor as a read-only array, mapped; of ml_dtypes for bfloat16 and FP8.

        Raises
        ------
        KeyError
            There is no tensor of that name.
        TypeError
            NumPy and ml_dtypes have no such dtype.
        ImportError
            ml_dtypes is needed and not installed.
        """
        tensor = tensor_of(self.tensors, name)
        dtype = tensor.numpy_dtype()
        if dtype is None:
            raise TypeError(f"tensor {shown(name)} is of {shown(tensor.dtype, str)}, which NumPy and ml_dtypes lack")
        return np.ndarray(tensor.shape, dtype, self._data[self.paths[name]], tensor.start)

    def __repr__(self) -> str:
        return f"Shards({counted(len(self.tensors), 'tensor')}, {counted(len(self._data), 'file')})"


@memory_errors()
def open_shards(path: str | os.PathLike[str]) -> Shards:
    """Read the headers of a model's safetensors files, and map their tensors.

    Parameters
    ----------
    path : path-like
        ``model.safetensors.index.json``, whose ``weight_map`` names the file of each tensor, beside
        it; or a single safetensors file.

    Returns
    -------
    Shards

    Raises
    ------
    OSError
        A file cannot be read.
    CheckpointError
        A file is not what it should be, is damaged or missing, or lacks a tensor of the index.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> import fastembed as fe
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fe.checkpoint.save(f"{folder}/one.safetensors", {"wte": np.ones((3, 2), "f4")})
    ...     fe.open_shards(f"{folder}/one.safetensors").array("wte").shape
    (3, 2)
    """
    path = _checks.path("path", path)
    if not is_there(path):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    wanted = _weight_map(path) if path.name.endswith(_SUFFIX) else {path.name: None}
    tensors: dict[str, Tensor] = {}
    paths: dict[str, Path] = {}
    data = {}
    for file, names in wanted.items():
        shard = path.with_name(file)
        found, data[shard] = _open_shard(shard)
        missing = sorted(set(names or ()) - found.keys())
        if missing:
            raise CheckpointError(f"{shard} lacks {first_few(missing)}, which the index says it has")
        for name in found if names is None else names:
            tensors[name], paths[name] = found[name], shard
    return Shards(tensors, paths, data)


def _weight_map(path: Path) -> dict[str, list[str]]:
    """The tensors of each file that an index names."""
    need_regular_file(path)
    with open(path, "rb") as file:
        text = file.read(_MAX_INDEX + 1)
    try:
        if len(text) > _MAX_INDEX:
            raise ValueError(f"it has more than {limit(_MAX_INDEX)} bytes")
        index = json.loads(text.decode(), object_pairs_hook=safetensors_file.without_duplicates)
        found = index.get("weight_map") if isinstance(index, dict) else None
        if not isinstance(found, dict) or not found:
            raise ValueError("it has no weight_map of names to files")
        files: dict[str, list[str]] = {}
        for name, shard in found.items():
            if not isinstance(shard, str) or not shard.endswith(".safetensors") or Path(shard).name != shard or "\\" in shard:
                raise ValueError(f"tensor {shown(name)} must be in a .safetensors file beside it, got {shown(shard)}")
            files.setdefault(shard, []).append(name)
        return files
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not an index of safetensors files, or is damaged: {error!s:.500}") from error


def _open_shard(path: Path) -> tuple[dict[str, Tensor], mmap.mmap]:
    need_regular_file(path)
    if not is_there(path):
        raise CheckpointError(f"{path} is missing")
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            header: Any = safetensors_file.read_header(file, size)
            return header.tensors, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (ValueError, TypeError, RecursionError) as error:
            file.seek(0)
            why = foreign_files.description(file.read(foreign_files.N_BYTES)) or f"{error!s:.500}"
            raise CheckpointError(f"{path} is not a safetensors file, or is damaged: {why}") from error
