# The functional look-ups and scatter-adds; large pages, and those of the rows of a mapped file.
cimport numpy as cnp
from libc.stdint cimport int64_t

from . cimport _c
from ._core cimport (
    bounds_of, fe, init_table, need_any_table, need_ids, need_numbers, need_pair, need_positions, need_results, need_rows_like,
    need_stored_table, need_table, raise_status, stop_for, width_of,
)
from ._lookups cimport PlainIds, are_plain_bounds, gather_plain, init_start, init_plain_ids, plain_result

import numpy as np

cnp.import_array()


def resolve_ids(cnp.ndarray ids not None, int64_t n_rows, str bounds not None, str name):
    """The row that each id means, as int64 of the shape of `ids`; -1 for no row."""
    cdef _c.fe_ids c_ids
    cdef _c.fe_bounds c_bounds = bounds_of(bounds)
    cdef cnp.ndarray rows = np.empty(np.shape(ids), np.int64)
    cdef int64_t *c_rows = <int64_t *>cnp.PyArray_DATA(rows)
    cdef _c.fe_status status
    need_ids(&c_ids, ids)
    with nogil:
        status = fe.resolve_ids(&c_ids, n_rows, c_bounds, c_rows, NULL)
    if status.code != _c.FE_OK:
        raise_status(status, ((name, ids, n_rows),), ids)
    return rows


def gather(cnp.ndarray table not None, cnp.ndarray ids not None, cnp.ndarray out not None, str bounds not None,
           object packing=None):
    """out[i] = table[ids[i]]; with `packing`, of a packed table"""
    cdef _c.fe_table c_table
    cdef _c.fe_ids c_ids
    cdef _c.fe_array c_out
    cdef _c.fe_bounds c_bounds = bounds_of(bounds)
    cdef _c.fe_status status
    need_any_table(&c_table, table, packing, width_of(out))
    need_ids(&c_ids, ids)
    need_results(&c_out, out, &c_table, packing, cnp.PyArray_NDIM(ids), cnp.PyArray_DIMS(ids))
    cdef _c.fe_stop stop = stop_for(c_ids.array.n_items, &c_table)
    with nogil:
        status = fe.gather(&c_table, &c_ids, c_bounds, &c_out, False, stop)
    if status.code != _c.FE_OK:
        raise_status(status, (("id", ids, c_table.n_rows),), ids)


def fast_gather(table, ids, out, bounds):
    """The result of `gather` with bounds "raise", or None if its arguments need checks."""
    cdef _c.fe_table c_table
    if not are_plain_bounds(bounds) or not cnp.PyArray_CheckExact(table) or not init_table(&c_table, table):
        return None
    return gather_plain(&c_table, ids, NULL, 0, out)


def fast_gather_add(wte, token_ids, wpe, position_ids, start, out, bounds):
    """The result of `gather_add` with bounds "raise", or None if its arguments need checks."""
    cdef _c.fe_table c_wte, c_wpe
    cdef int64_t first
    if position_ids is not None or not init_start(&first, start) or not are_plain_bounds(bounds):
        return None
    if not cnp.PyArray_CheckExact(wte) or not cnp.PyArray_CheckExact(wpe):
        return None
    if not init_table(&c_wte, wte) or not init_table(&c_wpe, wpe) or c_wte.dtype != c_wpe.dtype or c_wte.n_cols != c_wpe.n_cols:
        return None
    return gather_plain(&c_wte, token_ids, &c_wpe, first, out)


def fast_gather_packed(cnp.ndarray table not None, packing not None, int64_t n_cols, cnp.dtype dtype not None, ids, out, bounds):
    """The result of a look-up in packed rows with bounds "raise", or None if its arguments need checks."""
    cdef PlainIds plain
    cdef _c.fe_table c_table
    cdef _c.fe_array rows
    cdef _c.fe_status status
    if not are_plain_bounds(bounds) or not init_plain_ids(&plain, ids):
        return None
    plain.shape[plain.n_dims] = n_cols
    cdef cnp.ndarray result = plain_result(&plain, ids, table, packing, dtype, out)
    if result is None:
        return None
    need_any_table(&c_table, table, packing, n_cols)
    need_results(&rows, result, &c_table, packing, plain.n_dims, plain.shape)
    cdef _c.fe_stop stop = stop_for(plain.c.array.n_items, &c_table)
    cdef bint is_new = out is None
    with nogil:
        status = fe.gather(&c_table, &plain.c, _c.FE_RAISE, &rows, is_new, stop)
    if status.code == _c.FE_STOPPED:
        raise_status(status, (), None)
    return result if status.code == _c.FE_OK else None


def gather_add(cnp.ndarray wte not None, cnp.ndarray token_ids not None, cnp.ndarray wpe not None, cnp.ndarray position_ids,
               int64_t start, cnp.ndarray out not None, str bounds not None, object packing=None):
    """out[i] = wte[token_ids[i]] + wpe[position_ids[i]]; with `packing`, of a packed wte"""
    cdef _c.fe_table c_wte, c_wpe
    cdef _c.fe_ids c_token_ids, c_position_ids
    cdef _c.fe_array c_out
    cdef _c.fe_bounds c_bounds = bounds_of(bounds)
    cdef _c.fe_status status
    need_any_table(&c_wte, wte, packing, width_of(out))
    need_stored_table(&c_wpe, wpe)
    need_pair(&c_wte, &c_wpe)
    need_ids(&c_token_ids, token_ids)
    need_positions(&c_position_ids, position_ids, start, token_ids)
    need_rows_like(&c_out, out, &c_wte, cnp.PyArray_NDIM(token_ids), cnp.PyArray_DIMS(token_ids))
    cdef _c.fe_stop stop = stop_for(c_token_ids.array.n_items, &c_wte)
    with nogil:
        status = fe.gather_add(&c_wte, &c_token_ids, &c_wpe, &c_position_ids, c_bounds, &c_out, False, stop)
    if status.code != _c.FE_OK:
        raise_status(status, (("token id", token_ids, c_wte.n_rows), ("position id", position_ids, c_wpe.n_rows)), token_ids)


