"""Checkpoints: saves of several ranks together, which any number of ranks can load."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import _checks
from ..._kernels.backend import kernels
from ..._messages import listed, shown
from ...io import checkpoint
from ...io.atomic import flush_folder
from ...io.errors import CheckpointError
from ...tables.trainable import Trainable
from ..partition import partition
from ..ranks.group import Group
from ..sharded import Sharded
from . import manifest as manifests
from . import row_file
from .manifest import Manifest, ShardedLayer

if TYPE_CHECKING:
    from ..._typing import Array
    from ...optim.optimizer import Optimizer

_COMMON = "common.safetensors"


def _file_of(rank: int, size: int) -> str:
    return f"rank-{rank}-of-{size}.safetensors"


class Checkpoints:
    """The checkpoints of a run of several ranks, in a folder that all of them see.

    A checkpoint is a folder of one safetensors file for each rank, with the rows it owns, one file
    of what all ranks have alike, and a manifest. It has its name when all of that is on the disk:
    after a kill at any moment the one before is the last. All ranks call `save` and `load`
    together.

    Parameters
    ----------
    folder : path-like
        Made by the first save.
    group : Group
    layers : mapping of name to layer or Parameter
        Those that are not sharded must be the same in all ranks.
    optimizer : one of fastembed.optim, optional
        Its items are among the layers.
    n_kept : int
        How many full checkpoints a save leaves, with the deltas that are based on them.

    Examples
    --------
    >>> import tempfile, fastembed as fe
    >>> from fastembed import distributed
    >>> layer = distributed.ShardedEmbedding(distributed.local(), 10, 4, rng=0)
    >>> opt = fe.optim.RowWiseAdagrad(layer)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     saves = distributed.Checkpoints(folder, layer.group, {"emb": layer}, opt)
    ...     saves.save({"step": 0})
    ...     layer.backward(layer([1, 2]), optimizer=opt)
    ...     saves.save({"step": 1}, delta=True)         # the two rows that have changed
    ...     saves.load()
    1
    2
    {'step': 1}
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        group: Group,
        layers: Mapping[str, Trainable],
        optimizer: Optimizer | None = None,
        *,
        n_kept: int = 2,
    ) -> None:
        self._folder = Path(os.path.abspath(_checks.path("folder", folder)))
        self._group, self._layers, self._optimizer = group, dict(layers), optimizer
        self._n_kept = max(1, _checks.size("n_kept", n_kept))
        self._last: int | None = None
        for name, layer in self._layers.items():
            if not isinstance(layer, Trainable) or (isinstance(layer, Sharded) and layer.group is not group):
                raise TypeError(f"layers[{shown(name)}] must be a layer of this group or a Parameter, got {shown(layer)}")
        names = {id(layer): name for name, layer in self._layers.items()}
        items = [] if optimizer is None else optimizer.items
        if any(id(item) not in names for item in items):
            raise ValueError("the items of the optimizer must be among the layers")
        self._item_names = [names[id(item)] for item in items]
        self._sharded = {name: layer for name, layer in self._layers.items() if isinstance(layer, Sharded)}

    # ---- saving ----

    def save(self, description: Any = None, *, delta: bool = False) -> int:
        """Save a checkpoint; its number, from 1.

        Parameters
        ----------
        description : JSON-able, optional
            What `load` returns, such as the number of steps. That of rank 0 is saved.
        delta : bool
            Whether of sharded layers only the rows are saved that have changed since the last
            checkpoint that this object has saved or loaded. Where an optimiser moves all rows in
            each step these are all.

        Raises
        ------
        ValueError
            There is no checkpoint yet that a delta could be based on.
        OSError
            The files of this rank cannot be written; the other ranks raise PeerError. There is no
            new checkpoint.
        """
        group, step = self._group, "save of a checkpoint"
        with group.checking(step):
            if _checks.flag("delta", delta) and self._last is None:
                raise ValueError("a delta requires a checkpoint that was saved or loaded before")
            json.dumps(description)
            number = self._begin() if group.rank == 0 else 0
        number = int(group.agree(step, np.full((group.size, 1), number))[0, 0])
        folder = manifests.folder_of(self._folder, number, is_partial=True)
        with group.all_or_none(f"{step}: files"):
            self._flush()
            taken = {name: np.flatnonzero(layer.changed) for name, layer in self._sharded.items()} if delta else None
            digests = self._write_rows(folder, taken)
        of_rank = json.dumps([digests, self._spans(taken)]).encode()
        lengths = group.allgather(f"{step}: digests", np.array([len(of_rank)]))[:, 0]
        texts = group.allgatherv(f"{step}: digests", np.frombuffer(of_rank, np.uint8), lengths)
        with group.all_or_none(f"{step}: manifest"):
            if group.rank == 0:
                parts = np.split(texts, np.cumsum(lengths)[:-1])
                files = [json.loads(bytes(part)) for part in parts]
                self._finish(folder, number, self._last if delta else None, files, description)
        self._set_last(number)
        return number

    def _begin(self) -> int:
        """Make the folder of the next checkpoint; its number."""
        self._folder.mkdir(parents=True, exist_ok=True)
        number = max(manifests.numbers_in(self._folder), default=0) + 1
        folder = manifests.folder_of(self._folder, number, is_partial=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return number

    def _flush(self) -> None:
        """Apply all pending updates, which may change rows."""
        for layer in self._layers.values():
            layer.apply_pending()
        if self._optimizer is not None:
            self._optimizer.flush()

    def _write_rows(self, folder: Path, taken: dict[str, Array] | None) -> row_file.Digests:
        """Write this rank's rows, all or those taken, by their numbers here."""
        arrays = {}
        for name, layer in self._sharded.items():
            rows = slice(None) if taken is None else taken[name]
            if taken is not None:
                arrays[f"{name}.rows"] = layer.rows[rows]
            arrays |= {key: array[rows] for key, array in self._arrays_of(name).items()}
        return row_file.write(folder / _file_of(self._group.rank, self._group.size), arrays)

    def _spans(self, taken: dict[str, Array] | None) -> dict[str, list[int]]:
        """For each sharded layer the first and the last row saved, and how many."""
        rows = {name: layer.rows if taken is None else layer.rows[taken[name]] for name, layer in self._sharded.items()}
        return {name: [int(own[0]), int(own[-1]), len(own)] if len(own) else [0, -1, 0] for name, own in rows.items()}

    def _arrays_of(self, name: str) -> dict[str, Array]:
        """The tables of a layer and its state arrays, up to date, by their names in files."""
        layer = self._layers[name]
        arrays = {f"{name}.{table}": layer.storage.view(array) for table, array in layer.tables.items()}
        for item, item_name in enumerate(self._item_names):
            if item_name == name and self._optimizer is not None:
                for kind, by_table in self._optimizer.state_dict()["items"][item].items():
                    if kind != "step":
                        arrays |= {f"{name}.{kind}.{table}": array for table, array in by_table.items()}
        return arrays

    def _finish(self, folder: Path, number: int, base: int | None, files: list[Any], description: Any) -> None:
        """Write what is common and the manifest, and give the folder its name."""
        common: dict[str, Array] = {}
        for name in self._layers.keys() - self._sharded.keys():
            common |= self._arrays_of(name)
        checkpoint.save(folder / _COMMON, common)
        Manifest(
            number=number,
            base=base,
            size=self._group.size,
            layers={name: _described(layer, self._arrays_of(name)) for name, layer in self._sharded.items()},
            files=[digests for digests, _ in files],
            rows=[spans for _, spans in files],
            common=hashlib.sha256((folder / _COMMON).read_bytes()).hexdigest(),
            optimizer=self._optimizer_without_arrays(),
            description=description,
        ).write(folder)
        flush_folder(folder)
        os.rename(folder, manifests.folder_of(self._folder, number))
        flush_folder(self._folder)
        manifests.remove_old(self._folder, self._n_kept)

    def _optimizer_without_arrays(self) -> dict[str, Any] | None:
        if self._optimizer is None:
            return None
        state = self._optimizer.state_dict()
        items = [
            {"name": name, "step": item["step"], "kinds": sorted(item.keys() - {"step"})}
            for name, item in zip(self._item_names, state["items"], strict=True)
        ]
        return state | {"items": items}

    def _set_last(self, number: int) -> None:
        self._last = number
        for layer in self._sharded.values():
            layer.changed[:] = False

    # ---- loading ----

    def load(self, number: int | None = None) -> Any:
        """Load the last checkpoint, or that of a number, saved by any number of ranks.

        Each rank reads of sharded layers only the blocks with rows that it owns now, and verifies
        them.

        Returns
        -------
        any JSON value
            The description that was saved.

        Raises
        ------
        FileNotFoundError
            There is no such checkpoint.
        CheckpointError
            A file is damaged, or is not of these layers. Nothing is changed in any rank.
        """
        group, step = self._group, "load of a checkpoint"
        with group.checking(step):
            chosen = 0
            if group.rank == 0:
                numbers = manifests.numbers_in(self._folder)
                if not numbers or (number is not None and number not in numbers):
                    raise FileNotFoundError(f"no checkpoint {'' if number is None else shown(number)} in {self._folder}")
                chosen = numbers[-1] if number is None else number
        chosen = int(group.agree(step, np.full((group.size, 1), chosen))[0, 0])
        with group.all_or_none(f"{step}: files"):
            chain = manifests.chain(self._folder, chosen)
            found = self._read(chain)
            state = self._optimizer_state(chain[-1], found)
            pairs = self._tables_to_load(found)
        with group.applying(step):
            self._flush()
            if self._optimizer is not None and state is not None:
                self._optimizer.load_state_dict(state)
            commit = kernels.Commit()
            for target, source in _checks.sources_for(pairs):
                commit.add_copy(target, source)
            for layer in self._layers.values():
                layer.storage.begin_write(None)
            commit.run()
        self._set_last(chosen)
        return chain[-1].description

    def _read(self, chain: list[Manifest]) -> dict[str, Array]:
        """All arrays of this rank, by their names in files."""
        last = chain[-1]
        folder = manifests.folder_of(self._folder, last.number)
        if hashlib.sha256((folder / _COMMON).read_bytes()).hexdigest() != last.common:
            raise CheckpointError(f"{folder / _COMMON} is damaged: its SHA-256 is another one")
        found, _ = checkpoint.load(folder / _COMMON)
        if last.layers.keys() != self._sharded.keys():
            raise CheckpointError(f"{folder} has the sharded layers {listed(last.layers)}, expected {listed(self._sharded)}")
        for name, layer in self._sharded.items():
            saved = last.layers[name]
            if (saved.n_rows, saved.arrays[f"{name}.weight"][1]) != (layer.num_embeddings, [layer.embedding_dim]):
                raise CheckpointError(f"{folder} has {saved.n_rows} rows of {shown(saved.arrays)} for {layer!r}")
            for key, (dtype, tail) in saved.arrays.items():
                found[key] = np.empty((len(layer.rows), *tail), _checks.dtype(dtype))
        for manifest in chain:
            self._read_rows(manifest, found)
        return found

    def _read_rows(self, manifest: Manifest, found: dict[str, Array]) -> None:
        """Fill in this rank's rows out of one checkpoint of a chain."""
        folder = manifests.folder_of(self._folder, manifest.number)
        for rank, digests in enumerate(manifest.files):
            wanted = {name: self._wanted(manifest, name, rank) for name in self._sharded}
            if manifest.base is None and not any(len(numbers) for numbers, _ in wanted.values()):
                continue
            with row_file.RowFile(folder / _file_of(rank, manifest.size), digests) as file:
                for name, layer in self._sharded.items():
                    numbers, own = wanted[name]
                    n_rows = None
                    if manifest.base is None:
                        n_rows = partition(manifest.layers[name].partition, layer.num_embeddings, manifest.size).n_owned(rank)
                    else:
                        numbers, own = self._of_delta(layer, file.read(f"{name}.rows", None, None, (), np.dtype(np.int64)))
                    for key, (dtype, tail) in manifest.layers[name].arrays.items():
                        found[key][own] = file.read(key, numbers, n_rows, tuple(tail), _checks.dtype(dtype))

    def _wanted(self, manifest: Manifest, name: str, rank: int) -> tuple[Array, Array]:
        """This rank's rows in the file of a rank: their numbers there, and here."""
        layer, saved = self._sharded[name], manifest.layers[name]
        owners, numbers = partition(saved.partition, layer.num_embeddings, manifest.size).place(layer.rows)
        own = np.flatnonzero(owners == rank)
        return numbers[own], own

    def _of_delta(self, layer: Sharded, rows: Array) -> tuple[Array, Array]:
        """Of the rows of a delta's file those of this rank: their places there, and here."""
        if len(rows) and (rows.min() < 0 or rows.max() >= layer.num_embeddings or (np.diff(rows) <= 0).any()):
            raise CheckpointError("the rows of a delta must be ascending rows of the table")
        owners, numbers = layer.partition.place(rows)
        places = np.flatnonzero(owners == self._group.rank)
        return places, numbers[places]

    def _optimizer_state(self, manifest: Manifest, found: dict[str, Array]) -> dict[str, Any] | None:
        """The state for the optimiser's ``load_state_dict``."""
        saved = manifest.optimizer
        if (saved is None) != (self._optimizer is None):
            raise CheckpointError(f"checkpoint {manifest.number} was saved with{'out' if saved is None else ''} an optimizer")
        if saved is None:
            return None
        names = [item["name"] for item in saved["items"]]
        if names != self._item_names:
            raise CheckpointError(f"the optimizer has the items {listed(self._item_names)}, the checkpoint {listed(names)}")
        items = [
            {"step": item["step"]}
            | {kind: {t: found[f"{name}.{kind}.{t}"] for t in self._layers[name].tables} for kind in item["kinds"]}
            for name, item in zip(names, saved["items"], strict=True)
        ]
        return saved | {"items": items}

    def _tables_to_load(self, found: dict[str, Array]) -> list[tuple[Array, Array]]:
        pairs = []
        for name, layer in self._layers.items():
            for table, array in layer.tables.items():
                key = f"{name}.{table}"
                if key not in found or (found[key].shape, found[key].dtype) != (array.shape, array.dtype):
                    raise CheckpointError(f"the checkpoint has no {shown(key)} of {array.dtype} and shape {array.shape}")
                pairs.append((array, found[key]))
        return pairs


def _described(layer: Sharded, arrays: dict[str, Array]) -> ShardedLayer:
    of_rows = {key: [array.dtype.name, list(array.shape[1:])] for key, array in arrays.items()}
    return ShardedLayer(layer.partition.kind, layer.num_embeddings, of_rows)
