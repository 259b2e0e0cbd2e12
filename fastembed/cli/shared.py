"""``shared``: the tables in shared memory."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from .._messages import printable
from .outputs import UsageError
from .streams import Output

if TYPE_CHECKING:
    from ..io.shared import leftovers


def shared(arguments: argparse.Namespace, out: Output) -> None:
    from ..io.shared import leftovers  # for systems without shared memory

    if arguments.action == "list":
        for table in leftovers.tables():
            out.show(_line(table))
        return
    if bool(arguments.names) == arguments.all:
        raise UsageError("give the names of tables, or --all")
    names = [table.name for table in leftovers.tables() if not table.is_written] if arguments.all else arguments.names
    for name in names:
        leftovers.remove(name)
        out.show(f"removed {printable(name)}")


def _line(table: leftovers.SharedTable) -> str:
    layout = table.layout
    what = "unfinished or not readable"
    if layout is not None:
        what = f"{layout.n_rows} x {layout.n_cols} {layout.dtype}, generation {layout.generation}"
    who = "written by a running process" if table.is_written else "nobody writes it"
    return f"{printable(table.name)}: {what}, {table.n_bytes / 2**20:.1f} MiB, {who}"
