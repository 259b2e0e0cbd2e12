"""``convert``: vectors from one format to another, by way of a mapped table."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._messages import counted, printable
from ..io.atomic import temporary_folder
from ..io.formats import tensor_file
from ..io.vectors import formats, writing
from ..layers.files.vectors import load_vectors
from .outputs import OutputFile, is_same, output_files
from .pictures.table_file import given_names
from .progress import progress_of
from .streams import Output, UsageError

if TYPE_CHECKING:
    from ..layers.embedding import Embedding


def convert(arguments: argparse.Namespace, out: Output) -> None:
    target = Path(arguments.target)
    kind = formats.of_name(target, arguments.to)
    outputs = {"TO": str(target)} | ({"the names of TO": str(tensor_file.names_file(target))} if kind == "npy" else {})
    files = output_files(outputs, {"FROM": arguments.source}, force=arguments.force)
    if Path(arguments.source).is_dir() and is_same(target.parent, arguments.source):
        raise UsageError(f"{target} is in the folder that is read: name another file")
    if kind == "safetensors":
        files["TO"].write(lambda path: _shown(_loaded(arguments, path), target, out).close())
    else:
        with temporary_folder(target.absolute()) as folder, _loaded(arguments, folder / "table") as layer:
            _write(layer, arguments.to or kind, target, files, quiet=arguments.quiet)
            _shown(layer, target, out)
    for file in files.values():
        for kept in file.kept:
            out.say(f"{file.path} was there: the old file is {kept}")


def _loaded(arguments: argparse.Namespace, into: Path) -> Embedding:
    """The vectors of the source, in a new file."""
    options: dict[str, Any] = {name: getattr(arguments, name) for name in ("name", "dtype", "encoding", "numbers_in_names")}
    with progress_of("read", quiet=arguments.quiet) as progress:
        return load_vectors(
            arguments.source,
            format=arguments.format,
            errors="skip" if arguments.skip else "raise",
            into=into,
            names=given_names(arguments.source, arguments.name),
            progress=progress,
            **options,
        )


def _write(layer: Embedding, kind: str, target: Path, files: dict[str, OutputFile], *, quiet: bool) -> None:
    names = None if layer.vocabulary is None else list(layer.vocabulary)
    with progress_of("write", quiet=quiet) as progress:
        try:
            contents = writing.files(target, kind, writing.Table(layer.weight, names, progress))
        except TypeError as error:  # the format lacks the dtype
            raise UsageError(str(error)) from error
        both = list(zip(files.values(), contents.values(), strict=True))
        with contextlib.ExitStack() as renamed:  # when all have been written
            for file, content in both:
                if content is not None:
                    content(renamed.enter_context(file.writing()))
        for file, content in both:
            if content is None:
                file.remove()


def _shown(layer: Embedding, target: Path, out: Output) -> Embedding:
    n_rows, n_cols = layer.num_embeddings, layer.embedding_dim
    has = "without names" if layer.vocabulary is None else "with names"
    out.say(f"{printable(str(target))}: {counted(n_rows, 'row')} of {counted(n_cols, str(layer.dtype))}, {has}")
    return layer
