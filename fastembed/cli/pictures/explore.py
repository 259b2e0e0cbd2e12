"""``explore``: a page about the table of a file, or its rows as TSV files."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from ... import explorer
from ..._messages import shown
from ..outputs import output_files
from ..streams import Output, UsageError
from .table_file import TableFile


def explore(arguments: argparse.Namespace, out: Output) -> None:
    if arguments.metadata is not None and arguments.tsv is None:
        raise UsageError("--metadata names the rows of --tsv, which is missing")
    path = arguments.out
    if path is None and arguments.tsv is None:
        path = f"{Path(arguments.file).stem}.html"
    outputs = {"--out": path, "--tsv": arguments.tsv, "--metadata": arguments.metadata}
    files = output_files(outputs, {"FILE": arguments.file, "--names": arguments.names}, force=arguments.force)
    if path is not None and Path(path).suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--out must name an .html file, got {shown(path, str)}")
    tables = TableFile(arguments.file, quiet=arguments.quiet)
    name = tables.token_table(arguments.table)
    names, counts = tables.row_names(name, arguments.names), tables.lookups(name)
    title = f"{Path(arguments.file).name}{name and f': {name}'}"
    with tables.open(name) as layer:
        if "--out" in files:
            files["--out"].write(
                partial(explorer.save, source=layer, names=names, lookups=counts, max_rows=arguments.rows, title=title)
            )
        if "--tsv" in files:
            files["--tsv"].write(partial(explorer.save_vectors, source=layer))
        if "--metadata" in files:
            files["--metadata"].write(partial(explorer.save_metadata, source=layer, names=names, lookups=counts))
        if path is not None and layer.num_embeddings > arguments.rows:
            out.say(f"the page shows the first {arguments.rows:,} of {layer.num_embeddings:,} rows")
    for file in files.values():
        for kept in file.kept:
            out.say(f"{file.path} was there: the old file is {kept}")
    if path is not None:
        out.show(f"page: {path}")
    if arguments.tsv is not None:
        out.show(f"vectors: {arguments.tsv}")
