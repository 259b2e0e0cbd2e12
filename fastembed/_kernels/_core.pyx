# The boundary between Python and C: arrays become C structs, the C call runs without the GIL, its status becomes an exception.
# Arguments have been checked by _checks.py; what is checked here once more is only what memory safety hangs on, in few words.
# A layer's tables are held through typed memoryviews; arrays of one call, of any number of dimensions, come in through NumPy's C API.
cimport numpy as cnp
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_CheckExact
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

import threading

import numpy as np

from fastembed._kernels cimport _c

cnp.import_array()

cdef extern from "Python.h":
    int PyErr_CheckSignals()  # here: leaves the exception set and says so by its result
    unsigned long PyThread_get_thread_ident()

_BOUNDS = {"raise": _c.FE_RAISE, "wrap": _c.FE_WRAP, "clip": _c.FE_CLIP, "zero": _c.FE_ZERO}

cdef enum:
    FEW_IDS = 64  # ids of a list that are read without an array, and of an array that are looked up with nothing around it
    SMALL = 65536  # bytes of rows for which letting go of the GIL (about 50 ns) costs more than it gives
    LONG = 1 << 24  # bytes of rows from which a call may take long enough for somebody to press Ctrl-C


cdef int64_t FAR = 1 << 62
cdef object ZERO = 0


# ---- arrays to C structs ----

cdef bint init_table(_c.fe_table *table, cnp.ndarray array) noexcept:
    """A table that kernels can read in place; False if it is none."""
    cdef int type = cnp.PyArray_TYPE(array)
    if cnp.PyArray_NDIM(array) != 2 or not cnp.PyArray_ISNOTSWAPPED(array):
        return False
    if type == cnp.NPY_FLOAT32:
        table.dtype = _c.FE_F32
    elif type == cnp.NPY_FLOAT64:
        table.dtype = _c.FE_F64
    else:
        return False
    table.data = <char *>cnp.PyArray_DATA(array)
    table.n_rows = cnp.PyArray_DIM(array, 0)
    table.n_cols = cnp.PyArray_DIM(array, 1)
    table.row_stride = cnp.PyArray_STRIDE(array, 0)
    return table.n_cols <= 1 or table.n_rows == 0 or cnp.PyArray_STRIDE(array, 1) == cnp.PyArray_ITEMSIZE(array)


cdef int need_table(_c.fe_table *table, cnp.ndarray array) except -1:
    if not init_table(table, array):
        raise ValueError("a table must be native float32 or float64 with the elements of a row side by side")
    return 0


cdef int need_any_table(_c.fe_table *table, cnp.ndarray array, int bits, cnp.ndarray out) except -1:
    """A packed table of uint8, of that many bits an element and as many columns as `out`; with 0 bits one of float32 or float64."""
    cdef int last = cnp.PyArray_NDIM(out) - 1
    if bits == 0:
        return need_table(table, array)
    if (bits not in (8, 4) or last < 0 or cnp.PyArray_NDIM(array) != 2 or cnp.PyArray_TYPE(array) != cnp.NPY_UINT8
            or cnp.PyArray_DIM(array, 1) != (cnp.PyArray_DIM(out, last) * bits + 7) // 8 + bits
            or (cnp.PyArray_SIZE(array) > 0 and cnp.PyArray_STRIDE(array, 1) != 1)):
        raise ValueError("a packed table that does not go with the result")
    table.dtype = _c.FE_Q8 if bits == 8 else _c.FE_Q4
    table.data = <char *>cnp.PyArray_DATA(array)
    table.n_rows, table.n_cols = cnp.PyArray_DIM(array, 0), cnp.PyArray_DIM(out, last)
    table.row_stride = cnp.PyArray_STRIDE(array, 0)
    return 0


cdef int need_pair(const _c.fe_table *a, const _c.fe_table *b) except -1:
    """Two tables that are added or take one gradient: of one dtype and one width."""
    if numpy_type(a) != numpy_type(b) or a.n_cols != b.n_cols:
        raise ValueError("two tables of different width or dtype")
    return 0


cdef inline int numpy_type(const _c.fe_table *table) noexcept:
    return cnp.NPY_FLOAT64 if table.dtype == _c.FE_F64 else cnp.NPY_FLOAT32


cdef cnp.ndarray empty(cnp.npy_intp n_items, int type):
    return cnp.PyArray_EMPTY(1, &n_items, type, 0)


