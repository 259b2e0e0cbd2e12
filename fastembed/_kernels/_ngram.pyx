# N-grams: tokens to mixes, mixes to rows, and rows looked up as they are computed.
cimport numpy as cnp
from libc.stdint cimport INT64_MAX, int64_t, uint64_t

from . cimport _c
from ._core cimport fe, need_ids, need_numbers, need_rows_like, need_stored_table, raise_status, stop_for

import numpy as np

cnp.import_array()


cdef const int64_t *need_starts(cnp.ndarray array, int64_t n_tokens) except NULL:
    """Where each sequence begins, and where the last one ends: not decreasing, from 0 to the number of tokens."""
    cdef int64_t n = cnp.PyArray_SIZE(array), s
    cdef const int64_t *starts = <const int64_t *>need_numbers("starts", array, cnp.NPY_INT64, n)
    cdef bint fits = n > 0 and starts[0] == 0 and starts[n - 1] == n_tokens
    for s in range(1, n):
        fits = fits and starts[s] >= starts[s - 1]
    if not fits:
        raise ValueError("starts must not decrease, from 0 to the number of tokens")
    return starts


cdef int need_hash(_c.fe_ngram_hash *hash, cnp.ndarray multipliers, cnp.ndarray token_map, int64_t n_tokens, int64_t fill,
                   cnp.ndarray cuts, bint cuts_itself) except -1:
    hash.n = cnp.PyArray_SIZE(multipliers)
    if not 2 <= hash.n <= 64:
        raise ValueError("an n-gram has 2 to 64 tokens")
    hash.multipliers = <const uint64_t *>need_numbers("multipliers", multipliers, cnp.NPY_UINT64, hash.n)
    hash.token_map = <const int64_t *>need_numbers("token_map", token_map, cnp.NPY_INT64, n_tokens)
    hash.n_cuts = cnp.PyArray_SIZE(cuts)
    hash.cuts = <const int64_t *>need_numbers("cuts", cuts, cnp.NPY_INT64, hash.n_cuts)
    hash.n_tokens, hash.fill, hash.cuts_itself = n_tokens, fill, cuts_itself
    return 0


def ngram_mixes(cnp.ndarray tokens not None, cnp.ndarray starts not None, cnp.ndarray history, cnp.ndarray multipliers not None,
                cnp.ndarray token_map, int64_t n_tokens, int64_t fill, cnp.ndarray cuts not None, bint cuts_itself):
    """The mixes of each token, uint64 of shape (tokens, n - 1); `history` are n - 1 tokens for each sequence."""
    cdef _c.fe_ngram_hash hash
    cdef _c.fe_ids c_tokens
    cdef _c.fe_status status
    cdef int64_t n_ids = cnp.PyArray_SIZE(tokens), n_sequences = cnp.PyArray_SIZE(starts) - 1, i
    need_hash(&hash, multipliers, token_map, n_tokens, fill, cuts, cuts_itself)
    need_ids(&c_tokens, tokens)
    cdef const int64_t *c_starts = need_starts(starts, n_ids)
    cdef int64_t n_history = n_sequences * (hash.n - 1)
    cdef const int64_t *c_history = <const int64_t *>need_numbers("history", history, cnp.NPY_INT64, n_history)
    for i in range(n_history if c_history != NULL else 0):
        if not 0 <= c_history[i] < n_tokens:
            raise ValueError("a token of the history outside the vocabulary")
    cdef cnp.ndarray mixes = np.empty((n_ids, hash.n - 1), np.uint64)
    cdef uint64_t *c_mixes = <uint64_t *>cnp.PyArray_DATA(mixes)
    with nogil:
        status = fe.ngram_mix(&hash, &c_tokens, c_starts, n_sequences, c_history, c_mixes, NULL)
    cdef object value = status.id
    if status.code != _c.FE_OK:
        if tokens.dtype.kind == "u":
            value = <uint64_t>status.id
        position = tuple(int(k) for k in np.unravel_index(status.index, np.shape(tokens)))
        raise IndexError(f"token id {value} at position {position} is out of range for a vocabulary of {n_tokens} tokens")
    return mixes


cdef int need_ngrams(_c.fe_ids *ids, _c.fe_ngram_rows *ngrams, cnp.ndarray mixes, cnp.ndarray heads,
                     cnp.npy_intp *shape) except -1:
    """Rows of n-grams as ids: mixes along the last axis, and size, reciprocal and offset of each head.

    `shape`, of 64 axes, becomes the shape of the rows.
    """
    cdef int last = cnp.PyArray_NDIM(mixes) - 1, k
    cdef int64_t n_mixes = cnp.PyArray_DIM(mixes, last) if last >= 0 else 0, n_heads = cnp.PyArray_SIZE(heads) // 3
    if n_mixes == 0 or n_heads == 0 or n_heads % n_mixes != 0:
        raise ValueError("as many heads for each mix are needed")
    ngrams.mixes = <const uint64_t *>need_numbers("mixes", mixes, cnp.NPY_UINT64, cnp.PyArray_SIZE(mixes))
    ngrams.heads = <const _c.fe_ngram_head *>need_numbers("heads", heads, cnp.NPY_UINT64, n_heads * 3)
    ngrams.n_mixes, ngrams.n_heads = n_mixes, n_heads
    ids.type, ids.swapped, ids.ngrams = _c.FE_NGRAM, False, ngrams
    ids.array.n_items = cnp.PyArray_SIZE(mixes) // n_mixes * n_heads
    for k in range(last):
        shape[k] = cnp.PyArray_DIM(mixes, k)
    shape[last] = n_heads
    return 0


def ngram_rows(cnp.ndarray mixes not None, cnp.ndarray heads not None):
    """The row of each head for each token, int64 of shape (..., heads)."""
    cdef _c.fe_ids ids
    cdef _c.fe_ngram_rows ngrams
    cdef _c.fe_status status
    cdef cnp.npy_intp shape[64]
    need_ngrams(&ids, &ngrams, mixes, heads, shape)
    cdef cnp.ndarray rows = cnp.PyArray_EMPTY(cnp.PyArray_NDIM(mixes), shape, cnp.NPY_INT64, 0)
    cdef int64_t *c_rows = <int64_t *>cnp.PyArray_DATA(rows)
    with nogil:
        status = fe.resolve_ids(&ids, INT64_MAX, _c.FE_RAISE, c_rows, NULL)
    if status.code != _c.FE_OK:
        raise_status(status, (("row", None, INT64_MAX),), rows)
    return rows


def ngram_gather(cnp.ndarray table not None, cnp.ndarray mixes not None, cnp.ndarray heads not None, cnp.ndarray out not None):
    """out[..., h] = the row of head h, of a table of floats.

    On an error `out` may have been written: the table must have all rows of the heads.
    """
    cdef _c.fe_table c_table
    cdef _c.fe_ids ids
    cdef _c.fe_ngram_rows ngrams
    cdef _c.fe_array c_out
    cdef _c.fe_status status
    cdef cnp.npy_intp shape[64]
    need_stored_table(&c_table, table)
    need_ngrams(&ids, &ngrams, mixes, heads, shape)
    need_rows_like(&c_out, out, &c_table, cnp.PyArray_NDIM(mixes), shape)
    cdef _c.fe_stop stop = stop_for(ids.array.n_items, &c_table)
    with nogil:
        status = fe.gather(&c_table, &ids, _c.FE_RAISE, &c_out, True, stop)
    if status.code != _c.FE_OK:
        raise_status(status, (("row", None, c_table.n_rows),), out[..., 0])
