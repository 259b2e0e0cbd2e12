"""Checkpoints: named arrays and a JSON-able description in one safetensors file, saved whole or not at all."""

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
from ..functional.statistics import LOOKUPS, TableStatistics, of_blocks

if TYPE_CHECKING:
    from .._typing import Array, ArrayLike

_KEY = "fastembed"  # of the description among the file's metadata, which are strings

# Temporary folders: .fastembed.<machine>.<process>.<random>.tmp
_PREFIX = f".fastembed.{zlib.crc32(platform.node().encode()):08x}."
_TEMPORARY = re.compile(re.escape(_PREFIX) + r"(?P<pid>[0-9]{1,9})\.[0-9a-f]{8}\.tmp")


class CheckpointError(ValueError):
    """A file is not a checkpoint, is damaged, or holds other names, shapes or dtypes than were asked for."""


def save(path: str | os.PathLike[str], tensors: Mapping[str, ArrayLike], description: Any = None) -> None:
    """Write a checkpoint: into a temporary folder beside ``path``, flushed to the disk, then renamed over it.

    A kill or a full disk at any moment leaves the old file or the new one. What dead processes left behind is removed.

    Parameters
    ----------
    path : path-like
    tensors : mapping of name to array_like
    description : JSON-able, optional

    Raises
    ------
    OSError
        The file cannot be written, or what is there is no regular file; it is still there.
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

    target = writable_path(path)
    arrays = {_checked_name(name): np.array(value, order="C", copy=None) for name, value in tensors.items()}
    metadata = {_KEY: _encoded(description)}
    _remove_stale(target.parent)
    # A folder of its own, because safetensors may write through a temporary file of a name of its choice.
    folder = target.with_name(f"{_PREFIX}{os.getpid()}.{secrets.token_hex(4)}.tmp")
    folder.mkdir()
    temporary = folder / "tensors"
    try:
        try:
            save_file(arrays, temporary, metadata=metadata)
        except SafetensorError as error:
            raise OSError(f"cannot write {target}: {error}") from error
        # The file that is replaced gives its mode, else the folder just made: a temporary file is private.
        temporary.chmod((target if target.exists() else folder).stat().st_mode & 0o666)
        _flush(temporary, os.O_RDWR)
        os.replace(temporary, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    flush_folder(target.parent)


def writable_path(path: str | os.PathLike[str]) -> Path:
    """Where a save to ``path`` goes: through links, to a file that is or can be there; else an OSError."""
    if not os.fspath(path):
        raise FileNotFoundError("the path of a checkpoint must not be empty")
    target = Path(os.path.realpath(os.fsdecode(path)))
    if target.exists() and not target.is_file():
        raise OSError(f"{path} is not a regular file, and is not replaced")
    if not os.access(target.parent, os.W_OK):
        raise OSError(f"cannot write {path}: no folder {target.parent} that can be written")
    return target


def _checked_name(name: str) -> str:
    if not isinstance(name, str) or name == "__metadata__":
        raise ValueError(f"a tensor cannot be called {name!r}")
    return name


def _encoded(description: Any) -> str:
    try:
        return json.dumps(description)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the description cannot be written as JSON: {error}") from error


def flush_folder(folder: Path) -> None:
    """What was renamed in a folder is so on the disk."""
    if os.name == "posix":  # elsewhere a folder cannot be opened, and the rename needs no flush of it
        _flush(folder, os.O_RDONLY)


def _flush(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_stale(folder: Path) -> None:
    """Remove what killed saves left behind; a living process, or one of another machine, keeps its folder."""
    for left in folder.iterdir():
        found = _TEMPORARY.fullmatch(left.name)
        if found and not _is_alive(int(found["pid"])):
            shutil.rmtree(left, ignore_errors=True)  # another save may be removing it too


def _is_alive(pid: int) -> bool:
    if os.name != "posix":
        return False  # there an open file cannot be removed, so that trying is safe
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
    description : what `save` was given; None for a safetensors file of other origin

    Raises
    ------
    OSError
        The file cannot be read.
    CheckpointError
        It is not a safetensors file, or a damaged one.
    ImportError
        It has tensors of bfloat16, and ml_dtypes is not installed.
    """
    with _opened(path) as (file, description):
        return {name: file.get_tensor(name) for name in file.keys()}, description  # noqa: SIM118 - not a dict


