# The boundary between Python and C: arrays become C structs, the C call runs without the GIL, and
# its status becomes an exception. Arguments have been checked by `_checks`; only what memory safety
# depends on is checked again, in few words. A layer's tables are held by typed memoryviews; other
# arrays come in through NumPy's C API, as acquiring a memoryview takes about 120 ns.
cimport numpy as cnp
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from . cimport _c

import threading

import numpy as np

cnp.import_array()

cdef extern from "Python.h":
    int PyErr_CheckSignals()  # here: leaves the exception set and says so by its result
    unsigned long PyThread_get_thread_ident()

cdef extern from "numpy/arrayobject.h":
    int NPY_USERDEF  # the least number of a dtype that NumPy does not have itself

cdef extern from *:
    "static const fe_functions fe_linked = {FE_FUNCTIONS(FE_ADDRESS)};"
    const _c.fe_functions fe_linked

fe = fe_linked
bfloat16_type = -1

cdef enum:
    LONG = 1 << 24  # bytes of rows from which a call can last long enough for a Ctrl-C

cdef dict FORMATS = {
    "fbgemm8": _c.FE_Q8, "fbgemm4": _c.FE_Q4, "float8_e4m3fn": _c.FE_E4M3, "float8_e5m2": _c.FE_E5M2,
    "float16": _c.FE_F16, "bfloat16": _c.FE_BF16, "q8_0": _c.FE_Q8_0, "q4_0": _c.FE_Q4_0, "q2_k": _c.FE_Q2_K,
    "q3_k": _c.FE_Q3_K, "q4_k": _c.FE_Q4_K, "q5_k": _c.FE_Q5_K, "q6_k": _c.FE_Q6_K,
}

cdef dict BOUNDS = {"raise": _c.FE_RAISE, "wrap": _c.FE_WRAP, "clip": _c.FE_CLIP, "zero": _c.FE_ZERO}


# ---- arrays to C structs ----

cdef bint init_matrix(_c.fe_table *table, cnp.ndarray array, _c.fe_dtype dtype) noexcept:
    """A native matrix whose rows have their elements side by side, as a table of that dtype."""
    if cnp.PyArray_NDIM(array) != 2 or not cnp.PyArray_ISNOTSWAPPED(array):
        return False
    table.dtype, table.shared = dtype, NULL
    table.data = <char *>cnp.PyArray_DATA(array)
    table.n_rows, table.n_cols = cnp.PyArray_DIM(array, 0), cnp.PyArray_DIM(array, 1)
    table.row_stride = cnp.PyArray_STRIDE(array, 0)
    return table.n_cols <= 1 or table.n_rows == 0 or cnp.PyArray_STRIDE(array, 1) == cnp.PyArray_ITEMSIZE(array)


cdef bint init_dtype(_c.fe_dtype *dtype, cnp.ndarray array) except -1:
    global bfloat16_type
    cdef int type = cnp.PyArray_TYPE(array)
    if type == cnp.NPY_FLOAT32:
        dtype[0] = _c.FE_F32
    elif type == cnp.NPY_FLOAT64:
        dtype[0] = _c.FE_F64
    elif type == cnp.NPY_FLOAT16:
        dtype[0] = _c.FE_F16
    elif type == bfloat16_type or (type >= NPY_USERDEF and array.dtype.itemsize == 2 and array.dtype.name == "bfloat16"):
        bfloat16_type = type
        dtype[0] = _c.FE_BF16
    else:
        return False
    return True


cdef bint init_table(_c.fe_table *table, cnp.ndarray array) except -1:
    """A table of any float dtype."""
    cdef _c.fe_dtype dtype
    return init_dtype(&dtype, array) and init_matrix(table, array, dtype)


cdef int need_stored_table(_c.fe_table *table, cnp.ndarray array) except -1:
    """A table of any float dtype."""
    if not init_table(table, array):
        raise ValueError("a table must be of native floats with the elements of a row side by side")
    return 0


cdef int need_table(_c.fe_table *table, cnp.ndarray array) except -1:
    """A table of a dtype of arithmetic."""
    if not init_table(table, array) or table.dtype != arithmetic(table.dtype):
        raise ValueError("a table must be native float32 or float64 with the elements of a row side by side")
    return 0


