"""Everything that reads a file, and what it may raise."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fastembed as fe
from fastembed import checkpoint, cli
from fastembed.checkpoint import CheckpointError

REFUSALS = ("aligned", "native byte order", "contiguous rows", "has a state of", "overlap itself")


def _load(path: Path) -> None:
    checkpoint.load(path)


def _load_state(path: Path) -> None:
    checkpoint.load_state(path)


def _statistics(path: Path) -> None:
    checkpoint.statistics(path)


def _quantized(path: Path) -> None:
    layer = fe.QuantizedEmbedding.load(path)
    layer(np.arange(layer.num_embeddings))


def _packed(path: Path) -> None:
    table = fe.PackedTable.load(path)
    if table.embedding_dim < 1000:
        table(np.arange(table.num_embeddings))


def _arrays(file: Any) -> None:
    """Every tensor of a file lies within it, and can be read."""
    for name in file.tensors:
        with contextlib.suppress(TypeError):  # of a dtype or type that is not read
            file.array(name).tobytes()


def _shards(path: Path) -> None:
    _arrays(fe.open_shards(path))


def _gguf(path: Path) -> None:
    """Tensors as arrays and as tables, and the hash that the metadata describe."""
    file = fe.open_gguf(path)
    _arrays(file)
    for name in file.tensors:
        with contextlib.suppress(TypeError, ValueError):  # of another format, or not of two axes
            table = fe.PackedTable.from_gguf(file, name)
            if table.num_embeddings and table.embedding_dim < 1000:
                table([0, table.num_embeddings - 1])
    with contextlib.suppress(KeyError, TypeError, ValueError):  # there is none, or it is invalid
        fe.NgramHash.from_gguf(file.metadata, 4)([0])


def _open(path: Path) -> None:
    """A table that is opened lies within its file, and each row of it can be read."""
    with fe.Embedding.open(path, name="weight" if path.suffix != ".npy" else None) as layer:
        _look_up(path, layer)


def _open_alone(path: Path) -> None:
    with fe.Embedding.open(path) as layer:
        _look_up(path, layer)


def _look_up(path: Path, layer: fe.Embedding) -> None:
    if layer.weight.nbytes > path.stat().st_size:
        raise AssertionError(f"{layer!r} is larger than its file")
    if layer.embedding_dim:  # without columns any number of rows is in a file
        layer(np.arange(layer.num_embeddings))


def _train(path: Path) -> None:
    """The table is opened for training, which recovers it; then a step, and a flush."""
    layer = fe.Embedding.open(path, "r+")
    try:
        optimizer = fe.optim.SparseAdam(layer)
        if layer.num_embeddings and layer.embedding_dim < 1000:
            layer.backward(np.ones((1, layer.embedding_dim)), [0], optimizer=optimizer)
        layer.flush()
    finally:
        layer.storage.close()


def _command(*arguments: str) -> Callable[[Path], None]:
    def run(path: Path) -> None:
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
            status = cli.main([arguments[0], str(path), *arguments[1:]])
        if status in (130, 143):  # a signal from outside: it ends the campaign
            raise KeyboardInterrupt
        if status not in (0, 2) or (status == 2 and err.getvalue().count("\n") != 1):
            raise AssertionError(f"status {status}, {err.getvalue()!r}")
        if "\x1b" in out.getvalue() + err.getvalue():
            raise AssertionError("a control character of the file reaches the terminal")

    run.__name__ = arguments[0]
    return run


_info, _sample, _neighbors = _command("info"), _command("sample", "--samples", "2"), _command("neighbors")
OF_KIND: dict[str, tuple[Callable[[Path], None], ...]] = {
    "plain": (_load, _load_state, _statistics, _quantized, _open, _info),
    "state": (_load_state, _load, _statistics, _info),
    "quantized": (_quantized, _load, _info),
    "run": (_sample, _info, _neighbors, _load),
    "table": (_open, _open_alone, _train, _load),
    "npy": (_open_alone, _train),
    "half_npy": (_open_alone, _train),
    "record": (_train, _open_alone),
    "journal": (_open_alone, _train),
    "packed": (_packed, _load, _info),
    "index": (_shards,),
    "shard": (_shards,),
    "gguf": (_gguf, _info),
    "split_gguf": (_gguf,),
}


def fault_of(reader: Callable[[Path], None], path: Path) -> Exception | None:
    """What a reader raised if it may not; None if it returned, or said what is wrong."""
    try:
        reader(path)
    except Exception as error:
        is_documented = type(error) in (CheckpointError, ImportError) or (
            isinstance(error, OSError) and not isinstance(error, BlockingIOError)
        )
        refuses = type(error) in (ValueError, TypeError) and any(word in str(error) for word in REFUSALS)
        if refuses or (is_documented and len(str(error)) < 2000):
            return None
        return error
    return None
