"""``sample``, ``neighbors``, ``info``, ``shared``: what is in a model, a file, shared memory."""

from __future__ import annotations

import argparse
import json
import math
import random
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import _runtime
from .._messages import first_few, printable, shown
from ..io import checkpoint
from ..microgpt.model import GPT, Tokenizer
from ..microgpt.training import load_model
from ..tables.vocabulary import Vocabulary
from .outputs import UsageError
from .pictures.table_file import TableFile
from .progress import progress_of
from .streams import Output

if TYPE_CHECKING:
    from ..io.shared import leftovers
    from ..layers.searched import Searched

_MOST_ROWS = 1000  # whose neighbours are shown if none is named
_OF_OPTIMIZERS = ("exp_avg.", "exp_avg_sq.", "optimizer.")


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
    layer, names = _named_rows(arguments)
    rows = range(len(names)) if arguments.token is None else [_row_of(names, arguments.token)]
    if len(rows) > _MOST_ROWS:
        raise UsageError(f"{arguments.checkpoint} has {len(rows)} rows: give the name of one")
    if arguments.json:
        out.show(json.dumps({names[i]: _neighbors(layer, names, i, arguments.k) for i in rows}))
        return
    for i in rows:
        show_neighbors(layer, names, i, arguments.k, out)


def _named_rows(arguments: argparse.Namespace) -> tuple[Searched, Vocabulary]:
    """The table of tokens in a file, and the names of its rows."""
    tables = TableFile(arguments.checkpoint)
    if tables.is_run and arguments.table is None and arguments.names is None:
        model, tokenizer, _ = load_model(arguments.checkpoint)
        return model.emb, names_of(tokenizer)
    name = tables.token_table(arguments.table)
    layer = tables.open(name)
    names = layer.vocabulary if arguments.names is None and layer.vocabulary else tables.row_names(name, arguments.names)
    if names is None:
        raise UsageError(f"{arguments.checkpoint} has no names of rows: give --names")
    return layer, names if isinstance(names, Vocabulary) else Vocabulary(names)


def names_of(tokenizer: Tokenizer) -> Vocabulary:
    """The names of all tokens."""
    return Vocabulary(map(tokenizer.name, range(tokenizer.vocab_size)))


def _row_of(names: Vocabulary, name: str) -> int:
    if name not in names:
        raise UsageError(f"token {shown(name)} is not one of the {len(names)} tokens: {first_few([*map(repr, names)])}")
    return int(names.ids(name))


def show_neighbors(layer: Searched, names: Vocabulary, row: int, k: int, out: Output) -> None:
    near = "  ".join(f"{printable(name)} {cosine:+.2f}" for name, cosine in _neighbors(layer, names, row, k))
    out.show(f"{printable(names[row])}: {near}")


def _neighbors(layer: Searched, names: Vocabulary, row: int, k: int) -> list[tuple[str, float]]:
    found = layer.nearest(row, min(k, len(names) - 1), exclude_queries=True)
    return [(names[i], cosine) for i, cosine in zip(found.ids.tolist(), found.scores.tolist(), strict=True)]


def info(arguments: argparse.Namespace, out: Output) -> None:
    if arguments.checkpoint is None:
        out.show(json.dumps(_runtime.show_config()) if arguments.json else _runtime.runtime_text())
        return
    found: dict[str, Any]
    if arguments.summary:
        contents, description = checkpoint.contents(arguments.checkpoint)
        found = {name: Summary(shape, dtype) for name, (shape, dtype) in sorted(contents.items())}
    else:
        with progress_of("read") as progress:
            found, description = checkpoint.statistics(arguments.checkpoint, progress=progress)
    if arguments.json:
        tensors = {name: what if isinstance(what, str) else what._asdict() for name, what in found.items()}
        out.show(json.dumps({"description": description, "tensors": tensors}))
        return
    about = description if isinstance(description, dict) else {"description": description}
    for key, value in about.items():
        out.show(f"{_plain(key)}: {textwrap.shorten(json.dumps(value), 100, placeholder=' ...')}")
    for name, what in found.items():
        out.show(f"{_plain(name)}: " + str(what).replace("\n", "\n  "))
    if arguments.summary:
        out.show(_totals(found))


def _totals(found: Mapping[str, Any]) -> str:
    """How many numbers there are, those of an optimiser apart."""
    n_all = sum(what.numbers for what in found.values())
    n_state = sum(what.numbers for name, what in found.items() if name.startswith(_OF_OPTIMIZERS))
    state = f", and {n_state:,} numbers of an optimiser's state" if n_state else ""
    return f"{len(found):,} tensors: {n_all - n_state:,} parameters{state}"


class Summary(NamedTuple):
    """A tensor, as its header describes it."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def numbers(self) -> int:
        return math.prod(self.shape)

    def __str__(self) -> str:
        return f"{' x '.join(f'{n:,}' for n in self.shape) or 'one number'} {self.dtype:.20}, {self.numbers:,} numbers"


def _plain(name: str) -> str:
    """A name from a file on one line, escaped and cut."""
    return textwrap.shorten(json.dumps(name)[1:-1], 80, placeholder="...")


def shared(arguments: argparse.Namespace, out: Output) -> None:
    from ..io.shared import leftovers  # for systems without shared memory

    if arguments.action == "list":
        for table in leftovers.tables():
            out.show(_described(table))
        return
    if bool(arguments.names) == arguments.all:
        raise UsageError("give the names of tables, or --all")
    names = [table.name for table in leftovers.tables() if not table.is_written] if arguments.all else arguments.names
    for name in names:
        leftovers.remove(name)
        out.show(f"removed {printable(name)}")


def _described(table: leftovers.SharedTable) -> str:
    layout = table.layout
    what = "unfinished or not readable"
    if layout is not None:
        what = f"{layout.n_rows} x {layout.n_cols} {layout.dtype}, generation {layout.generation}"
    who = "written by a running process" if table.is_written else "nobody writes it"
    return f"{printable(table.name)}: {what}, {table.n_bytes / 2**20:.1f} MiB, {who}"
