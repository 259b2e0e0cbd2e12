# Bags, which are some rows of a table that become one; and what is computed of single rows: hashes,
# norms, dropout, products, sums, costs, bounds.
cimport numpy as cnp
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport int8_t, int16_t, int64_t, uint32_t, uint64_t

from . cimport _c
from ._core cimport (
    arithmetic, bounds_of, empty, fe, need_any_table, need_batch, need_ids, need_numbers, need_pair, need_rows,
    init_table, need_stored_table, need_table, need_written, numpy_type, raise_status, stop_for, width_of,
)
from ._lookups cimport PlainIds, are_plain_bounds, init_plain_ids, is_apart_from_array, plain_result

import numpy as np

cnp.import_array()

cdef dict MODES = {"sum": _c.FE_BAG_SUM, "mean": _c.FE_BAG_MEAN, "sqrtn": _c.FE_BAG_SQRTN, "max": _c.FE_BAG_MAX}
cdef dict METRICS = {"dot": _c.FE_DOT, "cosine": _c.FE_COSINE, "l2": _c.FE_L2}


def embedding_bag(cnp.ndarray table not None, cnp.ndarray ids not None, cnp.ndarray offsets not None, str mode not None,
                  cnp.ndarray factors, int64_t padding_row, cnp.ndarray out not None, str bounds not None,
                  cnp.ndarray winners, object packing=None, bint is_new=False):
    """out[b] = the rows of bag b as one; with `packing`, of a packed table.

    is_new: the caller drops `out` on an error, so that ids are checked as their rows are summed.

    With `winners`, int64 of the shape of `out`, the first item that has each of the maxima in `out`
    is written there, and `out` is only read.
    """
    cdef _c.fe_table c_table
    cdef _c.fe_ids c_ids
    cdef _c.fe_array c_out
    cdef _c.fe_bags bags
    cdef _c.fe_bounds c_bounds = bounds_of(bounds)
    cdef _c.fe_status status
    cdef cnp.npy_intp n_bags = cnp.PyArray_SIZE(offsets) - 1
    cdef int64_t n_ids = cnp.PyArray_SIZE(ids)
    need_any_table(&c_table, table, packing, width_of(out))
    need_ids(&c_ids, ids)
    need_rows(&c_out, out, &c_table, 1, &n_bags)
    bags.offsets, bags.n_bags = need_offsets(offsets, n_ids), n_bags
    bags.factors = <const char *>need_numbers("factors", factors, numpy_type(arithmetic(c_table.dtype)), n_ids)
    bags.mode, bags.padding_row = MODES[mode], padding_row
    cdef int64_t *c_winners = need_winners(winners, out, packing)
    if c_winners != NULL and c_out.dtype != arithmetic(c_table.dtype):
        raise ValueError("winners are of maxima in the dtype of arithmetic")
    cdef _c.fe_stop stop = stop_for(n_ids, &c_table)
    with nogil:
        status = fe.embedding_bag(&c_table, &c_ids, c_bounds, &bags, &c_out, c_winners, is_new, stop)
    if status.code != _c.FE_OK:
        raise_status(status, (("id", ids, c_table.n_rows),), ids)


cdef cnp.ndarray plain_offsets(object offsets, bint has_last, const PlainIds *ids):
    """Where each bag begins, and where the last one ends, if that needs no more checks; else None."""
    cdef PlainIds plain
    cdef int64_t n_ids = ids.c.array.n_items, n_given, b
    cdef cnp.ndarray ends
    cdef int64_t *c_ends
    if offsets is None:
        if ids.n_dims != 2:
            return None
        ends = empty(ids.shape[0] + 1, cnp.NPY_INT64)
        c_ends = <int64_t *>cnp.PyArray_DATA(ends)
        for b in range(ids.shape[0] + 1):
            c_ends[b] = b * ids.shape[1]
        return ends
    if ids.n_dims != 1 or not init_plain_ids(&plain, offsets) or plain.n_dims != 1 or plain.shape[0] == 0:
        return None
    n_given = plain.shape[0]
    ends = empty(n_given + (not has_last), cnp.NPY_INT64)
    c_ends = <int64_t *>cnp.PyArray_DATA(ends)
    if fe.resolve_ids(&plain.c, n_ids + 1, _c.FE_RAISE, c_ends, NULL).code != _c.FE_OK or c_ends[0] != 0:
        return None
    if not has_last:
        c_ends[n_given] = n_ids
    for b in range(1, n_given):
        if c_ends[b] < c_ends[b - 1]:
            return None
    return ends