cdef void init_packing(_c.fe_table *table, object packing, int64_t n_cols) except *:
    table.dtype = FORMATS[packing.format]
    table.n_cols, table.block_size, table.has_float_scales = n_cols, packing.block_size, packing.has_float_scales
    if table.block_size < (table.dtype == _c.FE_E4M3 or table.dtype == _c.FE_E5M2):
        raise ValueError("scales of blocks of no element")


def packed_size(packing not None, int64_t n_cols):
    """(bytes of the elements, bytes of the scales) of a row; None if no row has that n_cols."""
    cdef _c.fe_table table
    init_packing(&table, packing, n_cols)
    cdef int64_t size = fe.packed_size(&table, False)
    return None if size < 0 else (size, fe.packed_size(&table, True))


cdef bint init_bytes(_c.fe_table *table, cnp.ndarray array) noexcept:
    return cnp.PyArray_TYPE(array) == cnp.NPY_UINT8 and init_matrix(table, array, _c.FE_BYTES)


cdef int need_any_table(_c.fe_table *table, cnp.ndarray array, object packing, int64_t n_cols) except -1:
    """A table of floats without a packing, else a packed one of that width, whose bytes are uint8."""
    if packing is None:
        return need_stored_table(table, array)
    cdef _c.fe_table scales
    cdef cnp.ndarray of_scales = array if packing.scales is None else packing.scales
    if n_cols < 0 or not init_bytes(table, array) or not init_bytes(&scales, of_scales):
        raise ValueError("shape or dtype of the packed table does not match the result")
    cdef int64_t width = table.n_cols, n_elements, n_scales
    init_packing(table, packing, n_cols)
    n_elements, n_scales = fe.packed_size(table, False), fe.packed_size(table, True)
    table.scales, table.scales_stride = scales.data, scales.row_stride
    cdef bint fits = n_elements >= 0
    if packing.scales is None:
        fits = fits and width == n_elements + n_scales
        table.scales += n_elements
    else:
        fits = fits and width == n_elements and scales.n_rows == table.n_rows and scales.n_cols == n_scales
    if not fits:
        raise ValueError("shape or dtype of the packed table does not match the result")
    return 0


cdef int need_pair(const _c.fe_table *a, const _c.fe_table *b) except -1:
    """Two tables that are added or take one gradient: of one width, and b of the dtype of a or of its arithmetic."""
    if (b.dtype != a.dtype and b.dtype != arithmetic(a.dtype)) or a.n_cols != b.n_cols:
        raise ValueError("two tables of different width or dtype")
    return 0


cdef void init_array(_c.fe_array *items, cnp.ndarray array, int n_dims) noexcept:
    """The first axes of an array as those of the items."""
    fe.array_init(items, <char *>cnp.PyArray_DATA(array), n_dims, <const int64_t *>cnp.PyArray_DIMS(array),
                  <const int64_t *>cnp.PyArray_STRIDES(array))


cdef bint init_rows(_c.fe_array *rows, cnp.ndarray array, const _c.fe_table *table, int n_dims,
                    const cnp.npy_intp *shape) except -1:
    """Rows for the arithmetic of `table` along the last axis; the others are of that shape."""
    cdef bint fits = n_dims >= 0 and cnp.PyArray_NDIM(array) == n_dims + 1 and init_dtype(&rows.dtype, array)
    cdef int k
    fits = fits and arithmetic(rows.dtype) == arithmetic(table.dtype) and cnp.PyArray_ISNOTSWAPPED(array)
    fits = fits and cnp.PyArray_DIM(array, n_dims) == table.n_cols
    for k in range(n_dims):
        fits = fits and cnp.PyArray_DIM(array, k) == shape[k]
    if fits and table.n_cols > 1 and cnp.PyArray_SIZE(array) > 0:
        fits = cnp.PyArray_STRIDE(array, n_dims) == cnp.PyArray_ITEMSIZE(array)
    if fits:
        init_array(rows, array, n_dims)
    return fits


