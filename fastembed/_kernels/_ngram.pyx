# N-grams: tokens to mixes, mixes to rows, and rows looked up as they are computed.
cimport numpy as cnp
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint64_t

from . cimport _c
from ._core cimport fe, need_any_table, need_ids, need_numbers, need_results, raise_status, stop_for, width_of
from ._lookups cimport FEW_IDS, PlainIds, init_plain_ids, is_apart_from_array, plain_result

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


cdef int need_tokens(_c.fe_ngram_tokens *c_tokens, _c.fe_ids *ids, cnp.ndarray tokens, cnp.ndarray starts) except -1:
    need_ids(ids, tokens)
    c_tokens.tokens, c_tokens.n_sequences = ids, cnp.PyArray_SIZE(starts) - 1
    c_tokens.starts = need_starts(starts, cnp.PyArray_SIZE(tokens))
    return 0


cdef int need_hash(_c.fe_ngram_hash *hash, tuple numbers) except -1:
    """Of a tuple (multipliers, token_map or None, n_tokens, fill, cuts, cuts_itself)."""
    cdef cnp.ndarray multipliers = numbers[0], token_map = numbers[1], cuts = numbers[4]
    hash.n_tokens, hash.fill, hash.cuts_itself = numbers[2], numbers[3], numbers[5]
    hash.n = cnp.PyArray_SIZE(multipliers)
    if not 2 <= hash.n <= 64:
        raise ValueError("an n-gram has 2 to 64 tokens")
    hash.multipliers = <const uint64_t *>need_numbers("multipliers", multipliers, cnp.NPY_UINT64, hash.n)
    hash.token_map = <const int64_t *>need_numbers("token_map", token_map, cnp.NPY_INT64, hash.n_tokens)
    hash.n_cuts = cnp.PyArray_SIZE(cuts)
    hash.cuts = <const int64_t *>need_numbers("cuts", cuts, cnp.NPY_INT64, hash.n_cuts)
    return 0


cdef const int64_t *need_history(cnp.ndarray history, const _c.fe_ngram_hash *hash, int64_t n_sequences) except? NULL:
    """n - 1 tokens for each sequence, or NULL for None."""
    cdef int64_t n_history = n_sequences * (hash.n - 1), i
    cdef const int64_t *tokens = <const int64_t *>need_numbers("history", history, cnp.NPY_INT64, n_history)
    for i in range(n_history if tokens != NULL else 0):
        if not 0 <= tokens[i] < hash.n_tokens:
            raise ValueError("a token of the history outside the vocabulary")
    return tokens


cdef int raise_token(_c.fe_status status, cnp.ndarray tokens, int64_t n_tokens) except -1:
    if status.code == _c.FE_STOPPED:
        return -1  # the signal handler's exception is set
    cdef object value = status.id
    if tokens.dtype.kind == "u":
        value = <uint64_t>status.id
    position = tuple(np.array(np.unravel_index(status.index, np.shape(tokens))).tolist())
    raise IndexError(f"token id {value} at position {position} is out of range for a vocabulary of {n_tokens} tokens")


def ngram_mixes(cnp.ndarray tokens not None, cnp.ndarray starts not None, cnp.ndarray history, tuple hash not None):
    """The mixes of each token, uint64 of shape (tokens, n - 1); `history` are n - 1 tokens for each sequence."""
    cdef _c.fe_ngram_hash c_hash
    cdef _c.fe_ngram_tokens c_tokens
    cdef _c.fe_ids ids
    cdef _c.fe_status status
    need_hash(&c_hash, hash)
    need_tokens(&c_tokens, &ids, tokens, starts)
    cdef const int64_t *c_history = need_history(history, &c_hash, c_tokens.n_sequences)
    cdef cnp.ndarray mixes = np.empty((cnp.PyArray_SIZE(tokens), c_hash.n - 1), np.uint64)
    cdef uint64_t *c_mixes = <uint64_t *>cnp.PyArray_DATA(mixes)
    with nogil:
        status = fe.ngram_mix(&c_hash, &c_tokens, c_history, c_mixes, NULL)
    if status.code != _c.FE_OK:
        raise_token(status, tokens, c_hash.n_tokens)
    return mixes


