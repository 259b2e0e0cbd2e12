"""Folders of models, as model2vec and transformers save them: a table, and a tokenizer's tokens."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ... import _checks
from ..._messages import first_few, limit, shown
from ...functional import lookup
from .. import checkpoint
from ..errors import CheckpointError
from ..status import is_there, status_of

if TYPE_CHECKING:
    from ..._typing import Array

_MAX_JSON = 1 << 28  # bytes
_MAX_TOKENS = 512  # of a text, unless the folder says so


def table_in(folder: Path) -> Path:
    """The safetensors file of a folder."""
    preferred = folder / "model.safetensors"
    found = [preferred] if is_there(preferred) else sorted(folder.glob("*.safetensors"))
    if len(found) != 1:
        has = first_few([path.name for path in found]) if found else "none"
        raise CheckpointError(f"{folder} must hold one safetensors file, and holds {has}")
    return found[0]


def tokens_in(folder: Path) -> list[str] | None:
    """The tokens of ``tokenizer.json``, else ``vocab.json`` or ``vocab.txt``, by their ids."""
    for name, read in (("tokenizer.json", _of_tokenizer), ("vocab.json", _of_mapping), ("vocab.txt", _of_lines)):
        path = folder / name
        found = status_of(path)
        if found is not None and stat.S_ISREG(found.st_mode):
            if found.st_size > _MAX_JSON:
                raise CheckpointError(f"{path} has more than {limit(_MAX_JSON)} bytes")
            try:
                return read(path.read_bytes().decode())
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                raise CheckpointError(f"{path} does not hold a token for each id: {error!s:.200}") from error
    return None


def _of_tokenizer(text: str) -> list[str]:
    described = json.loads(text)
    vocabulary = described["model"]["vocab"]
    if isinstance(vocabulary, list):  # of Unigram: pairs of a token and its score
        vocabulary = {token: i for i, (token, _) in enumerate(vocabulary)}
    return _by_id(vocabulary | {token["content"]: token["id"] for token in described.get("added_tokens") or []})


def _of_mapping(text: str) -> list[str]:
    return _by_id(json.loads(text))


def _of_lines(text: str) -> list[str]:
    return text.split("\n")[: -1 if text.endswith("\n") else None]


def _by_id(ids: dict[str, Any]) -> list[str]:
    tokens = sorted(ids, key=ids.__getitem__)
    for i, token in enumerate(tokens):
        if ids[token] != i:
            raise ValueError(f"id {i} must be that of a token, and {shown(token)} has {shown(ids[token])}")
    return tokens


class StaticModel(NamedTuple):
    """What model2vec's folder says of a static model.

    Attributes
    ----------
    table : ndarray of shape (V, D)
        A row for each token: that of its number in the mapping, if there is one, times its weight.
    tokenizer : Path
    unk : str or int or None
        The token, or its id, that stands for what is unknown.
    normalize : bool
    max_length : int or None
        Tokens of a text that count.
    """

    table: Array
    tokenizer: Path
    unk: str | int | None
    normalize: bool
    max_length: int | None


def static_model_in(folder: Path) -> StaticModel:
    """The static model of a folder; a CheckpointError if it has none."""
    path = table_in(folder)
    tensors, _ = checkpoint.load(path)
    try:
        table = tensors.get("embeddings", tensors.get("embedding.weight"))
        if table is None:
            raise ValueError(f"it has no tensor embeddings, but {first_few(sorted(tensors))}")
        table = _checks.table("embeddings", table)
        if (mapping := tensors.get("mapping")) is not None:
            table = table[lookup.resolve_ids(mapping, len(table))]
        if (weights := tensors.get("weights")) is not None:
            table = table * _checks.rows("weights", weights, (len(table),), table.dtype)[:, None]
        config, model = _json_in(folder / "config.json"), _json_in(folder / "tokenizer.json").get("model")
        unk = model.get("unk_token", model.get("unk_id")) if isinstance(model, dict) else None
        length = config.get("max_length", _MAX_TOKENS)
        length = None if length is None else _checks.size("max_length", length)
        normalize = _checks.flag("normalize", config.get("normalize", False))
    except (ValueError, TypeError, IndexError, RecursionError) as error:
        raise CheckpointError(f"{folder} holds no static model: {error!s:.300}") from error
    return StaticModel(table, folder / "tokenizer.json", unk, normalize, length)


def _json_in(path: Path) -> dict[str, Any]:
    """The mapping that a file of JSON holds."""
    if path.stat().st_size > _MAX_JSON:
        raise ValueError(f"{path.name} has more than {limit(_MAX_JSON)} bytes")
    found = json.loads(path.read_bytes().decode())
    if not isinstance(found, dict):
        raise TypeError(f"{path.name} must hold a mapping, got {shown(found)}")
    return found
