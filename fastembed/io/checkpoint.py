"""Checkpoints: named arrays and a description in one safetensors file, written atomically."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import secrets
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _checks
from ..functional.statistics import LOOKUPS, TableStatistics, block_statistics

if TYPE_CHECKING:
    from .._typing import Array, ArrayLike

_KEY = "fastembed"  # the key of the description, as JSON, in the metadata of the file

# Temporary folders: .fastembed.<machine>.<process>.<random>.tmp
_PREFIX = f".fastembed.{zlib.crc32(platform.node().encode()):08x}."
_TEMPORARY = re.compile(re.escape(_PREFIX) + r"(?P<pid>[0-9]{1,9})\.[0-9a-f]{8}\.tmp")


class CheckpointError(ValueError):
    """A file is not a checkpoint, is damaged, or has unexpected names, shapes or dtypes."""


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
        The file cannot be written, or ``path`` is not a regular file; it is unchanged.
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
    >>> description
    {'note': 'first'}
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    arrays = {_checked_name(name): np.array(value, order="C", copy=None) for name, value in tensors.items()}
    metadata = {_KEY: _as_json(description)}
    with replacing(path) as temporary:
        try:
            save_file(arrays, temporary, metadata=metadata)
        except SafetensorError as error:
            raise OSError(f"cannot write {path}: {error}") from error


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], backup: Path | None = None) -> Iterator[Path]:
    """A path to write a new file to: at the end it is flushed and renamed over ``path``.

    After an error ``path`` is unchanged. A file that is replaced is kept as ``backup``, if given.
    """
    target = writable_path(path)
    with temporary_folder(target) as folder:
        temporary = folder / "new"
        yield temporary
        # Temporary files are private: take the permissions of the replaced file or, without one, of
        # the new folder.
        temporary.chmod((target if target.exists() else folder).stat().st_mode & 0o666)
        _flush(temporary, os.O_RDWR)
        if backup is not None and target.exists():
            _link_or_copy(target, folder / "old")
            os.replace(folder / "old", backup)
        os.replace(temporary, target)
    flush_folder(target.parent)


@contextlib.contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """A new folder beside a file, removed at the end, with those that dead processes left.

    A folder, because safetensors may write through a temporary file with a name of its choice.
    """
    _remove_stale(target.parent)
    folder = target.with_name(f"{_PREFIX}{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _link_or_copy(path: Path, copy: Path) -> None:
    try:
        os.link(path, copy)
    except OSError:  # a file system without hard links
        shutil.copy2(path, copy)
        _flush(copy, os.O_RDWR)


def writable_path(path: str | os.PathLike[str]) -> Path:
    """The file that a save to ``path`` writes, links resolved; OSError if it cannot be written."""
    if not os.fspath(path):
        raise FileNotFoundError("the path of a file must not be empty")
    target = Path(os.path.realpath(os.fsdecode(path)))
    if target.exists() and not target.is_file():
        raise OSError(f"{path} is not a regular file, and is not replaced")
    if target.is_symlink():  # although links are resolved
        raise OSError(f"cannot write {path}: it is a link that leads to itself")
    if not os.access(target.parent, os.W_OK):
        raise OSError(f"cannot write {path}: no folder {target.parent} that can be written")
    return target


def _checked_name(name: str) -> str:
    if not isinstance(name, str) or name == "__metadata__":
        raise ValueError(f"a tensor cannot be called {name!r}")
    return name


def _as_json(description: Any) -> str:
    try:
        return json.dumps(description)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the description cannot be written as JSON: {error}") from error


def flush_folder(folder: Path) -> None:
    """Flush a folder to the disk, so that renames in it outlast a power failure."""
    if os.name == "posix":  # elsewhere a folder cannot be opened, and a rename needs no flush
        _flush(folder, os.O_RDONLY)


def _flush(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_stale(folder: Path) -> None:
    """Remove temporary folders of killed processes of this machine."""
    for entry in folder.iterdir():
        found = _TEMPORARY.fullmatch(entry.name)
        if found and not _is_alive(int(found["pid"])):
            shutil.rmtree(entry, ignore_errors=True)  # another save may be removing it too


def _is_alive(pid: int) -> bool:
    if os.name != "posix":
        return False  # elsewhere open files cannot be removed, so that trying is safe
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def load(path: str | os.PathLike[str]) -> tuple[dict[str, Array], Any]:
    """Read a checkpoint that `save` wrote.

    Returns
    -------
    tensors : dict of name to ndarray
    description : as given to `save`; None for a safetensors file from another program

    Raises
    ------
    OSError
        The file cannot be read.
    CheckpointError
        The file is not a safetensors file, or is damaged.
    ImportError
        The file has tensors of bfloat16, and ml_dtypes is not installed.
    """
    with _open_file(path) as (file, description):
        return {name: file.get_tensor(name) for name in file.keys()}, description  # noqa: SIM118 - not a dict


def save_state(path: str | os.PathLike[str], state: Mapping[str, Any]) -> None:
    """Write a nested state, such as ``state_dict()`` of layers and optimisers, with `save`.

    A state consists of mappings and lists of arrays and JSON values. The name of an array is its
    path, as in ``optimizer.items.0.exp_avg.weight``.

    Raises
    ------
    OSError, ValueError
        As in `save`; or two arrays have the same name, or the state is nested too deeply.

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
    >>> opt.load_state_dict(state["optimizer"])
    """
    leaves: dict[str, Any] = {}

    def without_arrays(name: str, value: Any) -> Any:
        if leaves.setdefault(name, value) is not value:
            raise ValueError(f"{name} is there twice")
        return None if isinstance(value, np.ndarray) else value.item() if isinstance(value, np.generic) else value

    try:
        described = _each_leaf(state, "", without_arrays)
    except RecursionError as error:
        raise ValueError(f"the state is nested too deeply: {error}") from error
    save(path, {name: leaf for name, leaf in leaves.items() if isinstance(leaf, np.ndarray)}, {"state": described})


def load_state(path: str | os.PathLike[str]) -> Any:
    """Read a file of `save_state`; tuples come back as lists.

    Raises
    ------
    OSError, CheckpointError, ImportError
        As in `load`; or the file was not written by `save_state`.
    """
    with _open_file(path) as (file, description):
        if not isinstance(description, dict) or "state" not in description:
            raise CheckpointError("save_state did not write it")
        names = set(file.keys())
        return _each_leaf(
            description["state"], "", lambda name, value: file.get_tensor(name) if value is None and name in names else value
        )


def _each_leaf(value: Any, name: str, leaf: Callable[[str, Any], Any]) -> Any:
    """Nested mappings and lists with every other value replaced by ``leaf(path, value)``."""
    if isinstance(value, Mapping):
        return {_checked_name(key): _each_leaf(part, f"{name}.{key}".removeprefix("."), leaf) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_each_leaf(part, f"{name}.{k}", leaf) for k, part in enumerate(value)]
    return leaf(name, value)


@contextlib.contextmanager
def _open_file(path: str | os.PathLike[str]) -> Iterator[tuple[Any, Any]]:
    """A safetensors file, open, and its description; errors in reading become those of `load`."""
    from safetensors import SafetensorError, safe_open

    # open() names a missing file in its error; fspath refuses integers, which open() takes for
    # descriptors.
    with open(os.fspath(path), "rb"):
        pass
    if not os.path.isfile(path):
        raise OSError(f"{path!r} is not a regular file")
    try:
        with safe_open(os.fsdecode(path), framework="numpy") as file:
            if any(file.get_slice(name).get_dtype() == "BF16" for name in file.keys()):  # noqa: SIM118 - not a dict
                _checks.dtype("bfloat16")  # registers the dtype with NumPy
            yield file, json.loads((file.metadata() or {}).get(_KEY, "null"))
    except (SafetensorError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path} is not a safetensors file, or is damaged: {error}") from error


_FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def statistics(path: str | os.PathLike[str]) -> tuple[dict[str, TableStatistics | str], Any]:
    """The contents of a safetensors file, read in blocks of rows: it may be larger than memory.

    Returns
    -------
    found : dict of name to TableStatistics
        For every table of floats, with its look-ups if the file has them
        (``layer.state_dict(lookups=True)``). For any other tensor its shape and dtype as a text.
    description : as given to `save`; None for a safetensors file from another program

    Raises
    ------
    OSError, CheckpointError, ImportError
        As in `load`; or counts of look-ups are negative.
    """
    with _open_file(path) as (file, description):
        tensors = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        sizes = {name: (tuple(tensor.get_shape()), tensor.get_dtype()) for name, tensor in tensors.items()}
        tables = {name: shape for name, (shape, dtype) in sizes.items() if len(shape) == 2 and dtype in _FLOATS}
        counted = [name for name, shape in tables.items() if sizes.get(name + LOOKUPS) == (shape[:1], "I64")]
        found: dict[str, TableStatistics | str] = {}
        for name in sizes.keys() - {name + LOOKUPS for name in counted} - tables.keys():
            found[name] = f"shape {sizes[name][0]}, {sizes[name][1]}"
        for name, shape in tables.items():
            counts = _checks.counts(name + LOOKUPS, file.get_tensor(name + LOOKUPS), shape[0]) if name in counted else None
            dtype = _checks.dtype(_FLOATS[sizes[name][1]])
            found[name] = block_statistics(shape, dtype, tensors[name].__getitem__, counts)
    return {name: found[name] for name in sorted(found)}, description


def check(path: str, tensors: Mapping[str, Array], expected: Mapping[str, tuple[int, ...]], dtype: np.dtype[Any]) -> None:
    """CheckpointError unless the tensors have exactly the expected names, shapes and dtype."""
    missing, unexpected = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or unexpected:
        lacks, has = _checks.first_few(missing), _checks.first_few(unexpected)
        raise CheckpointError(f"{path} lacks {lacks} and has {has} that is not expected")
    for name, shape in expected.items():
        found = tensors[name]
        if (found.shape, found.dtype) != (shape, dtype):
            wanted = f"{dtype} of shape {shape}, got {found.dtype} of shape {found.shape}"
            raise CheckpointError(f"{name} of {path} must be {wanted}")
