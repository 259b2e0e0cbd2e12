"""Checkpoints: named arrays and a JSON-able description in one safetensors file, saved whole or not at all."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]
_KEY = "fastembed"  # of the description among the file's metadata, which are strings


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
        The file cannot be written; what was at ``path`` is still there.

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

    target = Path(path)
    _remove_stale(target)
    arrays = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    # A folder of its own, because safetensors may write through a temporary file of a name of its choice.
    folder = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    folder.mkdir()
    temporary = folder / target.name
    try:
        try:
            save_file(arrays, temporary, metadata={_KEY: json.dumps(description)})
        except SafetensorError as error:
            raise OSError(f"cannot write {target}: {error}") from error
        temporary.chmod(folder.stat().st_mode & 0o666)  # what a new file gets here; a temporary one is private
        _flush(temporary, os.O_RDWR)
        os.replace(temporary, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if os.name == "posix":  # elsewhere a folder cannot be opened, and the rename needs no flush of it
        _flush(target.parent, os.O_RDONLY)


def _flush(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_stale(target: Path) -> None:
    """Remove what killed saves of ``target`` left behind; a living process keeps its folder."""
    prefix = f".{target.name}."
    for left in target.parent.iterdir():
        if left.name.startswith(prefix) and left.name.endswith(".tmp"):
            pid = left.name.removeprefix(prefix).split(".")[0]
            if pid.isdigit() and not _is_alive(int(pid)):
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
    """
    from safetensors import SafetensorError, safe_open

    with open(path, "rb"):  # names the file in the error when there is none
        pass
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            description = json.loads((file.metadata() or {}).get(_KEY, "null"))
    except (SafetensorError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path} is not a safetensors file, or is damaged: {error}") from error
    return tensors, description


def checked(tensors: Mapping[str, Array], expected: Mapping[str, Array]) -> dict[str, Array]:
    """The tensors, if their names, shapes and dtypes are those of ``expected``.

    Raises
    ------
    CheckpointError
        What differs first.
    """
    missing, unexpected = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or unexpected:
        raise CheckpointError(f"the checkpoint lacks {missing} and has the unexpected {unexpected}")
    for name, array in expected.items():
        found = tensors[name]
        if (found.shape, found.dtype) != (array.shape, array.dtype):
            wanted = f"{name} must be {array.dtype} of shape {array.shape}"
            raise CheckpointError(f"{wanted}, got {found.dtype} of shape {found.shape}")
    return dict(tensors)
