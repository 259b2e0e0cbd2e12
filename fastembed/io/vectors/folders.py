"""Folders of models, as model2vec and transformers save them: a table, and a tokenizer's tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..._messages import first_few, shown
from ..errors import CheckpointError

_MAX_JSON = 1 << 28  # bytes


def table_in(folder: Path) -> Path:
    """The safetensors file of a folder."""
    preferred = folder / "model.safetensors"
    found = [preferred] if preferred.exists() else sorted(folder.glob("*.safetensors"))
    if len(found) != 1:
        raise CheckpointError(f"{folder} must hold one safetensors file, and holds {first_few([path.name for path in found])}")
    return found[0]


def tokens_in(folder: Path) -> list[str] | None:
    """The tokens of ``tokenizer.json``, else ``vocab.json`` or ``vocab.txt``, by their ids."""
    for name, read in (("tokenizer.json", _of_tokenizer), ("vocab.json", _of_mapping), ("vocab.txt", _of_lines)):
        path = folder / name
        if path.is_file():
            if path.stat().st_size > _MAX_JSON:
                raise CheckpointError(f"{path} has more than {_MAX_JSON} bytes")
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