cdef bint are_plain_weights(object weights, const PlainIds *ids, const _c.fe_table *table) noexcept:
    """A contiguous array of the shape of the ids, of the dtype of arithmetic."""
    cdef int k
    if not cnp.PyArray_CheckExact(weights) or not cnp.PyArray_ISCARRAY_RO(weights) or cnp.PyArray_NDIM(weights) != ids.n_dims:
        return False
    for k in range(ids.n_dims):
        if cnp.PyArray_DIM(weights, k) != ids.shape[k]:
            return False
    return cnp.PyArray_TYPE(weights) == numpy_type(arithmetic(table.dtype))


def fast_bag(table, packing, int64_t n_cols, cnp.dtype dtype, bounds, ids, offsets, weights, mode, padding_idx,
             include_last_offset, out):
    """The result of `embedding_bag` with bounds "raise", or None if its arguments need checks."""
    cdef PlainIds plain
    cdef _c.fe_table c_table
    cdef _c.fe_array c_out
    cdef _c.fe_bags bags
    cdef _c.fe_status status
    if not are_plain_bounds(bounds) or not cnp.PyArray_CheckExact(table) or type(mode) is not str or mode not in MODES:
        return None
    if type(include_last_offset) is not bool:
        return None
    if packing is None and not init_table(&c_table, table):
        return None
    if packing is not None:
        need_any_table(&c_table, table, packing, n_cols)
    if not init_plain_ids(&plain, ids):
        return None
    bags.padding_row, bags.mode, bags.factors = -1, MODES[mode], NULL
    if padding_idx is not None:
        if type(padding_idx) is not int or not -c_table.n_rows <= padding_idx < c_table.n_rows:
            return None
        bags.padding_row = padding_idx % c_table.n_rows
    if weights is not None:
        if bags.mode == _c.FE_BAG_MAX or not are_plain_weights(weights, &plain, &c_table):
            return None
        bags.factors = <const char *>cnp.PyArray_DATA(weights)
    cdef cnp.ndarray ends = plain_offsets(offsets, include_last_offset, &plain)
    if ends is None:
        return None
    cdef cnp.npy_intp n_bags = cnp.PyArray_SIZE(ends) - 1
    bags.offsets, bags.n_bags = <const int64_t *>cnp.PyArray_DATA(ends), n_bags
    plain.n_dims, plain.shape[0], plain.shape[1] = 1, n_bags, c_table.n_cols
    cdef cnp.ndarray result = plain_result(&plain, ids, table, packing, dtype, out)
    if result is None or (weights is not None and not is_apart_from_array(result, weights)):
        return None
    need_rows(&c_out, result, &c_table, 1, &n_bags)
    cdef _c.fe_stop stop = stop_for(plain.c.array.n_items, &c_table)
    cdef bint is_new = out is None
    with nogil:
        status = fe.embedding_bag(&c_table, &plain.c, _c.FE_RAISE, &bags, &c_out, NULL, is_new, stop)
    if status.code == _c.FE_STOPPED:
        raise_status(status, (), None)
    return result if status.code == _c.FE_OK else None


cdef const int64_t *need_offsets(cnp.ndarray array, int64_t n_ids) except NULL:
    """Where each bag begins, and where the last one ends: not decreasing, and within the ids."""
    cdef int64_t n = cnp.PyArray_SIZE(array), b
    cdef const int64_t *offsets = <const int64_t *>need_numbers("offsets", array, cnp.NPY_INT64, n)
    cdef bint fits = n > 0 and offsets[0] >= 0 and offsets[n - 1] <= n_ids
    for b in range(1, n):
        fits = fits and offsets[b] >= offsets[b - 1]
    if not fits:
        raise ValueError("offsets must not decrease, and lie within the ids")
    return offsets


cdef int64_t *need_winners(cnp.ndarray winners, cnp.ndarray out, object packing) except? NULL:
    if winners is None:
        return NULL
    if packing is not None:
        raise ValueError("winners are unsupported for packed tables")
    return <int64_t *>need_written("winners", winners, cnp.NPY_INT64, cnp.PyArray_SIZE(out))


