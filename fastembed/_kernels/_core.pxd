# What the other modules cimport: the C functions, arrays as C structs, C statuses as exceptions.
cimport numpy as cnp
from libc.stdint cimport int64_t

from . cimport _c

cdef _c.fe_functions fe
cdef int bfloat16_type  # its number in NumPy, which the first array of it gives; until then -1

# init_...: fills a struct from an array; False if C cannot read the array as that.
# need_...: does the same, or raises.
cdef bint init_table(_c.fe_table *table, cnp.ndarray array) except -1
cdef int need_table(_c.fe_table *table, cnp.ndarray array) except -1
cdef int need_stored_table(_c.fe_table *table, cnp.ndarray array) except -1
cdef int need_any_table(_c.fe_table *table, cnp.ndarray array, object packing, int64_t n_cols) except -1
cdef int need_pair(const _c.fe_table *a, const _c.fe_table *b) except -1
cdef int need_rows(_c.fe_array *rows, cnp.ndarray array, const _c.fe_table *table, int n_dims,
                   const cnp.npy_intp *shape) except -1
cdef int need_rows_like(_c.fe_array *rows, cnp.ndarray array, const _c.fe_table *table, int n_dims,
                        const cnp.npy_intp *shape) except -1
cdef int need_results(_c.fe_array *rows, cnp.ndarray array, const _c.fe_table *table, object packing, int n_dims,
                      const cnp.npy_intp *shape) except -1
cdef bint init_ids(_c.fe_ids *ids, cnp.ndarray array) noexcept
cdef int need_ids(_c.fe_ids *ids, cnp.ndarray array) except -1
cdef void init_arange(_c.fe_ids *ids, int64_t start, int64_t period, int64_t n_items) noexcept
cdef int need_positions(_c.fe_ids *ids, cnp.ndarray position_ids, int64_t start, cnp.ndarray token_ids) except -1
cdef int need_batch(_c.fe_batch *batch, _c.fe_array *c_grads, const _c.fe_table *table, cnp.ndarray rows, cnp.ndarray order,
                    cnp.ndarray factors, bint by_frequency, cnp.ndarray grads) except -1
cdef const void *need_numbers(str name, cnp.ndarray array, int type, int64_t n_items) except? NULL
cdef void *need_written(str name, cnp.ndarray array, int type, int64_t n_items) except NULL
cdef _c.fe_bounds bounds_of(str name) except *

cdef int raise_status(_c.fe_status status, tuple operands, cnp.ndarray shaped_ids) except -1
cdef _c.fe_stop stop_for(int64_t n_items, const _c.fe_table *table) except? NULL


cdef inline _c.fe_dtype arithmetic(_c.fe_dtype dtype) noexcept:
    """The dtype of sums, factors and optimiser state of a table."""
    return _c.FE_F64 if dtype == _c.FE_F64 else _c.FE_F32


cdef inline int numpy_type(_c.fe_dtype dtype) noexcept:
    """Of the results of a table: those of packed rows are float32."""
    if dtype == _c.FE_F64:
        return cnp.NPY_FLOAT64
    return cnp.NPY_FLOAT16 if dtype == _c.FE_F16 else bfloat16_type if dtype == _c.FE_BF16 else cnp.NPY_FLOAT32


cdef inline int64_t width_of(cnp.ndarray rows) noexcept:
    """The length of the last axis; -1 without one."""
    cdef int n_dims = cnp.PyArray_NDIM(rows)
    return cnp.PyArray_DIM(rows, n_dims - 1) if n_dims > 0 else -1


cdef inline cnp.ndarray empty(cnp.npy_intp n_items, int type):
    return cnp.PyArray_EMPTY(1, &n_items, type, 0)