cdef const _c.fe_ngram_head *need_heads(cnp.ndarray heads, int64_t n_mixes) except NULL:
    """Size, reciprocal and offset of each head, of as many heads for each mix."""
    cdef int64_t n_heads = cnp.PyArray_SIZE(heads) // 3
    if n_mixes == 0 or n_heads == 0 or n_heads % n_mixes != 0:
        raise ValueError("as many heads for each mix are needed")
    return <const _c.fe_ngram_head *>need_numbers("heads", heads, cnp.NPY_UINT64, n_heads * 3)


def ngram_rows(cnp.ndarray mixes not None, cnp.ndarray heads not None):
    """The row of each head for each token, int64 of shape (..., heads); mixes lie along the last axis."""
    cdef _c.fe_ids ids
    cdef _c.fe_ngram_rows ngrams
    cdef _c.fe_status status
    cdef int64_t n_mixes = width_of(mixes), n_heads = cnp.PyArray_SIZE(heads) // 3
    ngrams.heads, ngrams.n_heads, ngrams.n_mixes, ngrams.first_token = need_heads(heads, max(n_mixes, 0)), n_heads, n_mixes, 0
    ngrams.mixes = <const uint64_t *>need_numbers("mixes", mixes, cnp.NPY_UINT64, cnp.PyArray_SIZE(mixes))
    ids.type, ids.swapped, ids.ngrams = _c.FE_NGRAM, False, &ngrams
    ids.array.n_items = cnp.PyArray_SIZE(mixes) // n_mixes * n_heads
    cdef cnp.ndarray rows = np.empty((*np.shape(mixes)[:cnp.PyArray_NDIM(mixes) - 1], n_heads), np.int64)
    cdef int64_t *c_rows = <int64_t *>cnp.PyArray_DATA(rows)
    with nogil:
        status = fe.resolve_ids(&ids, INT64_MAX, _c.FE_RAISE, c_rows, NULL)
    if status.code != _c.FE_OK:
        raise_status(status, (("row", None, INT64_MAX),), rows)
    return rows


cdef int need_layer_heads(_c.fe_ngram_layer *layer, tuple hash, cnp.ndarray heads) except -1:
    need_hash(&layer.hash, hash)
    layer.heads, layer.n_heads = need_heads(heads, layer.hash.n - 1), cnp.PyArray_SIZE(heads) // 3
    return 0


cdef int need_layer_table(_c.fe_ngram_layer *layer, cnp.ndarray table, packing, cnp.ndarray out, int64_t n_tokens) except -1:
    """A table that has all rows of the heads, and an array for its rows, (..., heads, columns)."""
    need_any_table(&layer.table, table, packing, width_of(out))
    cdef int n_dims = cnp.PyArray_NDIM(out) - 1
    need_results(&layer.out, out, &layer.table, packing, n_dims, cnp.PyArray_DIMS(out))
    if (n_dims < 1 or cnp.PyArray_DIM(out, n_dims - 1) != layer.n_heads
            or cnp.PyArray_SIZE(out) != n_tokens * layer.n_heads * layer.table.n_cols):
        raise ValueError("shape of the result does not match the tokens and the heads")
    cdef int64_t k
    cdef uint64_t n_rows = layer.table.n_rows
    for k in range(layer.n_heads):
        if layer.heads[k].offset > n_rows or layer.heads[k].size > n_rows - layer.heads[k].offset:
            raise ValueError("a table has fewer rows than its heads select")
    return 0


