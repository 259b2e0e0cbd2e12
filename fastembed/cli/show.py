"""``sample``, ``neighbors``: what a model draws, and which rows of it are alike."""

from __future__ import annotations

import argparse
import contextlib
import json
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .._messages import first_few, printable, shown
from ..microgpt.model import GPT, Tokenizer
from ..microgpt.training import load_model
from ..tables.vocabulary import Vocabulary
from .pictures.table_file import TableFile
from .streams import Output, UsageError

if TYPE_CHECKING:
    from ..layers.searched import Searched
    from ..tables.packed import PackedRows

_MOST_ROWS = 1000  # whose neighbours are shown if none is named


def sample(arguments: argparse.Namespace, out: Output) -> None:
    model, tokenizer, rng = load_model(arguments.checkpoint)
    rng = rng if arguments.seed is None else random.Random(arguments.seed)
    if not arguments.json:
        show_samples(model, tokenizer, rng, arguments, out, arguments.prompt)
        return
    drawn = [model.sample(tokenizer, rng, arguments.temperature, arguments.prompt) for _ in range(arguments.samples)]
    out.show(json.dumps(drawn))


def show_samples(
    model: GPT, tokenizer: Tokenizer, rng: random.Random, arguments: argparse.Namespace, out: Output, prompt: str = ""
) -> None:
    for k in range(arguments.samples):
        out.show(f"sample {k + 1:2d}: {printable(model.sample(tokenizer, rng, arguments.temperature, prompt))}")


def neighbors(arguments: argparse.Namespace, out: Output) -> None:
    with _named_rows(arguments) as (layer, names):
        rows = range(len(names)) if arguments.token is None else [_row_of(names, arguments.token)]
        if len(rows) > _MOST_ROWS:
            raise UsageError(f"{arguments.checkpoint} has {len(rows)} rows: give the name of one")
        if arguments.json:
            out.show(json.dumps({names[i]: _neighbors(layer, names, i, arguments.k) for i in rows}))
            return
        for i in rows:
            show_neighbors(layer, names, i, arguments.k, out)


@contextlib.contextmanager
def _named_rows(arguments: argparse.Namespace) -> Iterator[tuple[Searched | PackedRows, Vocabulary]]:
    """A context with the table of tokens in a file, and the names of its rows."""
    tables = TableFile(arguments.checkpoint)
    if tables.is_run and arguments.table is None and arguments.names is None:
        model, tokenizer, _ = load_model(arguments.checkpoint)
        yield model.emb, names_of(tokenizer)
        return
    name = tables.token_table(arguments.table)
    with tables.open(name) as layer:
        names = layer.vocabulary if arguments.names is None and layer.vocabulary else tables.row_names(name, arguments.names)
        if names is None:
            raise UsageError(f"{arguments.checkpoint} has no names of rows: give --names")
        yield layer, names if isinstance(names, Vocabulary) else Vocabulary(names)


def names_of(tokenizer: Tokenizer) -> Vocabulary:
    """The names of all tokens."""
    return Vocabulary(map(tokenizer.name, range(tokenizer.vocab_size)))


def _row_of(names: Vocabulary, name: str) -> int:
    if name not in names:
        raise UsageError(f"token {shown(name)} is not one of the {len(names)} tokens: {first_few([*map(repr, names)])}")
    return int(names.ids(name))


def show_neighbors(layer: Searched | PackedRows, names: Vocabulary, row: int, k: int, out: Output) -> None:
    near = "  ".join(f"{printable(name)} {cosine:+.2f}" for name, cosine in _neighbors(layer, names, row, k))
    out.show(f"{printable(names[row])}: {near}")


def _neighbors(layer: Searched | PackedRows, names: Vocabulary, row: int, k: int) -> list[tuple[str, float]]:
    found = layer.nearest(row, min(k, len(names) - 1), exclude_queries=True)
    return [(names[i], cosine) for i, cosine in zip(found.ids.tolist(), found.scores.tolist(), strict=True)]
