"""Checkpoints: named arrays and a description in one safetensors file, written atomically."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from .. import _checks
from .._kernels.floats import own_floats
from .._memory import memory_errors
from .._messages import first_few, shown, warn
from ..functional.statistics import LOOKUPS, TableStatistics, block_statistics
from .atomic import replacing, temporary_folder, writable_path
from .errors import CheckpointError, need_regular_file
from .formats import foreign_files, safetensors_file
from .formats.safetensors_file import Tensor

if TYPE_CHECKING:
    from .._typing import Array, ArrayLike

__all__ = [
    "CheckpointError",
    "check",
    "contents",
    "load",
    "load_state",
    "replacing",
    "save",
    "save_state",
    "statistics",
    "temporary_folder",
    "writable_path",
]

_KEY = "fastembed"  # the key of the description, as JSON, in the metadata of the file


@memory_errors()
def save(path: str | os.PathLike[str], tensors: Mapping[str, ArrayLike], description: Any = None) -> None:
    """Write a checkpoint: to a temporary file beside ``path``, flushed, then renamed over it.

    A kill or a full disk at any moment leaves either the old file or the new one. Temporary files
    of dead processes are removed.

    Parameters
    ----------
    path : path-like
    tensors : mapping of name to array_like
    description : JSON-able, optional

    Raises
    ------
    OSError
        The file cannot be written, or ``path`` is not a regular file; the old file is unchanged.
        (Or the new one is complete, and the folder could not be flushed to the disk.)
    TypeError
        A value is no array of numbers or booleans that the format has, or is a masked array.
    ValueError
        A name or the description cannot be written.

    Examples
    --------
    >>> import tempfile, fastembed as fe
    >>> from fastembed import checkpoint
    >>> layer = fe.Embedding(4, 2, rng=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoint.save(f"{folder}/model.safetensors", layer.state_dict(), {"note": "first"})
    ...     tensors, description = checkpoint.load(f"{folder}/model.safetensors")
    >>> layer.load_state_dict(tensors)
    IncompatibleKeys(missing_keys=[], unexpected_keys=[])
    >>> description
    {'note': 'first'}
    """
    if not isinstance(tensors, Mapping):
        raise TypeError(f"tensors must be a mapping of names to arrays, got {shown(tensors)}{_instead_of(tensors)}")
    arrays = {_checked_name(name): _checked_array(name, value) for name, value in tensors.items()}
    writer = safetensors_file.Writer(arrays, {_KEY: _as_json(description)})
    with replacing(path) as temporary:
        try:
            with open(temporary, "xb") as file:
                writer.write(file)
        except OSError as error:  # those of a write name no file
            raise OSError(f"cannot write {path}: {error.strerror}") from error


def _instead_of(value: Any) -> str:
    """What to give in the place of a layer or an optimiser, for errors; or ""."""
    return ": give its state_dict()" if hasattr(value, "state_dict") else ""


def _checked_array(name: str, value: Any) -> Array:
    what = f"tensor {shown(name)}"
    array = _checks.as_array(what, value)
    if safetensors_file.dtype_name(array.dtype) is None:
        given = f"an array of {array.dtype}" if isinstance(value, np.ndarray) else shown(value)
        raise TypeError(f"{what} must be numbers or booleans of a dtype that safetensors files have, got {given}")
    return array


def _checked_name(name: str) -> str:
    if not isinstance(name, str) or name == "__metadata__":
        raise ValueError(f"a tensor cannot be called {shown(name)}")
    return name


def _as_json(description: Any) -> str:
    try:
        return json.dumps(description)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the description cannot be written as JSON: {error!s:.200}") from error


@memory_errors()
def contents(path: str | os.PathLike[str]) -> tuple[dict[str, tuple[tuple[int, ...], str]], Any]:
    """What a safetensors file holds, by its header: no tensor is read.

    Returns
    -------
    found : dict of name to (shape, dtype)
        The dtype as safetensors files name it, such as ``F32``.
    description : as given to `save`; None for a safetensors file from another program

    Raises
    ------
    OSError, CheckpointError
        As in `load`; changed bytes of tensors are not found.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from fastembed import checkpoint
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoint.save(f"{folder}/c", {"weight": np.zeros((3, 2))}, "first")
    ...     checkpoint.contents(f"{folder}/c")
    ({'weight': ((3, 2), 'F64')}, 'first')
    """
    with _open_file(path, is_read=False) as (_, tensors, description):
        return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}, description


@memory_errors()
def load(path: str | os.PathLike[str], *, only: Collection[str] | None = None) -> tuple[dict[str, Array], Any]:
    """Read a checkpoint that `save` wrote, or a safetensors file from another program.

    ``only`` has the names of the tensors that are wanted, if not all are.

    Tensors of float8 and bfloat16 become arrays of ml_dtypes. Tensors of a dtype that NumPy and
    ml_dtypes lack (FP4 and FP6, of which several elements share a byte) are left out, with a
    UserWarning that names them.

    Returns
    -------
    tensors : dict of name to ndarray
    description : as given to `save`; None for a safetensors file from another program

    Raises
    ------
    OSError
        The file cannot be read.
    CheckpointError
        The file is not a safetensors file, or is damaged: `save` writes a checksum, so that a
        changed byte is found.
    ImportError
        The file has tensors of bfloat16 or float8, and ml_dtypes is not installed.
    """
    return _loaded(path, only, False)


@memory_errors()
def load_own(path: str | os.PathLike[str]) -> tuple[dict[str, Array], Any]:
    """As `load`, a file that `save` wrote: a CheckpointError if it says nothing of a checksum."""
    return _loaded(path, None, True)


def _loaded(path: str | os.PathLike[str], only: Collection[str] | None, is_own: bool) -> tuple[dict[str, Array], Any]:
    with _open_file(path, is_own=is_own) as (file, tensors, description):
        wanted = {name: tensor for name, tensor in tensors.items() if only is None or name in only}
        dtypes = {name: tensor.numpy_dtype() for name, tensor in wanted.items()}
        loaded = {name: safetensors_file.read_rows(file, name, tensors[name], to) for name, to in dtypes.items() if to}
    unknown = [f"{name:.50} ({tensors[name].dtype:.20})" for name, to in dtypes.items() if not to]
    if unknown:
        warn(f"{path}: left out, for NumPy has no such dtype: {first_few(unknown)}")
    return loaded, description


@memory_errors()
def save_state(path: str | os.PathLike[str], state: Mapping[str, Any]) -> None:
    """Write a nested state, such as ``state_dict()`` of layers and optimisers, with `save`.

    A state consists of mappings and lists of arrays and JSON values. The name of an array is its
    path, as in ``optimizer.items.0.exp_avg.weight``.

    Raises
    ------
    OSError, ValueError
        As in `save`; or two arrays have the same name, or the state is nested too deeply.
    TypeError
        As in `save`.

    Examples
    --------
    >>> import tempfile, fastembed as fe
    >>> from fastembed import checkpoint
    >>> layer = fe.Embedding(4, 2, rng=0)
    >>> opt = fe.optim.Adam(layer)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     state = {"layer": layer.state_dict(), "optimizer": opt.state_dict()}
    ...     checkpoint.save_state(f"{folder}/run.safetensors", state)
    ...     state = checkpoint.load_state(f"{folder}/run.safetensors")
    >>> layer.load_state_dict(state["layer"])
    IncompatibleKeys(missing_keys=[], unexpected_keys=[])
    >>> opt.load_state_dict(state["optimizer"])
    """
    leaves: dict[str, Any] = {}

    def without_arrays(name: str, value: Any) -> Any:
        if leaves.setdefault(name, value) is not value:
            raise ValueError(f"{name:.80} is there twice")
        if not isinstance(value, np.ndarray | np.generic | str | int | float | None):
            raise ValueError(f"{name:.80} must be an array or a JSON value, got {shown(value)}{_instead_of(value)}")
        return None if isinstance(value, np.ndarray) else value.item() if isinstance(value, np.generic) else value

    try:
        described = _each_leaf(state, "", without_arrays)
    except RecursionError as error:
        raise ValueError(f"the state is nested too deeply: {error}") from error
    save(path, {name: leaf for name, leaf in leaves.items() if isinstance(leaf, np.ndarray)}, {"state": described})


@memory_errors()
def load_state(path: str | os.PathLike[str]) -> Any:
    """Read a file of `save_state`; tuples come back as lists.

    Raises
    ------
    OSError, CheckpointError, ImportError
        As in `load`; or the file was not written by `save_state`.
    """
    with _open_file(path) as (file, tensors, description):
        if not isinstance(description, dict) or "state" not in description:
            raise CheckpointError("save_state did not write it; checkpoint.load reads it, and fastembed.load that of a layer")

        def with_array(name: str, value: Any) -> Any:
            if value is not None or name not in tensors:
                return value
            dtype = tensors[name].numpy_dtype()
            if dtype is None:
                raise CheckpointError(f"tensor {shown(name)} has the unsupported dtype {shown(tensors[name].dtype)}")
            return safetensors_file.read_rows(file, name, tensors[name], dtype)

        return _each_leaf(description["state"], "", with_array)


def _each_leaf(value: Any, name: str, leaf: Callable[[str, Any], Any]) -> Any:
    """Nested mappings and lists with every other value replaced by ``leaf(path, value)``."""
    if isinstance(value, Mapping):
        return {_checked_name(key): _each_leaf(part, f"{name}.{key}".removeprefix("."), leaf) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_each_leaf(part, f"{name}.{k}", leaf) for k, part in enumerate(value)]
    return leaf(name, value)


@contextlib.contextmanager
def _open_file(
    path: str | os.PathLike[str], is_read: bool = True, is_own: bool = False
) -> Iterator[tuple[BinaryIO, dict[str, Tensor], Any]]:
    """A safetensors file, open, its tensors and its description; errors become those of `load`.

    What is read of a file is compared with its checksum before, which one's own file must have.
    """
    name = _checks.path("path", path)
    need_regular_file(name)
    with open(name, "rb") as file:
        head = file.read(foreign_files.N_BYTES)
        file.seek(0)
        try:
            header = safetensors_file.read_header(file, os.fstat(file.fileno()).st_size)
            if is_read:
                safetensors_file.check_checksum(file, header)
            description = _description(header)
            if is_own and description is not None and safetensors_file.CHECKSUM not in header.metadata:
                raise ValueError(f"its {safetensors_file.CHECKSUM} is missing")
            yield file, header.tensors, description
        except CheckpointError as error:  # of a sound file that is not the one that is needed
            raise CheckpointError(f"{path}: {error}") from error
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            why = foreign_files.description(head) or f"{error!s:.500}"
            raise CheckpointError(f"{path} is not a safetensors file, or is damaged: {why}") from error


@own_floats  # in which Python reads the decimals of numbers
def _description(header: safetensors_file.Header) -> Any:
    """What `save` was given; None if another program wrote a text of its own in its place."""
    try:
        return json.loads(header.metadata.get(_KEY, "null"))
    except ValueError:
        return None


@memory_errors()
def statistics(
    path: str | os.PathLike[str], *, progress: Callable[[int, int], object] = lambda n_done, n_all: None
) -> tuple[dict[str, TableStatistics | str], Any]:
    """The contents of a safetensors file, read in blocks of rows: it may be larger than memory.

    ``progress`` is called with the bytes of tables that are done, and with all of them.

    Returns
    -------
    found : dict of name to TableStatistics
        For every table of floats, with its look-ups if the file has them
        (``layer.state_dict(lookups=True)``). For any other tensor its shape and dtype as a text,
        and so for tables of bfloat16 if ml_dtypes is not installed.
    description : as given to `save`; None for a safetensors file from another program

    Raises
    ------
    OSError, CheckpointError
        As in `load`; or counts of look-ups are negative.
    """
    with _open_file(path) as (file, tensors, description):
        tables = {name: dtype for name, tensor in tensors.items() if (dtype := _table_dtype(tensor)) is not None}
        counted = {
            name: counts
            for name in tables
            if (counts := tensors.get(name + LOOKUPS)) and (counts.shape, counts.dtype) == (tensors[name].shape[:1], "I64")
        }
        found: dict[str, TableStatistics | str] = {}
        for name in tensors.keys() - {name + LOOKUPS for name in counted} - tables.keys():
            found[name] = f"shape {tensors[name].shape}, {tensors[name].dtype:.20}"
        done, n_all = [0], sum(tensors[name].size for name in tables)

        def add(n_bytes: int) -> None:
            done[0] += n_bytes
            progress(done[0], n_all)

        for name, dtype in tables.items():
            found[name] = _statistics_of(file, name, tensors[name], dtype, counted.get(name), add)
    return {name: found[name] for name in sorted(found)}, description


def _table_dtype(tensor: Tensor) -> np.dtype[Any] | None:
    """The dtype of a table of floats; None for other tensors, or without ml_dtypes."""
    if len(tensor.shape) != 2 or tensor.dtype not in ("F64", "F32", "F16", "BF16"):
        return None
    try:
        return tensor.numpy_dtype()
    except ImportError:
        return None


def _statistics_of(
    file: BinaryIO, name: str, table: Tensor, dtype: np.dtype[Any], lookups: Tensor | None, on_bytes: Callable[[int], object]
) -> TableStatistics:
    counts = None
    if lookups is not None:
        numbers = safetensors_file.read_rows(file, name + LOOKUPS, lookups, np.dtype("<i8"))
        counts = _checks.counts(f"{name:.80}{LOOKUPS}", numbers, table.shape[0])

    def read(rows: slice) -> Array:
        block = safetensors_file.read_rows(file, name, table, dtype, rows.start, rows.stop)
        on_bytes(block.nbytes)
        return block

    return block_statistics(table.shape, _checks.native(dtype), read, counts)


def check(path: str, tensors: Mapping[str, Array], expected: Mapping[str, tuple[int, ...]], dtype: np.dtype[Any]) -> None:
    """CheckpointError unless the tensors have exactly the expected names, shapes and dtype."""
    missing, unexpected = expected.keys() - tensors.keys(), tensors.keys() - expected.keys()
    if missing or unexpected:
        lacks, has = first_few(sorted(missing)), first_few(sorted(unexpected))
        raise CheckpointError(f"{path} lacks {lacks} and has {has} that is not expected")
    for name, shape in expected.items():
        found = tensors[name]
        if (found.shape, found.dtype) != (shape, dtype):
            wanted = f"{dtype} of shape {shape}, got {found.dtype} of shape {found.shape}"
            raise CheckpointError(f"{name} of {path} must be {wanted}")