cdef class Features:
    """The tables of the features of a collection, kept in place for as long as this object lives.

    `tables` has (array, number of columns, packing) for each feature in the order of their columns
    in a result; packing is None for a table of floats.
    """
    cdef _c.fe_feature *features
    cdef int64_t n_features, n_cols
    cdef int type  # of the results of all tables
    cdef list buffers

    def __cinit__(self, list tables not None):
        cdef int64_t k
        cdef cnp.ndarray array
        self.n_features, self.buffers = len(tables), [None] * len(tables)
        self.features = <_c.fe_feature *>PyMem_Calloc(<size_t>self.n_features + 1, sizeof(_c.fe_feature))
        if self.features == NULL:
            raise MemoryError(f"no memory for the descriptions of {self.n_features} tables")
        for k in range(self.n_features):
            array, n_cols, packing = tables[k]
            need_any_table(&self.features[k].table, array, packing, n_cols)
            if k == 0:
                self.type = numpy_type(arithmetic(self.features[0].table.dtype))
            if self.features[k].table.n_cols != n_cols or numpy_type(self.features[k].table.dtype) != self.type:
                raise ValueError("the tables of features must have their columns and results of one dtype of arithmetic")
            self.features[k].out_offset = self.n_cols * (8 if self.type == cnp.NPY_FLOAT64 else 4)
            self.n_cols += n_cols
            scales = None if packing is None else packing.scales
            self.buffers[k] = memoryview(array), None if scales is None else memoryview(scales)

    def is_apart(self, out):
        """Whether an array is contiguous and lies before or after each table.

        To look at each table in Python takes a microsecond a table, which only others need.
        """
        cdef int64_t k, span, row_size
        cdef const _c.fe_table *table
        cdef const char *begin
        cdef const char *end
        if not isinstance(out, cnp.ndarray) or not cnp.PyArray_IS_C_CONTIGUOUS(out):
            return False
        begin = <const char *>cnp.PyArray_DATA(out)
        end = begin + cnp.PyArray_NBYTES(out)
        for k in range(self.n_features):
            table = &self.features[k].table
            row_size = max(table.row_stride, -table.row_stride, table.n_cols * 8)  # at least
            span = (table.n_rows - 1) * table.row_stride
            if begin < table.data + max(span, 0) + row_size and table.data + min(span, 0) < end:
                return False
        return True

    def __dealloc__(self):
        PyMem_Free(self.features)


def embedding_bags(Features tables not None, cnp.ndarray ids not None, cnp.ndarray offsets not None, str mode not None,
                   cnp.ndarray factors, cnp.ndarray out not None, str bounds not None):
    """The bags of all features, side by side in the rows of `out`; False if an id is out of range.

    `ids` are those of one feature after the other, and `offsets` where each of their bags begins.
    """
    cdef _c.fe_ids c_ids
    cdef _c.fe_array rows
    cdef _c.fe_bags bags
    cdef _c.fe_table like
    cdef _c.fe_bounds c_bounds = bounds_of(bounds)
    cdef _c.fe_status status
    cdef cnp.npy_intp n_rows = cnp.PyArray_DIM(out, 0) if cnp.PyArray_NDIM(out) == 2 else -1
    cdef int64_t n_ids = cnp.PyArray_SIZE(ids)
    bags.n_bags, bags.mode, bags.padding_row = cnp.PyArray_SIZE(offsets) - 1, MODES[mode], -1
    if tables.n_features == 0 or n_rows < 0 or bags.n_bags != n_rows * tables.n_features or bags.mode == _c.FE_BAG_MAX:
        raise ValueError("shape of the result or mode does not match the features")
    need_ids(&c_ids, ids)
    like.n_cols, like.dtype = tables.n_cols, tables.features[0].table.dtype
    need_rows(&rows, out, &like, 1, &n_rows)
    bags.offsets = need_offsets(offsets, n_ids)
    bags.factors = <const char *>need_numbers("factors", factors, tables.type, n_ids)
    cdef char *c_out = <char *>cnp.PyArray_DATA(out)
    cdef int64_t stride = cnp.PyArray_STRIDE(out, 0)
    cdef _c.fe_stop stop = stop_for(n_ids, &tables.features[0].table)
    with nogil:
        status = fe.embedding_bags(tables.features, tables.n_features, &c_ids, c_bounds, &bags, c_out, stride, stop)
    if status.code == _c.FE_STOPPED:
        raise_status(status, (), None)
    return status.code == _c.FE_OK


