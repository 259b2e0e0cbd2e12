"""NgramHash: the rows that hashes of a token and of those before it select.

N: tokens of the longest n-gram; H: heads for each n; W = (N - 1) H: rows of a token; T: tokens of a
sequence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ... import _checks
from ..._interactive.completion import without_internals
from ..._kernels.backend import kernels
from . import layouts
from .numbers import HashNumbers
from .sequences import sequences_of

if TYPE_CHECKING:
    from ..._typing import Array, ArrayLike
    from .sequences import Sequences

_INT64_MAX = _checks.INT64_MAX


class NgramHash(HashNumbers):
    """Rows of hashed n-gram tables: for each token W rows, by its last 2, 3, ..., N tokens.

    Two hashes are equal if all their numbers are.

    Parameters
    ----------
    multipliers : sequence of N integers, N from 2 to 64
        m_0 .. m_{N-1}, from 0 to 2**63 - 1, or to 2**64 - 1 with ``unsigned``.
    head_sizes : array_like of integers, shape (N - 1, H)
        How many rows each head of n = 2 .. N has: at least 1, usually distinct primes.
    offsets : array_like of integers, shape (N - 1, H), optional
        The first row of each head; by default the heads lie one after the other.
    token_map : array_like of integers, shape (vocabulary,), optional
        The number that stands for each token in the hash, at least 0. Copied.
    vocab_size : int, optional
        The number of tokens, without a ``token_map``; by default as many as ``multipliers`` allow.
    fill : int
        The token that stands for missing ones: before the sequence, or behind a cut.
    cut : int or array_like of integers, optional
        Tokens at which look-backs end: one of them and all older ones are missing.
    cut_own : bool
        Whether such a token is missing for its own n-grams too.
    unsigned : bool
        Whether products wrap in 64 bits; otherwise none may exceed 2**63 - 1.

    Raises
    ------
    TypeError, ValueError
        An argument has an invalid value.

    Notes
    -----
    With x_k the number of the token k before, the row of head h for n is ``(x_0 m_0 ^ ... ^
    x_{n-1} m_{n-1}) % size + offset``, as in Engram (arXiv 2601.07372).

    Examples
    --------
    >>> import fastembed as fe
    >>> hash = fe.NgramHash([3, 5, 9], [[7, 11], [13, 17]], vocab_size=100, fill=0)
    >>> hash([4, 8, 15]).tolist()
    [[5, 8, 30, 43], [5, 8, 30, 43], [5, 12, 25, 47]]
    >>> hash([15], history=[4, 8]).tolist()
    [[5, 12, 25, 47]]
    """

    def __init__(
        self,
        multipliers: Any,
        head_sizes: Any,
        *,
        offsets: Any = None,
        token_map: ArrayLike | None = None,
        vocab_size: int | None = None,
        fill: int,
        cut: Any = None,
        cut_own: bool = False,
        unsigned: bool = False,
    ) -> None:
        wraps = _checks.flag("unsigned", unsigned)
        factors = layouts.integers("multipliers", multipliers, 1, 0, 2**64 - 1 if wraps else _INT64_MAX).tolist()
        if not 2 <= len(factors) <= 64:
            raise ValueError(f"multipliers must be 2 to 64 numbers, got {len(factors)}")
        self._heads, self._shape, self._n_rows = layouts.heads(head_sizes, offsets, len(factors))
        self._set_tokens(token_map, vocab_size, factors, wraps)
        self._multipliers = np.array(factors, np.uint64)
        self._fill = layouts.token("fill", fill, self._n_tokens)
        cuts = [] if cut is None else layouts.integers("cut", cut, None, 0, self._n_tokens - 1).reshape(-1).tolist()
        self._cut, self._cut_own = np.array(cuts, np.int64), _checks.flag("cut_own", cut_own)

    def _set_tokens(self, token_map: Any, vocab_size: Any, factors: list[int], wraps: bool) -> None:
        largest, self._token_map = max(1, *factors), None
        limit = _INT64_MAX if wraps else _INT64_MAX // largest
        if token_map is not None:
            if vocab_size is not None:
                raise ValueError("token_map and vocab_size exclude each other, got both")
            self._token_map = layouts.token_map(token_map)
            self._n_tokens, last = len(self._token_map), int(self._token_map.max())
        elif vocab_size is not None:
            self._n_tokens = layouts.positive("vocab_size", vocab_size)
            last = self._n_tokens - 1
        else:
            self._n_tokens, last = min(limit + 1, _INT64_MAX), 0
        if last > limit:
            k = factors.index(largest)
            raise ValueError(
                f"multipliers must be at most {_INT64_MAX // last}, so that no product with the number of a token, at most "
                f"{last}, exceeds 2**63 - 1; got {_checks.shown(largest)} at position {k}"
            )

    # ---- variants ----

    @classmethod
    def engram(
        cls,
        layer: int,
        *,
        layers: Any,
        vocab_sizes: Any,
        n_heads: int,
        pad_id: int,
        token_map: ArrayLike | None = None,
        vocab_size: int | None = None,
        seed: int = 0,
        **options: Any,
    ) -> Self:
        """The hash of one layer of Engram (``engram_demo_v1.py`` of deepseek-ai/Engram).

        Parameters
        ----------
        layer : int
            The number of the layer.
        layers : sequence of int
            The numbers of all layers with a table, in order: no prime is used twice among them.
        vocab_sizes : sequence of N - 1 integers
            For n = 2 .. N: the heads' sizes are the next primes above this number less 1.
        n_heads : int
            H
        pad_id : int
            The token that fills; mapped like any other.
        token_map, vocab_size
            As in `NgramHash`; one of them is needed, as the multipliers depend on it.
        seed : int
        **options
            ``cut`` and ``cut_own`` of `NgramHash`.

        Examples
        --------
        >>> import fastembed as fe
        >>> sizes = {"vocab_sizes": [1000, 1000], "n_heads": 2}
        >>> hash = fe.NgramHash.engram(1, layers=[1, 15], vocab_size=500, pad_id=2, **sizes)
        >>> hash.head_sizes.tolist(), hash.n_rows
        ([[1009, 1013], [1019, 1021]], 4062)
        """
        _checks.known_options("NgramHash.engram", options, ("cut", "cut_own"))
        last = vocab_size if token_map is None else int(layouts.token_map(token_map).max()) + 1
        if last is None:
            raise ValueError("engram requires token_map or vocab_size: its multipliers depend on the number of tokens")
        sizes = layouts.engram_sizes(layer, layers, vocab_sizes, n_heads)
        factors = layouts.engram_multipliers(layer, layouts.positive("vocab_size", last), len(sizes) + 1, seed)
        return cls(factors, sizes, token_map=token_map, vocab_size=vocab_size, fill=pad_id, **options)

    @classmethod
    def ple(
        cls, multipliers: Any, head_sizes: Any, *, eos_token_id: int, offsets: Any = None, vocab_size: int | None = None
    ) -> Self:
        """The hash of Qwen's PLE, with the numbers that come with the checkpoint.

        Products wrap; look-backs end at ``eos_token_id``, which stands for missing tokens too.

        Examples
        --------
        >>> import fastembed as fe
        >>> hash = fe.NgramHash.ple([5, 7, 11], [[13], [17]], eos_token_id=0)
        >>> hash([3, 0, 4]).tolist()
        [[2, 28], [8, 17], [7, 16]]
        """
        ends = layouts.ple_ends(eos_token_id)
        return cls(multipliers, head_sizes, offsets=offsets, vocab_size=vocab_size, **ends)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], layer: int, *, token_map: ArrayLike | None = None) -> Self:
        """The hash of one layer of a model, from its ``config.json``.

        Parameters
        ----------
        config : mapping
            Of DeepSeek-V4.1 (``engram_...``), or of a model with PLE (``ngram_size``, ...); also
            within ``text_config``.
        layer : int
            One of ``engram_layer_ids``, or of ``ple_layer_ids``.
        token_map : array_like, optional
            For DeepSeek-V4.1, as in `NgramHash`.

        Raises
        ------
        KeyError, ValueError
            The config has no such tables, lacks a number, or contradicts itself.

        Examples
        --------
        >>> import fastembed as fe
        >>> config = {"ngram_size": 3, "heads_per_ngram": 8, "ngram_vocab_size_base": 20_000_000}
        >>> config |= {"vocab_size": 248320, "seed": 1234, "eos_token_id": 248044}
        >>> hash = fe.NgramHash.from_config(config | {"ple_layer_ids": [2]}, 2)
        >>> hash.n_rows, hash.multipliers.tolist()
        (320001446, [23703573157769, 20109073645365, 8052911324071])
        """
        return cls(**layouts.of_config(config, layer, token_map))

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, Any], layer: int | None = None, *, cut: Any = None) -> Self:
        """The hash of one layer of a model, from the metadata of its GGUF file.

        Parameters
        ----------
        metadata : mapping of key to value
            Numbers, and arrays of numbers, as a reader of such files returns them: the keys
            ``<architecture>.engram.*`` or ``<architecture>.ple.*``.
        layer : int, optional
            One of the layers with a table; not needed if there is one only.
        cut : int or array_like of integers, optional
            For ``engram``: the tokens of images, which the metadata do not name.

        Raises
        ------
        KeyError, ValueError
            There are no such tables, or a number is missing.

        Examples
        --------
        >>> import fastembed as fe
        >>> metadata = {"general.architecture": "x", "x.ple.layers": [1], "x.ple.eos_token_id": 0}
        >>> metadata |= {"x.ple.head_vocab_sizes": [13, 17], "x.ple.head_offsets": [0, 13]}
        >>> metadata |= {"x.ple.layer_multipliers": [5, 7, 11]}
        >>> fe.NgramHash.from_gguf(metadata)([3, 0, 4]).tolist()
        [[2, 28], [8, 17], [7, 16]]
        """
        return cls(**layouts.of_gguf(metadata, layer, cut))

    def __call__(
        self,
        ids: ArrayLike,
        *,
        history: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        cu_seqlens: ArrayLike | None = None,
    ) -> Array:
        """The rows of each token.

        Parameters
        ----------
        ids : array_like of integers, shape (..., T)
            Sequences of tokens along the last axis, of any of the eight integer types.
        history : array_like of integers, shape (..., N - 1), optional
            The N - 1 tokens before each sequence, the last one last, as `next_history` returns
            them; where there are fewer, ``fill`` in front. With it the rows of a text that comes in
            parts are those of the whole text.
        lengths : array_like of integers, shape (sequences,), optional
            Sequences lie end to end along the one axis of ``ids``, and these are their lengths;
            ``history`` then has shape (sequences, N - 1).
        cu_seqlens : array_like of integers, shape (sequences + 1,), optional
            The same, by the places where sequences begin and the last one ends.

        Returns
        -------
        ndarray of int64, shape (..., T, W)
            In the order n = 2, head 0 .. H - 1, n = 3, ...

        Raises
        ------
        IndexError
            A token is out of range: the first one in C order is named, of the history first.
        TypeError, ValueError
            An argument has an invalid dtype or shape.
        """
        sequences = sequences_of(ids, self._n_tokens, lengths, cu_seqlens)
        return self.rows_of(sequences, sequences.history(history, self.n, self._n_tokens))

    def mix(
        self,
        ids: ArrayLike,
        *,
        history: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        cu_seqlens: ArrayLike | None = None,
    ) -> Array:
        """The 64 bits of each n-gram of which heads take the remainder, uint64 (..., T, N - 1).

        Parameters as in a call.
        """
        sequences = sequences_of(ids, self._n_tokens, lengths, cu_seqlens)
        return self._mixes_of(sequences, sequences.history(history, self.n, self._n_tokens))

    def _mixes_of(self, sequences: Sequences, history: Array | None) -> Array:
        mixes = kernels.ngram_mixes(sequences.tokens, sequences.starts, history, self.arguments)
        return mixes.reshape(*sequences.tokens.shape, self.n - 1)

    def __dir__(self) -> list[str]:
        return without_internals(super().__dir__(), ("arguments", "rows_of"))

    def rows_of(self, sequences: Sequences, history: Array | None) -> Array:
        """For layers: the rows of checked sequences."""
        return kernels.ngram_rows(self._mixes_of(sequences, history), self._heads)

    def next_history(
        self,
        ids: ArrayLike,
        *,
        history: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        cu_seqlens: ArrayLike | None = None,
    ) -> Array:
        """The last N - 1 tokens of each sequence, the ``history`` of the tokens that follow.

        Parameters
        ----------
        ids, history, lengths, cu_seqlens
            As in the call with these tokens.

        Returns
        -------
        ndarray of int64, shape (..., N - 1), or (sequences, N - 1)

        Examples
        --------
        >>> import fastembed as fe
        >>> hash = fe.NgramHash([3, 5, 9], [[7, 11], [13, 17]], vocab_size=100, fill=0)
        >>> hash.next_history([[4, 8, 15], [16, 23, 42]]).tolist()
        [[8, 15], [23, 42]]
        >>> hash.next_history([4, 8, 15], lengths=[1, 2], history=[[1, 2], [3, 3]]).tolist()
        [[2, 4], [8, 15]]
        """
        sequences = sequences_of(ids, self._n_tokens, lengths, cu_seqlens)
        return sequences.next_history(sequences.history(history, self.n, self._n_tokens), self.n, self._fill)
