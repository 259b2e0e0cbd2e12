"""Saving: layers that files hold, with their options and names, or as vectors."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from ... import _checks
from ..._memory import memory_errors
from ...functional.ngram.hash import NgramHash
from ...functional.statistics import LOOKUPS
from ...tables.state_names import DROPOUT_CALLS
from ...tables.vocabulary import Vocabulary
from ..base import Layer

if TYPE_CHECKING:
    from ..._typing import Array

ROWS = ".trainable_rows"  # after the name of a table: a mask, or numbers


class Saving(Layer):
    """A layer that is written to files, and made again from them."""

    _options: ClassVar[tuple[str, ...]] = ()  # those of the constructor that a file holds
    _table_names: ClassVar[tuple[str, ...]] = ("weight",)  # all that the layer may have, in order
    _of_tables: ClassVar[Callable[..., Any]]  # the layer around tables, in that order, with options

    @memory_errors()
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the layer to a file: tables, options, names of rows, counts of look-ups.

        `fastembed.load` makes the layer from it again. The file is a safetensors file with the
        tables by their names in `state_dict`, up to date. It is complete, or as it was. Gradients
        are not in it, and neither is the state of optimisers (`fastembed.checkpoint.save_state`) or
        the mode, as in PyTorch: a loaded layer is in train mode.

        Parameters
        ----------
        path : path-like

        Raises
        ------
        OSError
            The file cannot be written; it is as it was.
        TypeError
            The layer is of a class that `fastembed.load` does not know.
        ValueError
            A name of a row cannot be written as UTF-8, or the file is that of the layer's table.

        Examples
        --------
        >>> import tempfile, fastembed as fe
        >>> layer = fe.Embedding.from_pretrained([[0.5, 1.0], [0.0, 2.0]], padding_idx=1)
        >>> layer.vocabulary = ["king", "<pad>"]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     layer.save(f"{folder}/words.safetensors")
        ...     again = fe.load(f"{folder}/words.safetensors")
        >>> again, again["king"]
        (Embedding(2, 2, dtype=float64, padding_idx=1), array([0.5, 1. ]))
        """
        from ...io import checkpoint
        from .saved import check_kind

        check_kind(type(self))
        self._check_target(path)
        with self.lock:
            self.apply_pending()
            checkpoint.save(path, self._saved_tensors(), self._description())

    def _check_target(self, path: str | os.PathLike[str]) -> None:
        """ValueError if that is the file of the layer's own table, which only a flush may write."""
        if self.storage.is_at(path):
            raise ValueError(f"{os.fsdecode(path)} is the file of this table itself, which flush() writes: save to another")

    def _saved_tensors(self) -> dict[str, Array]:
        from ...io.vectors import names

        named = {} if self._vocabulary is None else names.packed(next(iter(self.tables)), self._vocabulary)
        return self.state_dict(lookups=True) | self._saved_rows() | named

    def _saved_rows(self) -> dict[str, Array]:
        """The trainable rows, by the names that they have in files."""
        rows = self.trainable_rows
        if rows is None:
            return {}
        by_name = rows if isinstance(rows, Mapping) else {None: rows}
        named = {self._table_name(table): of_table for table, of_table in by_name.items()}
        return {name + ROWS: _as_given(of_table, len(self.tables[name])) for name, of_table in named.items()}

    def _description(self) -> dict[str, Any]:
        """What a file holds of the layer beside tensors, for JSON."""
        options = {name: getattr(self, "_" + name) for name in self._options}
        function = options.pop("hash", None)
        unk = None if self._vocabulary is None else self._vocabulary.unk
        shared = {"freeze": not self.trainable, "unk": unk, "needs_hash": function is not None}
        digest = {"hash_digest": function.digest} if isinstance(function, NgramHash) else {}
        return {"kind": type(self).__name__, "options": options, **shared, **digest}

    @classmethod
    def _from_saved(cls, tensors: dict[str, Array], description: dict[str, Any], hash: Any) -> Self:
        """The layer of a file; KeyError, TypeError or ValueError if that has no such layer."""
        from ...io.vectors import names

        tables = [*itertools.takewhile(tensors.__contains__, cls._table_names)]
        if not tables:
            raise ValueError(f"the tensor {cls._table_names[0]} is missing")
        trained = {name: tensors[name + ROWS] for name in tables if name + ROWS in tensors}
        counts = {name + LOOKUPS for name in tables} | {DROPOUT_CALLS}
        unexpected = tensors.keys() - {*tables, *counts, *(name + ROWS for name in trained)} - set(names.keys_of(tables[0]))
        if unexpected:
            raise ValueError(f"unexpected tensors {_checks.first_few(sorted(unexpected))}")
        for name, rows in trained.items():
            if rows.dtype not in (np.bool_, np.int64):
                raise TypeError(f"{name}{ROWS} must be a mask or row numbers, got an array of {rows.dtype}")
            _checks.row_mask(name + ROWS, rows, len(tensors[name]))
        options, is_frozen, unk = (description.get(name) for name in ("options", "freeze", "unk"))
        options = _checks.mapping("options", options) | ({} if hash is None else {"hash": hash})
        given = trained[tables[0]] if [*trained] == tables[:1] else trained or None
        layer: Self = cls._of_tables(*(tensors[name] for name in tables), trainable_rows=given, **options)
        layer.trainable = not _checks.flag("freeze", is_frozen)
        layer.load_state_dict({name: value for name, value in tensors.items() if name in counts}, strict=False)
        found = names.unpacked(tables[0], tensors)
        layer.vocabulary = None if found is None else Vocabulary(found, unk=unk)
        return layer

    def save_vectors(
        self,
        path: str | os.PathLike[str],
        format: str | None = None,
        *,
        table: str | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> None:
        """Write a table and the names of its rows to a file for other programs.

        `fastembed.load_vectors` reads it back to the bit. The file is complete, or as it was.

        Parameters
        ----------
        path : path-like
        format : str, optional
            One of those of `fastembed.load_vectors`. By default the suffix says it: .txt and .vec
            (word2vec), .bin (word2vec-binary), .glove, .npy, .npz, .safetensors, .parquet, .arrow;
            and .gz after the first four.
        table : str, optional
            Its name, as in `state_dict`; by default the first, whose rows the vocabulary names.
        progress : callable, optional
            Called as ``progress(n_done, n_all)`` with bytes of the table after each block.

        Raises
        ------
        OSError
            The file cannot be written.
        ValueError, TypeError
            The format is unknown, or cannot hold the names or the dtype, or the file is that of the
            layer's table; no file is changed.
        ImportError
            The format needs a package that is not installed.

        Examples
        --------
        >>> import pathlib, tempfile, fastembed as fe
        >>> layer = fe.Embedding.from_pretrained([[0.5, -1.0], [0.25, 0.0]])
        >>> layer.vocabulary = ["king", "queen"]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     layer.save_vectors(f"{folder}/words.vec")
        ...     print(pathlib.Path(folder, "words.vec").read_text())
        2 2
        king 0.5 -1.0
        queen 0.25 0.0
        """
        from ...io.vectors import writing

        name = self._table_name(table)
        self._check_target(path)
        with self.lock:
            self.apply_pending()
            has_names = self._vocabulary is not None and name == next(iter(self.tables))
            names = list(self._vocabulary or ()) if has_names else None
            writing.save(path, format, writing.Table(self.storage.view(self.tables[name]), names, progress))


def _as_given(rows: Any, n_rows: int) -> Array:
    """Trainable rows for a file: masks as they are; numbers, which fit larger tables, as int64."""
    mask = _checks.row_mask("trainable_rows", rows, n_rows)
    return mask if _checks.as_array("trainable_rows", rows).dtype == bool else np.flatnonzero(mask).astype(np.int64)