cdef bint holds_rows(cnp.ndarray array, const _c.fe_table *table, int n_dims, const cnp.npy_intp *shape) noexcept:
    """Whether the last axis of `array` holds rows like those of `table`, and the others are of that shape."""
    cdef bint fits = n_dims >= 0 and cnp.PyArray_NDIM(array) == n_dims + 1 and cnp.PyArray_TYPE(array) == numpy_type(table)
    cdef int k
    fits = fits and cnp.PyArray_ISNOTSWAPPED(array) and cnp.PyArray_DIM(array, n_dims) == table.n_cols
    for k in range(n_dims):
        fits = fits and cnp.PyArray_DIM(array, k) == shape[k]
    if fits and table.n_cols > 1 and cnp.PyArray_SIZE(array) > 0:
        fits = cnp.PyArray_STRIDE(array, n_dims) == cnp.PyArray_ITEMSIZE(array)
    return fits


cdef int need_rows(_c.fe_array *rows, cnp.ndarray array, const _c.fe_table *table, int n_dims, const cnp.npy_intp *shape) except -1:
    """Rows like those of `table`, one for each id of an array of that shape."""
    if not holds_rows(array, table, n_dims, shape):
        raise ValueError("rows that do not go with the ids and the table")
    _c.fe_array_init(rows, <char *>cnp.PyArray_DATA(array), n_dims, <const int64_t *>cnp.PyArray_DIMS(array),
                     <const int64_t *>cnp.PyArray_STRIDES(array))
    return 0


cdef bint init_ids(_c.fe_ids *ids, cnp.ndarray array) noexcept:
    """Ids of any integer type and layout, read where they are; False if they are no integers."""
    cdef int type = cnp.PyArray_TYPE(array), size = cnp.PyArray_ITEMSIZE(array)
    cdef bint is_unsigned = cnp.PyTypeNum_ISUNSIGNED(type)
    if not cnp.PyTypeNum_ISINTEGER(type):
        return False
    ids.type = <_c.fe_id_type>((0 if size == 1 else 2 if size == 2 else 4 if size == 4 else 6) + is_unsigned)
    ids.swapped = not cnp.PyArray_ISNOTSWAPPED(array)
    _c.fe_array_init(&ids.array, <char *>cnp.PyArray_DATA(array), cnp.PyArray_NDIM(array),
                     <const int64_t *>cnp.PyArray_DIMS(array), <const int64_t *>cnp.PyArray_STRIDES(array))
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
    """Position ids given as an array of token_ids' shape, or None: start, start + 1, ... along the last axis."""
    cdef int n_dims = cnp.PyArray_NDIM(token_ids)
    if position_ids is not None:
        if cnp.PyArray_SIZE(position_ids) != cnp.PyArray_SIZE(token_ids):
            raise ValueError("position_ids must have the shape of token_ids")
        return need_ids(ids, position_ids)
    init_arange(ids, start, cnp.PyArray_DIM(token_ids, n_dims - 1) if n_dims > 0 else 1, cnp.PyArray_SIZE(token_ids))
    return 0


# ---- C statuses to exceptions ----

cdef int raise_status(_c.fe_status status, tuple operands, cnp.ndarray shaped_ids) except -1:
    """The exception for a status that is not FE_OK. `operands` are (name, ids or None, n_rows), one for each array of ids."""
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
    """What a long call asks now and then: the signal handlers, in the main thread; nothing elsewhere, where none run."""
    if n_items < LONG // (table.n_cols * 8 + 8):
        return NULL
    return <_c.fe_stop>signal_raised if threading.main_thread().ident == PyThread_get_thread_ident() else NULL


# ---- what runs ----

def build_info():
    """The instruction set in use, those there are, and what the C was compiled with."""
    cdef int32_t k = 0
    available = []
    while _c.fe_isa_available(k) != NULL:
        available.append(_c.fe_isa_available(k).decode())
        k += 1
    return {"isa": _c.fe_isa().decode(), "isa_available": available, "compiler": _c.fe_compiler().decode()}


def select_isa(str isa):
    """Run the kernels of that instruction set from now on; ImportError if the build or the machine lacks it."""
    if not _c.fe_select_isa(isa.encode()):
        available = ", ".join(build_info()["isa_available"])
        raise ImportError(f"FASTEMBED_ISA must be one of {available}, which this build and this machine have; got {isa!r}")


def get_num_threads():
    return _c.fe_get_num_threads()


def set_num_threads(int32_t n):
    _c.fe_set_num_threads(n)


# ---- the functional API ----

def resolve_ids(cnp.ndarray ids not None, int64_t n_rows, str bounds not None, str name):
    """The row that each id means, as int64 of the shape of `ids`; -1 for no row."""
    cdef _c.fe_ids c_ids
    cdef _c.fe_bounds c_bounds = _BOUNDS[bounds]
    cdef cnp.ndarray rows = np.empty(np.shape(ids), np.int64)
    cdef int64_t *c_rows = <int64_t *>cnp.PyArray_DATA(rows)
    cdef _c.fe_status status
    need_ids(&c_ids, ids)
    with nogil:
        status = _c.fe_resolve_ids(&c_ids, n_rows, c_bounds, c_rows, NULL)
    if status.code != _c.FE_OK:
        raise_status(status, ((name, ids, n_rows),), ids)
    return rows


