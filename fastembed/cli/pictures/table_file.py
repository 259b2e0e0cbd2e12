"""Files of tables, as commands take them: which table is meant, and the names of its rows."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ... import _checks
from ..._messages import counted, first_few, shown
from ...functional.statistics import LOOKUPS
from ...io import checkpoint
from ...io.errors import CheckpointError
from ...io.formats import tensor_file
from ...io.vectors import arrays, formats
from ...layers.embedding import Embedding
from ...layers.files.saved import load
from ...layers.files.vectors import load_vectors
from ...microgpt.model import BOS_NAME
from ..progress import progress_of
from ..streams import UsageError

if TYPE_CHECKING:
    from ..._typing import Array

_FLOATS = ("F64", "F32", "F16", "BF16")
_TOKENS = ("wte", "wte.weight", "weight", "word_embeddings.weight", "embed_tokens.weight", "tok_embeddings.weight", "embeddings")
_OF_TOKENS = ("wte", "lm_head")  # of the names model
_PACKED = ("QuantizedEmbedding", "PackedTable")  # what files say of layers that decode their rows
_POSITIONS = ("wpe", "wpe.weight", "position_embeddings.weight")


class TableFile:
    """The tables of a safetensors file, or the one of another file of vectors, whose name is "".

    A safetensors or .npy file is read where rows are needed, and another one as a whole, as is one
    that a `QuantizedEmbedding` or a `PackedTable` has saved.

    Attributes
    ----------
    tables : dict of name to shape
    """

    def __init__(self, path: str, *, quiet: bool = False) -> None:
        self._path = path
        self._description: Any = None
        self._counts: dict[str, tuple[int, ...]] = {}
        self._layer: Any = None
        kind = _kind(path)
        found: dict[str, tuple[tuple[int, ...], str]] = {}
        if kind == "safetensors":
            found, self._description = checkpoint.contents(path)
            if isinstance(self._description, dict) and self._description.get("kind") in _PACKED:
                self._layer = load(path)
        elif kind != "npy":
            with progress_of("read", quiet=quiet) as progress:
                self._layer = load_vectors(path, progress=progress)
        if kind == "npy" or self._layer is not None:
            with self.open("") as layer:
                self.tables = {"": (layer.num_embeddings, layer.embedding_dim)}
            return
        self.tables = {name: shape for name, (shape, dtype) in found.items() if len(shape) == 2 and dtype in _FLOATS}
        self._counts = {name: shape for name, (shape, dtype) in found.items() if dtype == "I64"}

    @property
    def is_run(self) -> bool:
        """Whether it says that it is a trained names model."""
        return isinstance(self._description, dict) and "characters" in self._description

    def open(self, name: str) -> contextlib.AbstractContextManager[Any]:
        """A context with a layer around a table."""
        return Embedding.open(self._path, name=name or None) if self._layer is None else contextlib.nullcontext(self._layer)

    def token_table(self, wanted: str | None) -> str:
        """The name of the table of that name, the only one, or the one that is known as tokens'."""
        if wanted is not None:
            if wanted not in self.tables:
                raise UsageError(f"--table {shown(wanted)} is not in {self._path}, which has {self._tables_text()}")
            return wanted
        known = [*self.tables] if len(self.tables) == 1 else self._called(_TOKENS)
        if not known:
            has = f"{self._tables_text()}: give --table" if self.tables else "no table of floats"
            raise UsageError(f"{self._path} has {has}")
        return known[0]

    def _tables_text(self) -> str:
        """The first names of tables, an optimiser's state after them."""
        return first_few(tensor_file.tables_first(self.tables))

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
        return names_of_run(self._description, name, n_rows)

    def lookups(self, name: str) -> Array | None:
        """The counts of look-ups that the file has for a table."""
        counts = name + LOOKUPS
        if self._counts.get(counts) != (self.tables[name][0],):
            return None
        tensors, _ = checkpoint.load(self._path, only=[counts])
        return _checks.counts(counts, tensors[counts], self.tables[name][0])


def names_of_run(description: Any, table: str, n_rows: int) -> list[str] | None:
    """The names of the tokens of a trained names model, if they are those of a table's rows."""
    characters = description.get("characters") if isinstance(description, dict) else None
    if table.rpartition(".")[2] not in _OF_TOKENS or not isinstance(characters, list) or len(characters) + 1 != n_rows:
        return None
    return [*characters, BOS_NAME] if all(isinstance(c, str) for c in characters) else None


def given_names(path: str, table: str | None) -> list[str] | None:
    """The names that the rows of a table of a file have by what the file says of a names model."""
    if table is None or not os.path.isfile(path) or _kind(path) != "safetensors":
        return None
    found, description = checkpoint.contents(path)
    try:
        name = tensor_file.table_name(found, table)
    except ValueError:  # as who reads the table says
        return None
    return names_of_run(description, name, found[name][0][0] if found[name][0] else 0)


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
