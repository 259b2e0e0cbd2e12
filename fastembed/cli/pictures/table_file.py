"""Files of tables, as ``plot`` and ``explore`` take them: which table is meant, and its names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ... import _checks
from ..._messages import counted, first_few, shown
from ...functional.statistics import LOOKUPS
from ...io import checkpoint
from ...io.errors import CheckpointError
from ...io.vectors import arrays, formats
from ...layers.embedding import Embedding
from ...layers.files.vectors import load_vectors
from ...microgpt.model import BOS_NAME
from ..progress import progress_of
from ..streams import UsageError

if TYPE_CHECKING:
    from ..._typing import Array

_FLOATS = ("F64", "F32", "F16", "BF16")
_TOKENS = ("wte", "wte.weight", "weight", "word_embeddings.weight", "embed_tokens.weight", "tok_embeddings.weight", "embeddings")
_POSITIONS = ("wpe", "wpe.weight", "position_embeddings.weight")


class TableFile:
    """The tables of a safetensors file, or the one of another file of vectors, whose name is "".

    A safetensors or .npy file is read where rows are needed, and another one as a whole.

    Attributes
    ----------
    tables : dict of name to shape
    """

    def __init__(self, path: str, *, quiet: bool = False) -> None:
        self._path = path
        self._description: Any = None
        self._counts: dict[str, tuple[int, ...]] = {}
        self._layer: Embedding | None = None
        kind = _kind(path)
        if kind != "safetensors":
            if kind != "npy":
                with progress_of("read", quiet=quiet) as progress:
                    self._layer = load_vectors(path, progress=progress)
            with self.open("") as layer:
                self.tables = {"": (layer.num_embeddings, layer.embedding_dim)}
            return
        found, self._description = checkpoint.contents(path)
        self.tables = {name: shape for name, (shape, dtype) in found.items() if len(shape) == 2 and dtype in _FLOATS}
        self._counts = {name: shape for name, (shape, dtype) in found.items() if dtype == "I64"}

    @property
    def is_run(self) -> bool:
        """Whether it says that it is a trained names model."""
        return isinstance(self._description, dict) and "characters" in self._description

    def open(self, name: str) -> Embedding:
        """A layer around a table."""
        return self._layer or Embedding.open(self._path, name=name or None)

    def token_table(self, wanted: str | None) -> str:
        """The name of the table of that name, the only one, or the one that is known as tokens'."""
        if wanted is not None:
            if wanted not in self.tables:
                raise UsageError(f"--table {shown(wanted)} is not in {self._path}, which has {first_few(sorted(self.tables))}")
            return wanted
        known = [*self.tables] if len(self.tables) == 1 else self._called(_TOKENS)
        if not known:
            has = first_few(sorted(self.tables))
            raise UsageError(f"{self._path} has {has}: give --table" if self.tables else f"{self._path} has no table of floats")
        return known[0]

    def position_table(self) -> str | None:
        """The name of the table that is known as positions', if there is one."""
        return next(iter(self._called(_POSITIONS)), None)

    def _called(self, known: tuple[str, ...]) -> list[str]:
        """The tables of these names, also behind prefixes of modules; known names first."""
        names = [name for end in known for name in self.tables if name == end or name.endswith(f".{end}")]
        return sorted(names, key=lambda name: name.startswith(("exp_avg", "optimizer")))

    def row_names(self, name: str, path: str | None) -> list[str] | None:
        """Names of a table's rows: the lines of a file, or the tokens of the names model.

        None if there are none, or if the layer has them.
        """
        n_rows = self.tables[name][0]
        if path is not None:
            names = arrays.names_in(Path(path), "utf-8-sig")
            if len(names) != n_rows:
                has = f"--names: {path} has {counted(len(names), 'line')}"
                raise UsageError(f"{has}, and {self._path} has {counted(n_rows, 'row')}")
            return names
        about = self._description if isinstance(self._description, dict) else {}
        characters = about.get("characters")
        if not isinstance(characters, list) or len(characters) + 1 != n_rows or not all(isinstance(c, str) for c in characters):
            return None
        return [*characters, BOS_NAME]

    def lookups(self, name: str) -> Array | None:
        """The counts of look-ups that the file has for a table."""
        counts = name + LOOKUPS
        if self._counts.get(counts) != (self.tables[name][0],):
            return None
        tensors, _ = checkpoint.load(self._path, only=[counts])
        return _checks.counts(counts, tensors[counts], self.tables[name][0])


def _kind(path: str) -> str:
    """The format of a file by its first bytes; "safetensors" for one of an unknown format."""
    if not os.path.isfile(path):
        return "safetensors"  # whose reader says what is wrong, and waits for no pipe
    with open(path, "rb") as file:
        head = formats.head_of(file)
    try:
        return formats.of_content(head)
    except CheckpointError:
        return "safetensors"