cdef int need_rows(_c.fe_array *rows, cnp.ndarray array, const _c.fe_table *table, int n_dims,
                   const cnp.npy_intp *shape) except -1:
    if not init_rows(rows, array, table, n_dims, shape):
        raise ValueError("shape or dtype of the rows does not match the ids and the table")
    return 0


cdef int need_rows_like(_c.fe_array *rows, cnp.ndarray array, const _c.fe_table *table, int n_dims,
                        const cnp.npy_intp *shape) except -1:
    """The same, of the dtype of `table` or of that of its arithmetic."""
    need_rows(rows, array, table, n_dims, shape)
    if rows.dtype != table.dtype and rows.dtype != arithmetic(table.dtype):
        raise ValueError("dtype of the rows does not match the table")
    return 0


cdef int need_results(_c.fe_array *rows, cnp.ndarray array, const _c.fe_table *table, object packing, int n_dims,
                      const cnp.npy_intp *shape) except -1:
    """Rows for look-ups in a table: as above; of a packed one, float32 or halves."""
    return need_rows_like(rows, array, table, n_dims, shape) if packing is None else need_rows(rows, array, table, n_dims, shape)


cdef bint init_ids(_c.fe_ids *ids, cnp.ndarray array) noexcept:
    """Ids of any integer type and layout, read where they are."""
    cdef int type = cnp.PyArray_TYPE(array), size = cnp.PyArray_ITEMSIZE(array)
    if not cnp.PyTypeNum_ISINTEGER(type):
        return False
    cdef int signed_type = _c.FE_I8 if size == 1 else _c.FE_I16 if size == 2 else _c.FE_I32 if size == 4 else _c.FE_I64
    ids.type = <_c.fe_id_type>(signed_type + cnp.PyTypeNum_ISUNSIGNED(type))  # FE_U8 is FE_I8 + 1
    ids.swapped = not cnp.PyArray_ISNOTSWAPPED(array)
    init_array(&ids.array, array, cnp.PyArray_NDIM(array))
    return True


cdef int need_ids(_c.fe_ids *ids, cnp.ndarray array) except -1:
    if not init_ids(ids, array):
        raise TypeError("ids must be integers")
    return 0


cdef void init_arange(_c.fe_ids *ids, int64_t start, int64_t period, int64_t n_items) noexcept:
    ids.type = _c.FE_ARANGE
    ids.array.n_items = n_items
    ids.start = start
    ids.period = period


cdef int need_positions(_c.fe_ids *ids, cnp.ndarray position_ids, int64_t start, cnp.ndarray token_ids) except -1:
    """Ids of the shape of token_ids, or for None start, start + 1, ... along the last axis."""
    cdef int n_dims = cnp.PyArray_NDIM(token_ids)
    if position_ids is not None:
        if cnp.PyArray_SIZE(position_ids) != cnp.PyArray_SIZE(token_ids):
            raise ValueError("position_ids must have the shape of token_ids")
        return need_ids(ids, position_ids)
    init_arange(ids, start, cnp.PyArray_DIM(token_ids, n_dims - 1) if n_dims > 0 else 1, cnp.PyArray_SIZE(token_ids))
    return 0


cdef const void *need_numbers(str name, cnp.ndarray array, int type, int64_t n_items) except? NULL:
    """The items of a contiguous array of any shape; NULL for None."""
    if array is None:
        return NULL
    cdef int of_array = cnp.PyArray_TYPE(array)
    if (cnp.PyArray_SIZE(array) != n_items or not cnp.PyArray_ISCARRAY_RO(array)
            or not (of_array == type or cnp.PyArray_EquivTypenums(of_array, type))):
        raise ValueError(f"shape or dtype of {name} does not match: {n_items} numbers side by side are needed")
    return cnp.PyArray_DATA(array)


cdef void *need_written(str name, cnp.ndarray array, int type, int64_t n_items) except NULL:
    """The same, of an array that C writes."""
    if not cnp.PyArray_ISWRITEABLE(array):
        raise ValueError(f"{name} must be writeable")
    return <void *>need_numbers(name, array, type, n_items)