def ngram_gather(list layers not None, cnp.ndarray tokens not None, cnp.ndarray starts not None):
    """The rows of all tokens in the tables of some layers, of floats or packed.

    A layer is (the hash, as `ngram_mixes` takes it, heads, history, table, packing, out);
    out[..., h, :] becomes the row of head h. Nothing is written if a token is out of range.
    """
    cdef _c.fe_ngram_tokens c_tokens
    cdef _c.fe_ids ids
    cdef _c.fe_status status
    cdef _c.fe_stop stop = NULL
    cdef int32_t n_layers = <int32_t>len(layers), k
    cdef int64_t n_tokens = cnp.PyArray_SIZE(tokens)
    need_tokens(&c_tokens, &ids, tokens, starts)
    cdef _c.fe_ngram_layer *c_layers = <_c.fe_ngram_layer *>PyMem_Calloc(<size_t>n_layers + 1, sizeof(_c.fe_ngram_layer))
    if c_layers == NULL:
        raise MemoryError(f"no memory for the descriptions of {n_layers} tables")
    try:
        for k in range(n_layers):
            hash, heads, history, table, packing, out = layers[k]
            need_layer_heads(&c_layers[k], hash, heads)
            c_layers[k].history = need_history(history, &c_layers[k].hash, c_tokens.n_sequences)
            need_layer_table(&c_layers[k], table, packing, out, n_tokens)
        if n_layers > 0:
            stop = stop_for(n_tokens * n_layers * c_layers[0].n_heads, &c_layers[0].table)
        with nogil:
            status = fe.ngram_gather(c_layers, n_layers, &c_tokens, stop)
        if status.code != _c.FE_OK:
            raise_token(status, tokens, c_layers[status.operand].hash.n_tokens)
    finally:
        PyMem_Free(c_layers)


cdef bint copy_history(int64_t *copy, object history, const PlainIds *plain, const _c.fe_ngram_hash *hash) noexcept:
    """The tokens before each sequence, if they need no more checks; another thread may change the array meanwhile."""
    cdef int k, last = plain.n_dims - 1
    cdef int64_t i
    if not cnp.PyArray_CheckExact(history) or cnp.PyArray_NDIM(history) != plain.n_dims or cnp.PyArray_SIZE(history) > FEW_IDS:
        return False
    if cnp.PyArray_TYPE(history) != cnp.NPY_INT64 or not cnp.PyArray_ISCARRAY_RO(history):
        return False
    for k in range(plain.n_dims):
        if cnp.PyArray_DIM(history, k) != (plain.shape[k] if k < last else hash.n - 1):
            return False
    for i in range(cnp.PyArray_SIZE(history)):
        copy[i] = (<const int64_t *>cnp.PyArray_DATA(history))[i]
        if not 0 <= copy[i] < hash.n_tokens:
            return False
    return True


def fast_ngram_gather(tuple hash not None, cnp.ndarray heads not None, cnp.ndarray table not None, packing, int64_t n_cols,
                      cnp.dtype dtype not None, ids, history, out):
    """The rows of plain tokens in one table side by side, or None if the arguments need checks."""
    cdef PlainIds plain
    cdef _c.fe_ngram_layer layer
    cdef _c.fe_ngram_tokens tokens
    cdef _c.fe_status status
    cdef int64_t before[FEW_IDS]
    cdef int64_t starts[FEW_IDS + 1]
    cdef int64_t n_sequences = 1, k
    if not init_plain_ids(&plain, ids) or plain.n_dims == 0:
        return None
    cdef int64_t n_tokens = plain.c.array.n_items, length = plain.shape[plain.n_dims - 1]
    for k in range(plain.n_dims - 1):
        n_sequences *= plain.shape[k]
    if n_sequences > FEW_IDS:
        return None
    for k in range(n_sequences + 1):
        starts[k] = k * length
    need_layer_heads(&layer, hash, heads)
    layer.history = NULL if history is None else before
    if history is not None and not copy_history(before, history, &plain, &layer.hash):
        return None
    plain.shape[plain.n_dims] = layer.n_heads * n_cols
    cdef cnp.ndarray result = plain_result(&plain, ids, table, packing, dtype, out)
    if result is None or (history is not None and not is_apart_from_array(result, history)):
        return None
    need_layer_table(&layer, table, packing, result.reshape((n_tokens, layer.n_heads, n_cols)), n_tokens)
    tokens.tokens, tokens.starts, tokens.n_sequences = &plain.c, starts, n_sequences
    cdef _c.fe_stop stop = stop_for(n_tokens * layer.n_heads, &layer.table)
    with nogil:
        status = fe.ngram_gather(&layer, 1, &tokens, stop)
    if status.code == _c.FE_STOPPED:
        return raise_token(status, None, 0)
    return result if status.code == _c.FE_OK else None
