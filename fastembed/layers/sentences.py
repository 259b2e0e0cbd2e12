"""SentenceEncoder: vectors of texts, the means of the rows of their tokens.

N: texts; D: columns of the table.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .. import _checks
from .._kernels.floats import own_floats
from .._messages import first_few
from ..functional import lookup
from ..functional.bags import embedding_bag
from ..functional.max_norm import norms
from ..tables.attribute import Declared
from ..tables.packed import PackedRows
from .bag import EmbeddingBag
from .base import Layer
from .embedding import Embedding

if TYPE_CHECKING:
    from .._typing import Array, ArrayLike

Rows = Embedding | EmbeddingBag | PackedRows


class SentenceEncoder(Declared):
    """Vectors of texts without a network: the mean of the rows of a text's tokens, of length 1.

    Parameters
    ----------
    tokenizer : callable, or object with ``encode_batch`` or ``encode``
        A tokenizer of tokenizers, tiktoken or transformers, or any function of a text to its ids: a
        list or an array of integers, or what those libraries return. Padding (``attention_mask``
        0) is left out; tokens that the tokenizer adds are not. For a table whose rows have names,
        also a function to a list of names, as ``str.split``.
    table : Embedding, EmbeddingBag, QuantizedEmbedding, PackedTable or array_like of shape (V, D)
        The rows, as they are when `encode` is called. A padding row of a layer is skipped.
    normalize : bool
        Whether vectors are divided by their length; one of length 0 stays as it is.

    Raises
    ------
    TypeError, ValueError
        An argument is none of these.

    Notes
    -----
    As model2vec's StaticModel. The mean is that of `fastembed.embedding_bag`; its length is
    computed in float64, and quotients are rounded once.

    Examples
    --------
    >>> import fastembed as fe
    >>> words = fe.Vocabulary(["the", "cat", "sat"])
    >>> table = [[0.0, 0.0], [3.0, 0.0], [3.0, 8.0]]
    >>> encoder = fe.SentenceEncoder(lambda text: words.ids(text.split()), table)
    >>> encoder.encode(["cat sat", "the"])
    array([[0.6, 0.8],
           [0. , 0. ]])
    >>> encoder.encode("cat")
    array([1., 0.])
    """

    def __init__(self, tokenizer: Any, table: Rows | ArrayLike, *, normalize: bool = True) -> None:
        self._encode = _function_of(tokenizer)
        self._normalize = _checks.flag("normalize", normalize)
        is_layer = isinstance(table, Rows)
        if isinstance(table, Layer) and not is_layer:
            raise TypeError(f"table must have a row for each token, got a layer of another kind, {type(table).__name__}")
        self._table: Any = table if is_layer else _checks.table("table", table)

    @classmethod
    def from_folder(cls, path: str | os.PathLike[str], *, normalize: bool | None = None) -> Self:
        """The encoder of a static model that model2vec has saved, or another program in its form.

        Parameters
        ----------
        path : path-like
            A folder with ``model.safetensors`` (``embeddings``, and ``weights`` and ``mapping`` of
            tokens if there are any), ``tokenizer.json`` and ``config.json``.
        normalize : bool, optional
            By default what ``config.json`` says, else False.

        Returns
        -------
        SentenceEncoder
            With the vectors of model2vec's StaticModel: without tokens that are added or unknown,
            of at most ``max_length`` tokens of a text (512 unless ``config.json`` says so), and of
            at most as many times the median length of a token in characters.

        Raises
        ------
        OSError
            A file cannot be read.
        CheckpointError
            The folder holds no such model.
        ImportError
            tokenizers is not installed.
        """
        from ..io.vectors.folders import static_model_in

        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise ImportError("a static model's folder needs tokenizers: pip install tokenizers") from None
        model = static_model_in(_checks.path("path", path))
        tokenizer = Tokenizer.from_file(os.fspath(model.tokenizer))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        n_characters = None
        if model.max_length is not None:
            tokenizer.enable_truncation(model.max_length)
            n_characters = model.max_length * int(np.median([*map(len, tokenizer.get_vocab())]))
        unk = tokenizer.token_to_id(model.unk) if isinstance(model.unk, str) else model.unk
        table = Embedding.from_pretrained(model.table, freeze=True, padding_idx=unk)
        is_normalized = model.normalize if normalize is None else normalize

        def encode_batch(texts: list[str]) -> list[list[int]]:
            cut = [text[:n_characters] for text in texts]
            return [encoding.ids for encoding in tokenizer.encode_batch_fast(cut, add_special_tokens=False)]

        return cls(SimpleNamespace(encode_batch=encode_batch), table, normalize=is_normalized)

    @property
    def embedding_dim(self) -> int:
        """D, the length of a vector."""
        return int(self._table.shape[1] if isinstance(self._table, np.ndarray) else self._table.embedding_dim)

    @own_floats
    def encode(self, texts: str | Iterable[str] | Mapping[str, Any]) -> Array:
        """The vector of each text.

        Parameters
        ----------
        texts : str, iterable of str, or mapping
            A mapping is what a tokenizer of transformers has made of one text or several:
            ``input_ids`` and, if there is padding, ``attention_mask`` with 0 at its places.

        Returns
        -------
        ndarray of shape (D,) for one text, else (N, D)
            Of the dtype of the table, for half precision of float32; zeros for a text without
            tokens.

        Raises
        ------
        TypeError, ValueError
            A text is not a string, the tokenizer returns something else than its ids, or a mapping
            has no ``input_ids``, or a mask of another shape.
        IndexError, KeyError
            A token has no row; the text is named by its number.
        """
        is_one, encoded = _encodings_in(texts) if isinstance(texts, Mapping) else self._encodings_of(texts)
        n_rows = len(self._table) if isinstance(self._table, np.ndarray) else self._table.num_embeddings
        ids, lengths = _ids_of_all([*self._ids_of_words([_parts_of(one) for one in encoded])], n_rows)
        vectors = self._means(ids, np.append(0, np.cumsum(lengths)))
        if self._normalize:
            lengths = norms(vectors, 2)[:, None]
            vectors = (vectors / np.where(lengths == 0, 1.0, lengths)).astype(vectors.dtype)
        return vectors[0] if is_one else vectors

    def _encodings_of(self, texts: str | Iterable[str]) -> tuple[bool, Sequence[Any]]:
        """Whether there is one text alone, and what the tokenizer makes of each."""
        is_one = isinstance(texts, str)
        given: list[Any] = [texts] if is_one else list(_iterable(texts))
        _checks.strings("texts", _objects(given))
        encoded = self._encode(given)
        if len(encoded) != len(given):
            raise ValueError(f"tokenizer must return the ids of {len(given)} texts, got those of {len(encoded)}")
        return is_one, encoded

    def _ids_of_words(self, parts: list[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
        """The parts with the ids of tokens that are names of rows."""
        vocabulary = getattr(self._table, "vocabulary", None)
        for number, (tokens, mask) in enumerate(parts):
            if vocabulary is None or not _checks.are_names(tokens):
                yield tokens, mask
                continue
            try:
                yield vocabulary.ids(tokens), mask
            except KeyError as error:
                raise KeyError(f"the tokens of text {number}: {error.args[0]}") from None

    def _means(self, ids: Array, offsets: Array) -> Array:
        table, padding = self._table, None
        if isinstance(table, PackedRows):
            return table.bag(ids, offsets, include_last_offset=True)
        if not isinstance(table, np.ndarray):
            table, padding = table.weight, table.padding_idx
        to = _checks.arithmetic_dtype(table.dtype)
        return embedding_bag(table, ids, offsets, padding_idx=padding, include_last_offset=True, out_dtype=to)

    def __repr__(self) -> str:
        of = "an array" if isinstance(self._table, np.ndarray) else repr(self._table)
        return f"SentenceEncoder({of}, normalize={self._normalize})"


def _function_of(tokenizer: Any) -> Callable[[list[str]], Sequence[Any]]:
    """The function of texts to what the tokenizer returns for each."""
    encode = tokenizer if callable(tokenizer) else getattr(tokenizer, "encode", None)
    batch = None if callable(tokenizer) else getattr(tokenizer, "encode_batch", None)
    if batch is not None:
        return batch
    if encode is None or isinstance(tokenizer, str):
        raise TypeError(f"tokenizer must be a function, or have encode_batch or encode, got {_checks.shown(tokenizer)}")
    return lambda texts: [encode(text) for text in texts]


def _iterable(texts: Any) -> Iterable[str]:
    if not isinstance(texts, Iterable) or isinstance(texts, bytes):
        raise TypeError(f"texts must be strings, got {_checks.shown(texts)}")
    return texts


def _objects(values: list[Any]) -> Array:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _encodings_in(encoding: Mapping[str, Any]) -> tuple[bool, Sequence[Any]]:
    """Whether ids are those of one text alone, and the ids and the mask of each text."""
    if encoding.get("input_ids") is None:
        raise TypeError(f"texts must be strings, or a mapping with input_ids, got one with {first_few([*encoding])}")
    ids, mask = encoding["input_ids"], encoding.get("attention_mask")
    if len(ids) > 0 and np.ndim(ids[0]) == 0:
        return True, [encoding]
    if mask is not None and len(mask) != len(ids):
        raise ValueError(f"attention_mask must have the shape of input_ids, got that of {len(mask)} texts, not {len(ids)}")
    masks = itertools.repeat(None, len(ids)) if mask is None else mask
    return False, [{"input_ids": one, "attention_mask": kept} for one, kept in zip(ids, masks, strict=True)]


def _parts_of(encoded: Any) -> tuple[Any, Any]:
    """The ids of one text, and their attention mask or None."""
    names = ("input_ids", "ids", "attention_mask")
    parts = encoded if isinstance(encoded, Mapping) else {name: getattr(encoded, name, None) for name in names}
    found = next((parts[name] for name in names[:2] if parts.get(name) is not None), encoded)
    return found, parts.get("attention_mask")


def _ids_of_all(parts: list[tuple[Any, Any]], n_rows: int) -> tuple[Array, Array]:
    """The rows of the tokens of all texts, int64, without padding, and their number in each text.

    Lists are checked together: one by one, that would take half the time of an encoder. What is
    wrong with them is found one by one.
    """
    given, masks = [ids for ids, _ in parts], [mask for _, mask in parts if mask is not None]
    if all(type(one) is list for one in given + masks) and (not masks or [*map(len, masks)] == [*map(len, given)]):
        with contextlib.suppress(IndexError, TypeError, ValueError):
            return _ids_together(given, masks, [*map(len, given)], n_rows)
    rows = [_ids_of(number, ids, mask, n_rows) for number, (ids, mask) in enumerate(parts)]
    return np.concatenate([np.empty(0, np.int64), *rows]), np.array([*map(len, rows)], np.int64)


def _ids_together(ids: list[list[Any]], masks: list[Any], lengths: list[int], n_rows: int) -> tuple[Array, Array]:
    rows = lookup.resolve_ids([*itertools.chain.from_iterable(ids)], n_rows)
    if rows.ndim != 1:
        raise ValueError("ids have 1 axis")
    if not masks:
        return rows.astype(np.int64), np.array(lengths, np.int64)
    is_kept = _checks.as_array("attention_mask", [*itertools.chain.from_iterable(masks)]) != 0
    numbers = np.repeat(np.arange(len(ids)), lengths)
    return rows[is_kept].astype(np.int64), np.bincount(numbers[is_kept], minlength=len(ids))


def _ids_of(number: int, given: Any, mask: Any, n_rows: int) -> Array:
    """The rows of the tokens of one text."""
    try:
        ids = lookup.resolve_ids(given, n_rows)
    except (IndexError, TypeError, ValueError) as error:
        raise type(error)(f"the tokens of text {number}: {error}") from error
    if ids.ndim != 1:
        raise ValueError(f"the tokens of text {number} must have 1 axis, got shape {ids.shape}")
    if mask is None:
        return ids
    is_kept = _checks.as_array("attention_mask", mask) != 0
    if is_kept.shape != ids.shape:
        raise ValueError(f"attention_mask of text {number} must have the shape of its ids, {ids.shape}, got {is_kept.shape}")
    return ids[is_kept]