cdef const uint64_t *need_keys(cnp.ndarray ids) except? NULL:
    if not cnp.PyTypeNum_ISINTEGER(cnp.PyArray_TYPE(ids)) or cnp.PyArray_ITEMSIZE(ids) != 8 or not cnp.PyArray_ISCARRAY_RO(ids):
        raise ValueError("ids must be contiguous integers of 64 bits")
    return <const uint64_t *>cnp.PyArray_DATA(ids)


def hash_parts(cnp.ndarray ids not None, uint32_t seed):
    """The four parts of the hash of each id of 64 bits, uint32 of shape S + (4,)."""
    cdef const uint64_t *c_ids = need_keys(ids)
    cdef int64_t n_ids = cnp.PyArray_SIZE(ids)
    cdef cnp.ndarray parts = np.empty((*np.shape(ids), 4), np.uint32)
    cdef uint32_t *c_parts = <uint32_t *>cnp.PyArray_DATA(parts)
    with nogil:
        fe.hash_parts(c_ids, n_ids, seed, c_parts)
    return parts


def hash_rows(cnp.ndarray ids not None, uint32_t seed, uint32_t n_rows):
    """The four rows of a table of n_rows that each id of 64 bits means, int64 of shape S + (4,)."""
    cdef const uint64_t *c_ids = need_keys(ids)
    cdef int64_t n_ids = cnp.PyArray_SIZE(ids)
    if n_rows == 0:
        raise ValueError("a table of at least 1 row is needed")
    cdef cnp.ndarray rows = np.empty((*np.shape(ids), 4), np.int64)
    cdef int64_t *c_rows = <int64_t *>cnp.PyArray_DATA(rows)
    with nogil:
        fe.hash_rows(c_ids, n_ids, seed, n_rows, c_rows)
    return rows


def norm_rows(cnp.ndarray rows not None, cnp.ndarray grads, bint is_layer, double eps):
    """Normalise each row in place.

    With `grads`, gradients of what the rows become, these become the gradients of what they were.
    """
    cdef _c.fe_table c_rows, c_grads
    cdef const _c.fe_table *grads_or_null = NULL
    need_table(&c_rows, rows)
    if grads is not None:
        need_table(&c_grads, grads)
        need_pair(&c_rows, &c_grads)
        if c_rows.n_rows != c_grads.n_rows:
            raise ValueError("shape of the gradients does not match the rows")
        grads_or_null = &c_grads
    with nogil:
        fe.norm_rows(&c_rows, grads_or_null, is_layer, eps)


def dropout(cnp.ndarray rows not None, double p, uint64_t seed, uint64_t call):
    """Make elements 0 with probability p and all others 1 / (1 - p) times themselves, in place."""
    cdef _c.fe_table c_rows
    need_table(&c_rows, rows)
    with nogil:
        fe.dropout(&c_rows, p, seed, call)


def dots(cnp.ndarray table not None, cnp.ndarray rows not None, cnp.ndarray places not None, cnp.ndarray grads not None):
    """The product of each row (-1: 0) with its gradient, grads[places[i]]; summed in 16 parts."""
    cdef _c.fe_table c_table
    cdef _c.fe_batch batch
    cdef _c.fe_array c_grads
    cdef int64_t i
    need_stored_table(&c_table, table)
    need_batch(&batch, &c_grads, &c_table, rows, places, None, False, grads)
    for i in range(batch.n_items):
        if batch.rows[i] < -1 or batch.rows[i] >= c_table.n_rows:
            raise ValueError("a row outside the table")
    cdef cnp.ndarray products = empty(batch.n_items, numpy_type(arithmetic(c_table.dtype)))
    cdef char *c_products = <char *>cnp.PyArray_DATA(products)
    with nogil:
        fe.dots(&c_table, &batch, c_products)
    return products