def gather(cnp.ndarray table not None, cnp.ndarray ids not None, cnp.ndarray out not None, str bounds not None, int bits=0):
    """out[i] = table[ids[i]]; with `bits`, of a packed table"""
    cdef _c.fe_table c_table
    cdef _c.fe_ids c_ids
    cdef _c.fe_array c_out
    cdef _c.fe_bounds c_bounds = _BOUNDS[bounds]
    cdef _c.fe_status status
    need_any_table(&c_table, table, bits, out)
    need_ids(&c_ids, ids)
    need_rows(&c_out, out, &c_table, cnp.PyArray_NDIM(ids), cnp.PyArray_DIMS(ids))
    cdef _c.fe_stop stop = stop_for(c_ids.array.n_items, &c_table)
    with nogil:
        status = _c.fe_gather(&c_table, &c_ids, c_bounds, &c_out, False, stop)
    if status.code != _c.FE_OK:
        raise_status(status, (("id", ids, c_table.n_rows),), ids)


def gather_add(cnp.ndarray wte not None, cnp.ndarray token_ids not None, cnp.ndarray wpe not None, cnp.ndarray position_ids,
               int64_t start, cnp.ndarray out not None, str bounds not None, int bits=0):
    """out[i] = wte[token_ids[i]] + wpe[position_ids[i]]; with `bits`, of a packed wte"""
    cdef _c.fe_table c_wte, c_wpe
    cdef _c.fe_ids c_token_ids, c_position_ids
    cdef _c.fe_array c_out
    cdef _c.fe_bounds c_bounds = _BOUNDS[bounds]
    cdef _c.fe_status status
    need_any_table(&c_wte, wte, bits, out)
    need_table(&c_wpe, wpe)
    need_pair(&c_wte, &c_wpe)
    need_ids(&c_token_ids, token_ids)
    need_positions(&c_position_ids, position_ids, start, token_ids)
    need_rows(&c_out, out, &c_wte, cnp.PyArray_NDIM(token_ids), cnp.PyArray_DIMS(token_ids))
    cdef _c.fe_stop stop = stop_for(c_token_ids.array.n_items, &c_wte)
    with nogil:
        status = _c.fe_gather_add(&c_wte, &c_token_ids, &c_wpe, &c_position_ids, c_bounds, &c_out, False, stop)
    if status.code != _c.FE_OK:
        raise_status(status, (("token id", token_ids, c_wte.n_rows), ("position id", position_ids, c_wpe.n_rows)), token_ids)


def scatter_add(cnp.ndarray table not None, cnp.ndarray ids not None, cnp.ndarray values not None, str bounds not None):
    """table[ids[i]] += values[i]"""
    cdef _c.fe_table c_table
    cdef _c.fe_ids c_ids
    cdef _c.fe_array c_values
    cdef _c.fe_bounds c_bounds = _BOUNDS[bounds]
    cdef _c.fe_status status
    need_table(&c_table, table)
    need_ids(&c_ids, ids)
    need_rows(&c_values, values, &c_table, cnp.PyArray_NDIM(ids), cnp.PyArray_DIMS(ids))
    with nogil:
        status = _c.fe_scatter_add(&c_table, &c_ids, c_bounds, &c_values)
    if status.code != _c.FE_OK:
        raise_status(status, (("id", ids, c_table.n_rows),), ids)


def gather_add_backward(cnp.ndarray dout not None, cnp.ndarray token_ids not None, cnp.ndarray dwte not None,
                        cnp.ndarray dwpe not None, cnp.ndarray position_ids, int64_t start, str bounds not None):
    """dwte[token_ids[i]] += dout[i]; dwpe[position_ids[i]] += dout[i]"""
    cdef _c.fe_table c_dwte, c_dwpe
    cdef _c.fe_ids c_token_ids, c_position_ids
    cdef _c.fe_array c_dout
    cdef _c.fe_bounds c_bounds = _BOUNDS[bounds]
    cdef _c.fe_status status
    need_table(&c_dwte, dwte)
    need_table(&c_dwpe, dwpe)
    need_pair(&c_dwte, &c_dwpe)
    need_ids(&c_token_ids, token_ids)
    need_positions(&c_position_ids, position_ids, start, token_ids)
    need_rows(&c_dout, dout, &c_dwte, cnp.PyArray_NDIM(token_ids), cnp.PyArray_DIMS(token_ids))
    with nogil:
        status = _c.fe_gather_add_backward(&c_dout, &c_dwte, &c_token_ids, &c_dwpe, &c_position_ids, c_bounds)
    if status.code != _c.FE_OK:
        raise_status(status, (("token id", token_ids, c_dwte.n_rows), ("position id", position_ids, c_dwpe.n_rows)), token_ids)


include "_short_calls.pxi"
include "_update.pxi"
include "_bag.pxi"
