"""SavingGroup: groups of tables in files, with their features, options, names and counts."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Self

from ... import _checks
from ..quantized import QuantizedEmbedding
from .table_group import GroupedBag, TableGroup

if TYPE_CHECKING:
    from ..._typing import Array

_KINDS = {"weight": GroupedBag, "packed": QuantizedEmbedding}  # by the first tensor of a table


class SavingGroup(TableGroup):
    """A group of tables that is written to files, and made again from them."""

    _features: dict[str, str]
    _mode: str
    _bounds: str

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all tables, their options, names of rows and counts of look-ups to one file.

        `fastembed.load` makes the collection from it again. The rest is as for `Embedding.save`.

        Examples
        --------
        >>> import tempfile, fastembed as fe
        >>> layer = fe.EmbeddingCollection({"user": [[1.0, 2.0]], "item": [[3.0]]})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     layer.save(f"{folder}/model.safetensors")
        ...     fe.load(f"{folder}/model.safetensors")([0, 0], lengths=[1, 1])
        array([[1., 2., 3.]])
        """
        from ...io import checkpoint
        from ..files.saved import check_kind

        check_kind(type(self))
        with self._locked():
            self._apply_pending()
            tensors = {
                f"{name}.{key}": array for name, layer in self.tables.items() for key, array in layer._saved_tensors().items()
            }
            checkpoint.save(path, tensors, self._description())

    def _description(self) -> dict[str, Any]:
        """What a file holds of the group beside tensors, for JSON."""
        tables = {name: layer._description() for name, layer in self.tables.items()}
        options = {"features": self._features, "mode": self._mode, "bounds": self._bounds}
        return {"kind": type(self).__name__, "options": options, "tables": tables, "needs_hash": False}

    @classmethod
    def _from_saved(cls, tensors: dict[str, Array], description: dict[str, Any], hash: None) -> Self:
        """The group of a file; KeyError, TypeError or ValueError if that has no such group."""
        options, described = (_checks.mapping(name, description.get(name)) for name in ("options", "tables"))
        own: dict[str, dict[str, Array]] = {name: {} for name in described}
        for key, array in tensors.items():
            name, rest = _split(key, own)
            own[name][rest] = array
        tables = {name: _table(parts, described[name], options) for name, parts in own.items()}
        group: Any = cls  # whose constructor is that of a subclass
        return group(tables, **options)


def _split(key: str, names: dict[str, Any]) -> tuple[str, str]:
    """The table that a tensor is of, and its name there: of tables that fit the longest name."""
    fitting = [name for name in names if key.startswith(f"{name}.") and key[len(name) + 1 :].split(".")[0] in _KINDS]
    if not fitting:
        raise ValueError(f"unexpected tensor {_checks.shown(key)}")
    name = max(fitting, key=len)
    return name, key[len(name) + 1 :]


def _table(tensors: dict[str, Array], description: Any, options: dict[str, Any]) -> Any:
    """The layer of a table; bags have the mode and the bounds of the group."""
    kind: Any = _KINDS["packed" if "packed" in tensors else "weight"]
    shared = {name: options[name] for name in ("mode", "bounds")}
    return kind._from_saved(tensors, {**_checks.mapping("a table", description), "options": shared}, None)