cdef int need_batch(_c.fe_batch *batch, _c.fe_array *c_grads, const _c.fe_table *table, cnp.ndarray rows, cnp.ndarray order,
                    cnp.ndarray factors, bint by_frequency, cnp.ndarray grads) except -1:
    """Rows of that table, sorted (not checked here), and the gradient of each."""
    cdef int64_t n_items = cnp.PyArray_SIZE(rows), i
    cdef int64_t largest = n_items - 1 if order is None else -1
    if not init_rows(c_grads, grads, table, cnp.PyArray_NDIM(grads) - 1, cnp.PyArray_DIMS(grads)):
        raise ValueError("shape or dtype of the gradients does not match the table")
    batch.rows = <const int64_t *>need_numbers("rows", rows, cnp.NPY_INT64, n_items)
    batch.order = <const int32_t *>need_numbers("order", order, cnp.NPY_INT32, n_items)
    batch.factors = <const double *>need_numbers("factors", factors, cnp.NPY_FLOAT64, n_items)
    batch.by_frequency = by_frequency
    batch.n_items = n_items
    batch.grads = c_grads
    if order is not None:
        for i in range(n_items):
            largest = max(largest, <int64_t><uint32_t>batch.order[i])  # 2^31 or more if negative
    if largest >= c_grads.n_items:
        raise ValueError("a place outside the gradients")
    return 0


cdef _c.fe_bounds bounds_of(str name) except *:
    return BOUNDS[name]


# ---- C statuses to exceptions ----

cdef int raise_status(_c.fe_status status, tuple operands, cnp.ndarray shaped_ids) except -1:
    """The exception for a status that is not FE_OK.

    `operands` are (name, ids or None, n_rows), one for each array of ids; `shaped_ids` has the
    shape that the index of the status is in.
    """
    if status.code == _c.FE_STOPPED:
        return -1  # the signal handler's exception is set
    if status.code == _c.FE_NO_MEMORY:
        raise MemoryError(f"no memory for a copy of {shaped_ids.size} ids")
    name, ids, n_rows = operands[status.operand]
    cdef object value = status.id
    if ids is not None and ids.dtype.kind == "u":
        value = <uint64_t>status.id
    position = tuple(np.array(np.unravel_index(status.index, np.shape(shaped_ids))).tolist())
    raise IndexError(f"{name} {value} at position {position} is out of range for a table of {n_rows} rows")


cdef int signal_raised() noexcept with gil:
    return PyErr_CheckSignals() < 0


cdef _c.fe_stop stop_for(int64_t n_items, const _c.fe_table *table) except? NULL:
    """What a long call asks now and then: the signal handlers, which run in the main thread."""
    if n_items < LONG // 8 // (table.n_cols + 1):
        return NULL
    return <_c.fe_stop>signal_raised if threading.main_thread().ident == PyThread_get_thread_ident() else NULL


# ---- what runs ----

def build_info():
    """The instruction set in use, those there are, and what the C was compiled with."""
    cdef int32_t k = 0
    available = []
    while fe.isa_available(k) != NULL:
        available.append(fe.isa_available(k).decode())
        k += 1
    return {"isa": fe.isa().decode(), "isa_available": available, "compiler": fe.compiler().decode()}


def select_isa(str isa not None):
    """Run the kernels of that instruction set from now on; ImportError if it is not there."""
    if not fe.select_isa(isa.encode(errors="backslashreplace")):
        available = ", ".join(build_info()["isa_available"])
        raise ImportError(f"FASTEMBED_ISA must be one of {available}, which this build and this machine have; got {isa!r}")


cdef extern from "float_env.h":
    uint64_t fe_enter_default_floats()
    void fe_restore_floats(uint64_t before)


def in_default_floats(function, tuple args not None, dict kwargs not None):
    """A call in the default floating-point environment; that of this thread is back before a signal's handler can run."""
    cdef uint64_t before = fe_enter_default_floats()
    try:
        return function(*args, **kwargs)
    finally:
        fe_restore_floats(before)


def get_num_threads():
    return fe.get_num_threads()


def set_num_threads(int32_t n):
    fe.set_num_threads(n)
