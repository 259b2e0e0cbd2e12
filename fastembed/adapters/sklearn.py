"""EmbeddingTransformer: scikit-learn's interface to pooled rows of a table.

V: rows of the table; D: columns; N: documents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import embedding_bag
from .._interactive import completion
from .._kernels.floats import own_floats

try:
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
    from sklearn.utils.validation import check_is_fitted
except ImportError as error:
    raise ImportError("fastembed.adapters.sklearn needs scikit-learn: pip install 'microgpt-fastembed[sklearn]'") from error

if TYPE_CHECKING:
    from typing import Self

    from .._typing import Array, ArrayLike

__all__ = ["EmbeddingTransformer"]
__dir__ = completion.names_of(__all__)


class EmbeddingTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Documents to vectors: the rows of a document's token ids, pooled.

    Parameters
    ----------
    table : array_like of shape (V, D), of any float dtype
        It is not copied, not even by ``clone``, and never written.
    tokenizer : callable or object, optional
        Makes the token ids of a document that is a string: by a call, or by its method ``encode``
        (of tokenizers and tiktoken). Without it documents are sequences of token ids.
    mode : {"mean", "sum", "sqrtn", "max"}
        How rows are pooled, as in `fastembed.embedding_bag`. A document without ids is zeros.
    normalize : bool
        Whether each vector is divided by its Euclidean norm, unless that is 0.
    padding_idx : int, optional
        A row that is skipped and not counted; a negative one counts from the end.
    bounds : {"raise", "wrap", "clip", "zero"}
        The meaning of an id that the table does not have, as in `fastembed.embedding_bag`: with
        "zero" it is skipped.

    Attributes
    ----------
    table_ : ndarray of shape (V, D)

    Examples
    --------
    >>> import numpy as np
    >>> from fastembed.adapters.sklearn import EmbeddingTransformer
    >>> table = np.array([[1.0, 0.0], [0.0, 1.0], [3.0, 4.0]])
    >>> EmbeddingTransformer(table).fit_transform([[0, 1], [2], []])
    array([[0.5, 0.5],
           [3. , 4. ],
           [0. , 0. ]])
    >>> words = {"the": 0, "cat": 1, "sat": 2}
    >>> transformer = EmbeddingTransformer(table, tokenizer=lambda s: [words[w] for w in s.split()])
    >>> transformer.fit_transform(["the cat", "sat"])
    array([[0.5, 0.5],
           [3. , 4. ]])
    """

    def __init__(
        self,
        table: ArrayLike | None = None,
        *,
        tokenizer: Any = None,
        mode: str = "mean",
        normalize: bool = False,
        padding_idx: int | None = None,
        bounds: str = "raise",
    ) -> None:
        self.table = table
        self.tokenizer = tokenizer
        self.mode = mode
        self.normalize = normalize
        self.padding_idx = padding_idx
        self.bounds = bounds

    def __sklearn_clone__(self) -> Self:
        """An unfitted copy that shares table and tokenizer, which may be large."""
        return type(self)(**self.get_params(deep=False))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False  # of features: documents are ids or strings
        tags.input_tags.one_d_array = True
        tags.input_tags.string = self.tokenizer is not None
        tags.transformer_tags.preserves_dtype = []
        return tags

    def fit(self, X: Any = None, y: Any = None) -> Self:
        """Check the parameters; nothing is learned.

        Parameters
        ----------
        X, y
            Not used.

        Raises
        ------
        TypeError, ValueError
            A parameter is invalid.
        """
        if self.table is None:
            raise ValueError("table must be given: an array of shape (rows, columns)")
        if not isinstance(self.normalize, bool | np.bool_):
            raise TypeError(f"normalize must be True or False, got {self.normalize!r:.80}")
        self._encode()
        table = np.asarray(self.table)
        self._pooled(table, np.empty((0, 1), np.int64))
        self.table_ = table
        self._n_features_out = table.shape[1]
        return self

    def transform(self, X: Any) -> Array:
        """The vector of each document.

        Parameters
        ----------
        X : iterable of documents, N of them
            Sequences of integers, or a matrix of integers; strings, if there is a tokenizer.

        Returns
        -------
        ndarray of shape (N, D), of the table's dtype

        Raises
        ------
        NotFittedError
        TypeError, ValueError
            X is one string, or a document is no sequence of integers; it is named by its number.
        IndexError
            An id is out of range and ``bounds`` is "raise"; its document is named.
        """
        check_is_fitted(self)
        if isinstance(X, str | bytes):
            raise ValueError(f"X must be an iterable of documents, got one string: {X!r:.80}")
        documents = self._ids_of(X)
        ids = np.concatenate([np.empty(0, np.int64), *documents], casting="safe")
        offsets = np.cumsum([0, *(len(document) for document in documents)])
        if self.bounds == "raise":
            _check_range(ids, offsets, len(self.table_))
        vectors = self._pooled(self.table_, ids, offsets)
        return _unit_rows(vectors) if self.normalize else vectors

    def _pooled(self, table: Array, ids: Array, offsets: Array | None = None) -> Array:
        return embedding_bag(
            table,
            ids,
            offsets,
            mode=self.mode,
            padding_idx=self.padding_idx,
            include_last_offset=offsets is not None,
            bounds=self.bounds,
        )

    def _encode(self) -> Callable[[Any], Any] | None:
        """The function of a string to its ids, or None."""
        if self.tokenizer is None:
            return None
        encode = getattr(self.tokenizer, "encode", self.tokenizer)
        if not callable(encode) or isinstance(self.tokenizer, str):
            raise TypeError(f"tokenizer must be callable or have a method encode, got {self.tokenizer!r:.80}")
        return encode

    def _ids_of(self, documents: Iterable[Any]) -> list[Array]:
        """The ids of each document as int64."""
        encode = self._encode()
        return [_int64(number, document, encode) for number, document in enumerate(documents)]


def _int64(number: int, document: Any, encode: Callable[[Any], Any] | None) -> Array:
    """The ids of one document."""
    if encode is not None and isinstance(document, str):
        encoded = encode(document)
        document = getattr(encoded, "ids", encoded)
    elif isinstance(document, str):
        raise TypeError(f"document {number} is a string, {document!r:.80}, and there is no tokenizer")
    ids = np.asarray(document)
    if ids.ndim != 1:
        raise ValueError(f"document {number} must be a sequence of token ids, got {document!r:.80}")
    if ids.size and ids.dtype.kind not in "iu":
        raise TypeError(f"the token ids of document {number} must be integers, got {ids.dtype}: {document!r:.80}")
    if ids.dtype == np.uint64 and ids.size and ids.max() >= 2**63:
        raise IndexError(f"token id {ids.max()} of document {number} is above 2**63 - 1")
    return ids.astype(np.int64)


def _check_range(ids: Array, offsets: Array, n_rows: int) -> None:
    is_bad = (ids < 0) | (ids >= n_rows)
    if is_bad.any():
        place = int(is_bad.argmax())
        document = int(np.searchsorted(offsets, place, side="right")) - 1
        raise IndexError(
            f"token id {ids[place]} at position {place - offsets[document]} of document {document} is out of range for a table "
            f"of {n_rows} rows"
        )


@own_floats
def _unit_rows(vectors: Array) -> Array:
    """The vectors divided by their norms; zeros stay as they are."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(norms > 0, norms, 1).astype(vectors.dtype)