def save_state(path: str | os.PathLike[str], state: Mapping[str, Any]) -> None:
    """Write what ``state_dict()`` of layers and optimisers gives: mappings and lists of arrays and of what JSON knows, nested.

    An array is called by its path, as in ``optimizer.items.0.exp_avg.weight``; the file is one of `save`.

    Raises
    ------
    OSError, ValueError
        As in `save`; or two arrays would have one name, or the state is nested too deeply.

    Examples
    --------
    >>> import tempfile, fastembed as fe
    >>> from fastembed import checkpoint
    >>> layer = fe.Embedding(4, 2, rng=0)
    >>> opt = fe.optim.Adam(layer)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoint.save_state(f"{folder}/run.safetensors", {"layer": layer.state_dict(), "optimizer": opt.state_dict()})
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
    """Read what `save_state` wrote; tuples come back as lists.

    Raises
    ------
    OSError, CheckpointError, ImportError
        As in `load`; or the file was written by something else.
    """
    with _opened(path) as (file, description):
        if not isinstance(description, dict) or "state" not in description:
            raise CheckpointError("save_state did not write it")
        names = set(file.keys())
        return _each_leaf(
            description["state"], "", lambda name, value: file.get_tensor(name) if value is None and name in names else value
        )


def _each_leaf(value: Any, name: str, leaf: Callable[[str, Any], Any]) -> Any:
    """Nested mappings and lists with ``leaf(name, value)`` in the place of all else; a name is the path to it."""
    if isinstance(value, Mapping):
        return {_checked_name(key): _each_leaf(part, f"{name}.{key}".removeprefix("."), leaf) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_each_leaf(part, f"{name}.{k}", leaf) for k, part in enumerate(value)]
    return leaf(name, value)


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[tuple[Any, Any]]:
    """A file as safetensors opens it, and its description. What goes wrong while it is read is one of the errors of `load`."""
    from safetensors import SafetensorError, safe_open

    with open(os.fspath(path), "rb"):  # names the file in the error when there is none; a number is no descriptor
        pass
    if not os.path.isfile(path):
        raise OSError(f"{path!r} is not a regular file")
    try:
        with safe_open(os.fsdecode(path), framework="numpy") as file:
            if any(file.get_slice(name).get_dtype() == "BF16" for name in file.keys()):  # noqa: SIM118 - not a dict
                _checks.dtype("bfloat16")  # NumPy has to know the name
            yield file, json.loads((file.metadata() or {}).get(_KEY, "null"))
    except (SafetensorError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path} is not a safetensors file, or is damaged: {error}") from error


_FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def statistics(path: str | os.PathLike[str]) -> tuple[dict[str, TableStatistics | str], Any]:
    """What is in a safetensors file, read a block of rows at a time: it may be larger than memory.

    Returns
    -------
    found : dict of name to TableStatistics
        Of every table of floats; with its look-ups, if the file has them (``layer.state_dict(lookups=True)``). Of any other
        tensor a text: its shape and dtype.
    description : what `save` was given; None for a file of other origin

    Raises
    ------
    OSError, CheckpointError, ImportError
        As in `load`; or counts of look-ups are below 0.
    """
    with _opened(path) as (file, description):
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
            found[name] = of_blocks(shape, dtype, tensors[name].__getitem__, counts)
    return {name: found[name] for name in sorted(found)}, description


def check(path: str, tensors: Mapping[str, Array], expected: Mapping[str, tuple[int, ...]], dtype: np.dtype[Any]) -> None:
    """CheckpointError unless the tensors of a file have exactly the expected names, shapes and dtype."""
    missing, unexpected = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or unexpected:
        raise CheckpointError(f"{path} lacks {_checks.some(missing)} and has {_checks.some(unexpected)} that is not expected")
    for name, shape in expected.items():
        found = tensors[name]
        if (found.shape, found.dtype) != (shape, dtype):
            wanted = f"{dtype} of shape {shape}, got {found.dtype} of shape {found.shape}"
            raise CheckpointError(f"{name} of {path} must be {wanted}")
