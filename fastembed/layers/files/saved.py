"""load: a layer from a file that a layer's `save` wrote, by the class that the file names."""

from __future__ import annotations

import importlib
import os
from typing import Any

from ..._memory import memory_errors
from ..._messages import shown
from ...functional.ngram.hash import NgramHash
from ...io import checkpoint

# The layers that files hold, and their modules.
_MODULES = {
    "Embedding": "layers.embedding",
    "EmbeddingBag": "layers.bag",
    "EmbeddingCollection": "layers.groups.collection",
    "HashEmbedding": "layers.hashed",
    "NgramEmbedding": "layers.ngram",
    "PackedTable": "tables.packed",
    "QuantizedEmbedding": "layers.quantized",
    "TokenPositionEmbedding": "layers.token_position",
}


# What reads files of other origin.
_USE = "checkpoint.load_state reads what save_state wrote, checkpoint.load any tensors, load_vectors a table by its name"


def _class_of(kind: Any) -> Any:
    """The class of that name, or None."""
    if not isinstance(kind, str) or kind not in _MODULES:
        return None
    return getattr(importlib.import_module(f"...{_MODULES[kind]}", __package__), kind)


def check_kind(kind: type) -> None:
    """TypeError unless files hold layers of that class; those of subclasses they do not."""
    if _class_of(kind.__name__) is not kind:
        name = f"{kind.__module__}.{kind.__qualname__}"
        raise TypeError(f"a file holds a layer of one of {', '.join(_MODULES)}, not {shown(name, str)}: save its state_dict()")


@memory_errors()
def load(path: str | os.PathLike[str], *, hash: Any = None) -> Any:
    """A layer from a file of its ``save``: tables, options, names of rows, counts of look-ups.

    Parameters
    ----------
    path : path-like
    hash : callable or NgramHash, optional
        What a file cannot hold: the ``hash`` of a `HashEmbedding` that was given one, and that of
        every `NgramEmbedding`, of which the file has the digest.

    Returns
    -------
    layer
        Of the class of the saved one, in memory, in train mode and without gradients.

    Raises
    ------
    OSError
        The file cannot be read.
    fastembed.checkpoint.CheckpointError
        The file is damaged, was not written by ``save`` of a layer, or names a class or an option
        that is not known.
    TypeError
        ``hash`` is missing or of another type, or the layer has none.
    ValueError
        ``hash`` is an NgramHash with other numbers than the saved one.
    ImportError
        The table is bfloat16, and ml_dtypes is not installed.

    Examples
    --------
    >>> import tempfile, fastembed as fe
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fe.EmbeddingBag(4, 2, mode="sum", rng=0).save(f"{folder}/bag.safetensors")
    ...     fe.load(f"{folder}/bag.safetensors").mode
    'sum'
    """
    tensors, description = checkpoint.load_own(path)
    described = description if isinstance(description, dict) else {}
    kind = _class_of(described.get("kind"))
    if kind is None:
        found = f"a layer {shown(described['kind'])} that is not known" if "kind" in described else f"no layer of save: {_USE}"
        raise checkpoint.CheckpointError(f"{os.fspath(path)} holds {found}")
    needs_hash = described.get("needs_hash") is True and hasattr(kind, "_check_hash")
    if needs_hash is not (hash is not None):
        what = "was made with a hash of its own, which no file holds: give hash=" if needs_hash else "takes no hash="
        raise TypeError(f"the {kind.__name__} of {os.fspath(path)} {what}")
    if needs_hash:
        kind._check_hash(hash)
    check_digest(path, described, hash)
    return _made(path, kind, tensors, described, hash)


def check_digest(path: str | os.PathLike[str], description: Any, hash: Any) -> None:
    """ValueError if a file was saved with an NgramHash of other numbers."""
    described = description if isinstance(description, dict) else {}
    if isinstance(hash, NgramHash) and described.get("hash_digest", hash.digest) != hash.digest:
        raise ValueError(f"hash must have the numbers of the one that {os.fspath(path)} was saved with, got another, {hash}")


def load_kind(path: str | os.PathLike[str], kind: Any) -> Any:
    """The layer of a file, which must be of that class."""
    tensors, description = checkpoint.load_own(path)
    if not isinstance(description, dict) or description.get("kind") != kind.__name__:
        raise checkpoint.CheckpointError(f"{os.fspath(path)} does not hold a {kind.__name__}")
    return _made(path, kind, tensors, description, None)


def _made(path: str | os.PathLike[str], kind: Any, tensors: Any, description: dict[str, Any], hash: Any) -> Any:
    try:
        return kind._from_saved(tensors, description, hash)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise checkpoint.CheckpointError(f"{os.fspath(path)} does not hold a {kind.__name__}: {error!s:.500}") from error