def costs(cnp.ndarray rows not None, cnp.ndarray queries not None, str metric not None, double smallest, double largest):
    """Costs, shape (queries, rows), and squares of rows, NaN for those that products cannot rank."""
    cdef _c.fe_table c_rows, c_queries
    cdef _c.fe_metric c_metric
    c_metric.kind, c_metric.smallest, c_metric.largest = METRICS[metric], smallest, largest
    need_table(&c_rows, rows)
    need_table(&c_queries, queries)
    need_pair(&c_rows, &c_queries)
    cdef cnp.ndarray result = np.empty((c_queries.n_rows, c_rows.n_rows), rows.dtype)
    cdef cnp.ndarray squares = empty(c_rows.n_rows, numpy_type(c_rows.dtype))
    cdef char *c_result = <char *>cnp.PyArray_DATA(result)
    cdef char *c_squares = <char *>cnp.PyArray_DATA(squares)
    with nogil:
        fe.costs(&c_rows, &c_queries, &c_metric, c_result, c_squares)
    return result, squares


def sum_powers(cnp.ndarray rows not None, double p):
    """The sum of |x|^p over each row, in float64 and in 16 parts; for p = inf the maximum."""
    cdef _c.fe_table table
    need_table(&table, rows)
    cdef cnp.ndarray sums = empty(table.n_rows, cnp.NPY_FLOAT64)
    cdef double *c_sums = <double *>cnp.PyArray_DATA(sums)
    with nogil:
        fe.sum_powers(&table, p, c_sums)
    return sums


def below(cnp.ndarray rows not None, tuple lines, cnp.ndarray limits not None):
    """The flat indices of the elements of a matrix that are not at or above the limit of their row.

    lines: factors and offsets of the columns, by which elements become what is compared; or None.
    """
    cdef _c.fe_table table
    cdef _c.fe_lines c_lines
    factors, offsets = (None, None) if lines is None else lines
    need_table(&table, rows)
    cdef int dtype = numpy_type(table.dtype)
    c_lines.factors = <const char *>need_numbers("factors", factors, dtype, table.n_cols)
    c_lines.offsets = <const char *>need_numbers("offsets", offsets, dtype, table.n_cols)
    cdef const char *c_limits = <const char *>need_numbers("limits", limits, dtype, table.n_rows)
    cdef cnp.ndarray found = empty(table.n_rows * table.n_cols, cnp.NPY_INT64)
    cdef int64_t *c_found = <int64_t *>cnp.PyArray_DATA(found)
    cdef int64_t n_found
    with nogil:
        n_found = fe.below(&table, NULL if lines is None else &c_lines, c_limits, c_found)
    return found[:n_found].copy()


def code_bounds(cnp.ndarray codes not None, cnp.ndarray terms not None, cnp.ndarray numbers not None, factors):
    """The lower and upper bound of the cost of each row, float32 (2, rows).

    `terms` has the scales, errors, lengths and offsets of the rows; `factors` are the scale of the
    query's `numbers`, and those of errors, lengths and offsets.
    """
    cdef _c.fe_codes c_codes
    cdef _c.fe_code_query query
    cdef int64_t n_rows = codes.shape[0], row_size = codes.shape[1]
    c_codes.n_rows, c_codes.row_size = n_rows, row_size
    c_codes.codes = <const int8_t *>need_numbers("codes", codes, cnp.NPY_INT8, n_rows * row_size)
    c_codes.scales = <const float *>need_numbers("terms", terms, cnp.NPY_FLOAT32, 4 * n_rows)
    c_codes.errors = c_codes.scales + n_rows
    c_codes.lengths = c_codes.errors + n_rows
    c_codes.offsets = c_codes.lengths + n_rows
    query.numbers = <const int16_t *>need_numbers("numbers", numbers, cnp.NPY_INT16, row_size)
    if row_size % 32:
        raise ValueError("the codes of a row must fill whole vectors")
    query.scale, query.of_errors, query.of_lengths, query.of_offsets = factors
    cdef cnp.ndarray bounds = np.empty((2, n_rows), np.float32)
    cdef float *lower = <float *>cnp.PyArray_DATA(bounds)
    with nogil:
        fe.code_bounds(&c_codes, &query, lower, lower + n_rows)
    return bounds
