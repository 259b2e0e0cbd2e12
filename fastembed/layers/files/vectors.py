"""load_vectors: a layer from a file of vectors of another program."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ...io.atomic import writable_path
from ...io.status import is_there
from ...io.vectors import reading
from ...tables.vocabulary import Vocabulary
from ..embedding import Embedding

if TYPE_CHECKING:
    from ..._typing import DTypeLike


def load_vectors(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    name: str | None = None,
    names: Iterable[str] | None = None,
    dtype: DTypeLike | None = None,
    into: str | os.PathLike[str] | None = None,
    encoding: str = "utf-8",
    errors: str = "raise",
    numbers_in_names: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> Embedding:
    """A layer from a file of vectors; the names in it become the layer's vocabulary.

    The file is read block by block. Text is parsed to the numbers that Python's ``float`` gives,
    which are rounded to ``dtype``.

    Parameters
    ----------
    path : path-like
        A file of one of the formats below, or a folder of model2vec or transformers with a
        safetensors file and the tokens of ``tokenizer.json``, ``vocab.json`` or ``vocab.txt``.
    format : str, optional
        "word2vec" (text with a header, which fastText's .vec files have too), "word2vec-binary",
        "glove" (text without a header), "npy" (names are in ``<path>.names.txt``), "npz",
        "safetensors", "parquet" or "arrow" (which need pyarrow). By default the content tells.
        Text and binary files may be compressed by gzip.
    name : str, optional
        Which tensor, array or column, if there are several: "wte" is also found as
        "transformer.wte.weight".
    names : iterable of str, optional
        Names of the rows, instead of those that the file has.
    dtype : {"float32", "float64", "float16", "bfloat16"}, optional
        By default that of the file; for text float32.
    into : path-like, optional
        A new safetensors file that the table is written to row by row, so that it may be larger
        than memory; the layer is then that of ``Embedding.open(into)``.
    encoding : str
        The encoding of names in text and binary files: one that ASCII is a part of.
    errors : {"raise", "skip"}
        Whether a malformed line, a name that is there twice (the first one stays) or a wrong
        number of rows in a header is an error, or left out with a UserWarning that counts them.
    numbers_in_names : bool
        Whether a name of several words may end in one that is a number, as "top 10". By default
        such a line of text has one number too many.
    progress : callable, optional
        Called as ``progress(n_done, n_all)`` with bytes of the file after each block.

    Returns
    -------
    Embedding

    Raises
    ------
    OSError
        The file cannot be read, or ``into`` is there already (FileExistsError).
    CheckpointError
        A line or row is malformed, with its number and what was expected; the file is damaged, or
        of another kind, which is named. (A ValueError, as in `fastembed.checkpoint`.)
    ImportError
        The format needs a package that is not installed.

    Examples
    --------
    >>> import tempfile, fastembed as fe
    >>> from pathlib import Path
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name) / "vectors.txt"
    >>> _ = path.write_text("2 3\\nking 0.5 0.25 1e-3\\nqueen 0.5 0.75 0\\n")
    >>> layer = fe.load_vectors(path)
    >>> layer.weight[layer.vocabulary.ids("queen")]
    array([0.5 , 0.75, 0.  ], dtype=float32)
    >>> layer.save_vectors(Path(folder.name) / "vectors.npz")
    >>> folder.cleanup()
    """
    options = reading.Options(format, name, names, dtype, encoding, errors, numbers_in_names, progress).checked()
    if into is not None:
        target = writable_path(into)
        if is_there(target):
            raise FileExistsError(f"{into} is there already, and is not replaced")
        reading.convert(path, target, options)
        return Embedding.open(target)
    loaded: Any = reading.load(path, options)
    layer = Embedding.from_pretrained(loaded.table)
    if loaded.ids is not None:
        layer.vocabulary = Vocabulary.of_ids(loaded.ids)
    return layer
