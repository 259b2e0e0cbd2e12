"""``info``, ``shared``: what is installed, in a file, in shared memory."""

from __future__ import annotations

import argparse
import json
import math
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import _runtime
from .._messages import counted, printable
from .progress import progress_of
from .streams import Output, UsageError

if TYPE_CHECKING:
    from ..io.shared import leftovers

_MOST = 4  # names of a group of tensors
_FLOATS = ("F", "BF", "C")  # what names of dtypes of floats begin with


def info(arguments: argparse.Namespace, out: Output) -> None:
    if arguments.checkpoint is None:
        out.show(json.dumps(_runtime.show_config()) if arguments.json else _runtime.runtime_text())
        return
    from ..io import checkpoint

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
    groups = [] if arguments.summary else _internal(found)
    internal = {name for _, names in groups for name in names}
    for name, what in found.items():
        if name not in internal:
            out.show(f"{_plain(name)}: " + str(what).replace("\n", "\n  "))
    for about_them, names in groups:
        out.show(f"{about_them}: {', '.join(map(_plain, names[:_MOST]))}{', ...' * (len(names) > _MOST)}")
    if arguments.summary:
        out.show(_totals(found))


def _internal(found: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """The tensors that are no tables of a user's, in groups, with what is said of each group."""
    from ..io.formats.tensor_file import OF_OPTIMIZERS
    from ..io.vectors.names import ENDS, NAMES
    from ..layers.files.saving import ROWS
    from ..tables.state_names import DROPOUT_CALLS

    state = [name for name in found if name.startswith(OF_OPTIMIZERS)]
    of_rows = [name for name in found for end in (NAMES, ENDS, ROWS) if name.endswith(end) and name.removesuffix(end) in found]
    others = [name for name in found if name == DROPOUT_CALLS or name.endswith(f".{DROPOUT_CALLS}")]
    groups = ((f"state of an optimiser, {counted(len(state), 'tensor', ',')}", state), ("names and options of rows", of_rows))
    return [(about, names) for about, names in (*groups, ("counters", others)) if names]


def _totals(found: Mapping[str, Any]) -> str:
    """How many numbers there are: parameters, which are floats, and others."""
    from ..io.formats.tensor_file import OF_OPTIMIZERS

    counts = dict.fromkeys(("parameter", "state", "integer"), 0)
    for name, what in found.items():
        kind = "state" if name.startswith(OF_OPTIMIZERS) else "parameter" if what.dtype.startswith(_FLOATS) else "integer"
        counts[kind] += what.numbers
    n_params, n_state, n_integers = counts.values()
    state = f", {counted(n_state, 'number', ',')} of an optimiser's state" if n_state else ""
    integers = f", {counted(n_integers, 'integer', ',')} (names, counts or packed rows)" if n_integers else ""
    return f"{counted(len(found), 'tensor', ',')}: {counted(n_params, 'parameter', ',')}{state}{integers}"


class Summary(NamedTuple):
    """A tensor, as its header describes it."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def numbers(self) -> int:
        return math.prod(self.shape)

    def __str__(self) -> str:
        return (
            f"{' x '.join(f'{n:,}' for n in self.shape) or 'one number'} {self.dtype:.20}, {counted(self.numbers, 'number', ',')}"
        )


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
