"""Manifests: what a checkpoint of several ranks consists of, with a SHA-256 of itself."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ... import _checks
from ..._kernels.floats import own_floats
from ..._messages import shown
from ...io.atomic import flush_folder, replacing
from ...io.errors import CheckpointError
from ..partition import partition
from .row_file import Digests

NAME = "manifest.json"
_FOLDER = re.compile(r"(?P<number>[0-9]{8})(?P<partial>\.partial)?")
_DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class ShardedLayer:
    """A layer of a checkpoint, whose rows are in the files of the ranks.

    Attributes
    ----------
    partition : str
        "ranges" or "hash".
    n_rows : int
        Of the whole table.
    arrays : dict of str to [str, list of int]
        Dtype, and shape of a row, of the table and of each state array.
    """

    partition: str
    n_rows: int
    arrays: dict[str, list[Any]]


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint consists of.

    Attributes
    ----------
    number : int
    base : int, or None
        The checkpoint that this one has the changes since; None for a full one.
    size : int
        The number of ranks that saved it.
    layers : dict of str to ShardedLayer
    files : list of Digests
        Of the file of each rank.
    rows : list of dict
        For each rank and layer the first and the last row in its file, and their number.
    common : str
        The SHA-256 of the file of what all ranks have alike.
    optimizer : dict, or None
        The state without its arrays; items are ``{"name": layer, "step": int, "kinds": names}``.
    description : any JSON value
    """

    number: int
    base: int | None
    size: int
    layers: dict[str, ShardedLayer]
    files: list[Digests]
    rows: list[dict[str, list[int]]]
    common: str
    optimizer: dict[str, Any] | None
    description: Any

    def write(self, folder: Path) -> None:
        """Write the file into the folder of the checkpoint."""
        body = json.dumps(asdict(self))
        with replacing(folder / NAME) as temporary:
            temporary.write_text(json.dumps({"sha256": hashlib.sha256(body.encode()).hexdigest(), "manifest": body}))

    @classmethod
    @own_floats  # in which Python reads the decimals of numbers
    def read(cls, folder: Path) -> Manifest:
        """The manifest in a folder, checked; CheckpointError if it is damaged."""
        path = folder / NAME
        try:
            outer = json.loads(path.read_text(encoding="utf-8"))
            if hashlib.sha256(outer["manifest"].encode()).hexdigest() != outer["sha256"]:
                raise ValueError("its SHA-256 is another one")
            given = json.loads(outer["manifest"])
            given["layers"] = {name: ShardedLayer(**layer) for name, layer in given["layers"].items()}
            found = cls(**given)
            found._check()
        except FileNotFoundError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError) as error:
            raise CheckpointError(f"{path} is no manifest of a checkpoint, or is damaged: {error!r:.200}") from error
        return found

    def _check(self) -> None:
        if not 1 <= _checks.size("size", self.size) <= 1 << 20 or len(self.files) != self.size:
            raise ValueError(f"{self.size} ranks with {len(self.files)} files")
        if self.base is not None and not 0 <= _checks.size("base", self.base) < self.number:
            raise ValueError(f"checkpoint {self.number} is based on {self.base}")
        for layer in self.layers.values():
            partition(layer.partition, _checks.size("n_rows", layer.n_rows), self.size)
            for dtype, tail in layer.arrays.values():
                _checks.dtype(dtype)
                _checks.number("bytes of a row", math.prod(_checks.size("shape", n) for n in tail), 0, 2**31)
        for digests in self.files:
            for values in digests.values():
                if not all(_DIGEST.fullmatch(value) for value in values):
                    raise ValueError(f"no SHA-256: {shown(values)}")


def folder_of(parent: Path, number: int, *, is_partial: bool = False) -> Path:
    """The folder of a checkpoint; the partial one is renamed when it is complete."""
    return parent / f"{number:08d}{'.partial' if is_partial else ''}"


def numbers_in(parent: Path) -> list[int]:
    """The numbers of the complete checkpoints, ascending."""
    found = [_FOLDER.fullmatch(entry) for entry in (os.listdir(parent) if parent.is_dir() else [])]
    return sorted(int(match["number"]) for match in found if match and not match["partial"])


def chain(parent: Path, number: int) -> list[Manifest]:
    """The manifests of a checkpoint and of those that it is based on, the full one first."""
    found = [Manifest.read(folder_of(parent, number))]
    while (base := found[0].base) is not None:
        found.insert(0, Manifest.read(folder_of(parent, base)))
    return found


def _is_full(folder: Path) -> bool:
    """Whether a checkpoint is based on no other one; a damaged one does not count."""
    try:
        return Manifest.read(folder).base is None
    except CheckpointError:
        return False


def remove_old(parent: Path, n_kept: int) -> None:
    """Remove what precedes the last full checkpoints, and what saves that failed have left."""
    numbers = numbers_in(parent)
    full = [number for number in numbers if _is_full(folder_of(parent, number))]
    for number in numbers:
        if number < full[-n_kept:][0]:
            shutil.rmtree(folder_of(parent, number))
    for entry in os.listdir(parent):
        match = _FOLDER.fullmatch(entry)
        if match and match["partial"] and int(match["number"]) <= max(numbers):
            shutil.rmtree(parent / entry)
    flush_folder(parent)