def scatter_add(cnp.ndarray table not None, cnp.ndarray ids not None, cnp.ndarray values not None, str bounds not None):
    """table[ids[i]] += values[i]"""
    cdef _c.fe_table c_table
    cdef _c.fe_ids c_ids
    cdef _c.fe_array c_values
    cdef _c.fe_bounds c_bounds = bounds_of(bounds)
    cdef _c.fe_status status
    need_table(&c_table, table)
    need_ids(&c_ids, ids)
    need_rows_like(&c_values, values, &c_table, cnp.PyArray_NDIM(ids), cnp.PyArray_DIMS(ids))
    with nogil:
        status = fe.scatter_add(&c_table, &c_ids, c_bounds, &c_values)
    if status.code != _c.FE_OK:
        raise_status(status, (("id", ids, c_table.n_rows),), ids)


def gather_add_backward(cnp.ndarray dout not None, cnp.ndarray token_ids not None, cnp.ndarray dwte not None,
                        cnp.ndarray dwpe not None, cnp.ndarray position_ids, int64_t start, str bounds not None):
    """dwte[token_ids[i]] += dout[i]; dwpe[position_ids[i]] += dout[i]"""
    cdef _c.fe_table c_dwte, c_dwpe
    cdef _c.fe_ids c_token_ids, c_position_ids
    cdef _c.fe_array c_dout
    cdef _c.fe_bounds c_bounds = bounds_of(bounds)
    cdef _c.fe_status status
    need_table(&c_dwte, dwte)
    need_table(&c_dwpe, dwpe)
    need_pair(&c_dwte, &c_dwpe)
    need_ids(&c_token_ids, token_ids)
    need_positions(&c_position_ids, position_ids, start, token_ids)
    need_rows_like(&c_dout, dout, &c_dwte, cnp.PyArray_NDIM(token_ids), cnp.PyArray_DIMS(token_ids))
    with nogil:
        status = fe.gather_add_backward(&c_dout, &c_dwte, &c_token_ids, &c_dwpe, &c_position_ids, c_bounds)
    if status.code != _c.FE_OK:
        raise_status(status, (("token id", token_ids, c_dwte.n_rows), ("position id", position_ids, c_dwpe.n_rows)), token_ids)


# ---- rows of a mapped file ----

cdef int need_mapped(_c.fe_mapped_rows *mapped, cnp.ndarray array) except -1:
    if cnp.PyArray_NDIM(array) < 1 or not cnp.PyArray_IS_C_CONTIGUOUS(array):
        raise ValueError("rows of a mapped file lie side by side")
    mapped.data, mapped.n_rows = <char *>cnp.PyArray_DATA(array), cnp.PyArray_DIM(array, 0)
    mapped.row_size = cnp.PyArray_NBYTES(array) // mapped.n_rows if mapped.n_rows > 0 else 0
    return 0


def use_large_pages(cnp.ndarray array not None):
    """Ask the system to hold contiguous memory in large pages; whether all of it now is."""
    cdef char *data = <char *>cnp.PyArray_DATA(array)
    cdef int64_t size = cnp.PyArray_NBYTES(array)
    cdef bint result
    if not cnp.PyArray_IS_C_CONTIGUOUS(array):
        raise ValueError("memory in large pages is contiguous")
    with nogil:
        result = fe.use_large_pages(data, size)
    return result


def any_nonresident(cnp.ndarray table not None, cnp.ndarray rows not None):
    """Whether some of these rows of a mapped file seem not to be in memory."""
    cdef _c.fe_mapped_rows mapped
    cdef int64_t n_rows = cnp.PyArray_SIZE(rows)
    cdef const int64_t *c_rows = <const int64_t *>need_numbers("rows", rows, cnp.NPY_INT64, n_rows)
    cdef bint result
    need_mapped(&mapped, table)
    with nogil:
        result = fe.any_nonresident(&mapped, c_rows, n_rows)
    return result


def prefetch_pages(cnp.ndarray table not None, cnp.ndarray rows not None):
    """These sorted rows of a mapped file will be read soon."""
    cdef _c.fe_mapped_rows mapped
    cdef int64_t n_rows = cnp.PyArray_SIZE(rows)
    cdef const int64_t *c_rows = <const int64_t *>need_numbers("rows", rows, cnp.NPY_INT64, n_rows)
    need_mapped(&mapped, table)
    with nogil:
        fe.prefetch_pages(&mapped, c_rows, n_rows)


def release_pages(cnp.ndarray table not None, cnp.ndarray rows not None):
    """These sorted rows hold what the mapped file holds: their memory may go."""
    cdef _c.fe_mapped_rows mapped
    cdef int64_t n_rows = cnp.PyArray_SIZE(rows)
    cdef const int64_t *c_rows = <const int64_t *>need_numbers("rows", rows, cnp.NPY_INT64, n_rows)
    need_mapped(&mapped, table)
    with nogil:
        fe.release_pages(&mapped, c_rows, n_rows)
