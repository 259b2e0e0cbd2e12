# Bags, some rows of a table that become one; norms of rows, and dropout.

_MODES = {"sum": _c.FE_BAG_SUM, "mean": _c.FE_BAG_MEAN, "sqrtn": _c.FE_BAG_SQRTN, "max": _c.FE_BAG_MAX}


def embedding_bag(cnp.ndarray table not None, cnp.ndarray ids not None, const int64_t[::1] offsets not None, str mode not None,
                  cnp.ndarray factors, int64_t padding_row, cnp.ndarray out not None, str bounds not None, cnp.ndarray winners, int bits=0):
    """out[b] = the rows of bag b as one; with `winners`, an array of int64, the first item instead that each maximum in `out` is from.
    With `bits` the table is a packed one."""
    cdef _c.fe_table c_table
    cdef _c.fe_ids c_ids
    cdef _c.fe_array c_out
    cdef _c.fe_bags bags
    cdef _c.fe_bounds c_bounds = _BOUNDS[bounds]
    cdef _c.fe_status status
    cdef int64_t *c_winners = NULL
    cdef cnp.npy_intp n_bags = offsets.shape[0] - 1
    cdef int64_t n_ids = cnp.PyArray_SIZE(ids)
    need_any_table(&c_table, table, bits, out)
    need_ids(&c_ids, ids)
    need_offsets(offsets, n_ids)
    need_rows(&c_out, out, &c_table, 1, &n_bags)
    if factors is not None and (cnp.PyArray_TYPE(factors) != numpy_type(&c_table) or cnp.PyArray_SIZE(factors) != n_ids
                                or not cnp.PyArray_ISCARRAY_RO(factors)):
        raise ValueError("ids need as many factors of the table's dtype, side by side")
    if winners is not None:
        if (bits != 0 or cnp.PyArray_TYPE(winners) != cnp.NPY_INT64 or not cnp.PyArray_SAMESHAPE(winners, out)
                or not cnp.PyArray_ISCARRAY(winners)):
            raise ValueError("winners must be a contiguous array of int64 of the shape of out, of a table of floats")
        c_winners = <int64_t *>cnp.PyArray_DATA(winners)
    bags.offsets, bags.n_bags, bags.mode, bags.padding_row = &offsets[0], n_bags, _MODES[mode], padding_row
    bags.factors = <const char *>cnp.PyArray_DATA(factors) if factors is not None else NULL
    cdef _c.fe_stop stop = stop_for(n_ids, &c_table)
    with nogil:
        status = _c.fe_embedding_bag(&c_table, &c_ids, c_bounds, &bags, &c_out, c_winners, stop)
    if status.code != _c.FE_OK:
        raise_status(status, (("id", ids, c_table.n_rows),), ids)


cdef int need_offsets(const int64_t[::1] offsets, int64_t n_ids) except -1:
    """Where each bag begins, and where the last one ends: not decreasing, and within the ids."""
    cdef int64_t n = offsets.shape[0], b
    cdef bint fits = n > 0 and offsets[0] >= 0 and offsets[n - 1] <= n_ids
    for b in range(1, n):
        fits = fits and offsets[b] >= offsets[b - 1]
    if not fits:
        raise ValueError("offsets must not decrease, and lie within the ids")
    return 0


def dots(cnp.ndarray table not None, const int64_t[::1] rows not None, const int32_t[::1] places not None, cnp.ndarray grads not None):
    """The product of each row (-1: 0) with its gradient, grads[places[i]]."""
    cdef _c.fe_table c_table
    cdef _c.fe_batch batch
    cdef _c.fe_array c_grads
    cdef int64_t i
    need_table(&c_table, table)
    need_batch(&batch, &c_grads, &c_table, rows, places, None, False, grads)
    for i in range(rows.shape[0]):
        if rows[i] < -1 or rows[i] >= c_table.n_rows:
            raise ValueError("a row outside the table")
    cdef cnp.ndarray products = empty(rows.shape[0], numpy_type(&c_table))
    cdef char *c_products = <char *>cnp.PyArray_DATA(products)
    with nogil:
        _c.fe_dots(&c_table, &batch, c_products)
    return products


def hash_rows(cnp.ndarray ids not None, uint32_t seed, uint32_t n_rows):
    """The four rows of a table of n_rows that each id of 64 bits means, int64 of shape S + (4,)."""
    cdef int64_t n_ids = cnp.PyArray_SIZE(ids)
    if not cnp.PyTypeNum_ISINTEGER(cnp.PyArray_TYPE(ids)) or cnp.PyArray_ITEMSIZE(ids) != 8 or not cnp.PyArray_ISCARRAY_RO(ids):
        raise ValueError("ids must be contiguous integers of 64 bits")
    if n_rows == 0:
        raise ValueError("a table of at least 1 row is needed")
    cdef cnp.ndarray rows = np.empty((*np.shape(ids), 4), np.int64)
    cdef const uint64_t *c_ids = <const uint64_t *>cnp.PyArray_DATA(ids)
    cdef int64_t *c_rows = <int64_t *>cnp.PyArray_DATA(rows)
    with nogil:
        _c.fe_hash_rows(c_ids, n_ids, seed, n_rows, c_rows)
    return rows


def norm_rows(cnp.ndarray rows not None, cnp.ndarray grads, bint is_layer, double eps):
    """Normalise each row in place; with `grads`, of what the rows become, these become gradients of what they were."""
    cdef _c.fe_table c_rows, c_grads
    need_table(&c_rows, rows)
    if grads is not None:
        need_table(&c_grads, grads)
        need_pair(&c_rows, &c_grads)
        if c_rows.n_rows != c_grads.n_rows:
            raise ValueError("gradients that do not go with the rows")
    cdef const _c.fe_table *of_grads = &c_grads if grads is not None else NULL
    with nogil:
        _c.fe_norm_rows(&c_rows, of_grads, is_layer, eps)


def drop(cnp.ndarray rows not None, double p, uint64_t seed, uint64_t call):
    """Make elements 0 with probability p and all others 1 / (1 - p) times themselves, in place."""
    cdef _c.fe_table c_rows
    need_table(&c_rows, rows)
    with nogil:
        _c.fe_dropout(&c_rows, p, seed, call)
