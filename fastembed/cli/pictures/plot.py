"""``plot``: a picture of the tables of a file, or of losses."""

from __future__ import annotations

import argparse
import math
from functools import partial
from pathlib import Path
from typing import Any

from ... import plots
from ..._messages import shown
from ..outputs import output_files
from ..streams import Output, UsageError
from .table_file import TableFile


def plot(arguments: argparse.Namespace, out: Output) -> None:
    path = arguments.out or f"{Path(arguments.file).stem}.png"
    plots.check_path("--out", path)
    inputs = {"FILE": arguments.file, "--names": arguments.names, "--losses": arguments.losses}
    (file,) = output_files({"--out": path}, inputs, force=arguments.force).values()
    picture = _picture(arguments)
    file.write(partial(plots.save, picture, format=Path(path).suffix[1:].lower()))
    for kept in file.kept:
        out.say(f"{path} was there: the old file is {kept}")
    out.show(f"picture: {path}")


def _picture(arguments: argparse.Namespace) -> Any:
    if arguments.kind == "losses":
        return plots.losses(read_losses(arguments.losses or arguments.file), dark=arguments.dark)
    tables = TableFile(arguments.file, quiet=arguments.quiet)
    positions = tables.position_table() if arguments.table is None else arguments.table
    if arguments.kind == "positions":
        with tables.open(tables.token_table(positions)) as layer:
            return plots.positions(layer, dark=arguments.dark)
    name = tables.token_table(arguments.table)
    names, counts = tables.row_names(name, arguments.names), tables.lookups(name)
    with tables.open(name) as layer:
        if arguments.kind == "rows":
            return plots.rows(layer, names, n_labels=arguments.labels, dark=arguments.dark)
        if arguments.kind == "norms":
            return plots.norms(layer, names, dark=arguments.dark)
        if arguments.kind == "lookups":
            return plots.lookups(layer, names, counts=counts, dark=arguments.dark)
        loss = None if arguments.losses is None else read_losses(arguments.losses)
        position_rows = None
        if arguments.table is None and positions is not None:
            with tables.open(positions) as position_layer:
                position_rows = position_layer([*range(position_layer.num_embeddings)])
        return plots.overview(
            layer, names, position_rows=position_rows, counts=counts, loss=loss, n_labels=arguments.labels, dark=arguments.dark
        )


def read_losses(path: str) -> list[float]:
    """The losses in a file of ``train --losses``, one a line; UsageError for another file."""
    losses = []
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            try:
                losses.append(float(line))
            except ValueError:
                losses.append(math.nan)
            if not math.isfinite(losses[-1]):
                raise UsageError(f"line {number} of {path} must be a loss, got {shown(line.rstrip())}")
    if not losses:
        raise UsageError(f"{path} has no losses")
    return losses
