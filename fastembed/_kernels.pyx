# The boundary between Python and C: arrays become C structs, the C call runs without the GIL, its status becomes an exception.
# Arguments have been checked by _checks.py; what is checked here once more is only what memory safety hangs on.
# Tables come in through typed memoryviews; ids and outputs, of any number of dimensions, through NumPy's C API.
cimport numpy as cnp
from libc.stdint cimport int64_t, uint64_t

import numpy as np

from fastembed cimport _c

cnp.import_array()

_BOUNDS = {"raise": _c.FE_RAISE, "wrap": _c.FE_WRAP, "clip": _c.FE_CLIP, "zero": _c.FE_ZERO}


cdef class _Table:
    """A table's memory, kept in place by a typed memoryview for as long as this object lives."""
    cdef _c.fe_table c
    cdef object numpy_dtype
    cdef const float[:, :] f32
    cdef const double[:, :] f64

    def __cinit__(self, cnp.ndarray array not None):
        self.numpy_dtype = array.dtype
        if array.dtype.itemsize == sizeof(float):
            self.f32 = array
            self.c.dtype = _c.FE_F32
        else:
            self.f64 = array
            self.c.dtype = _c.FE_F64
        if array.size > 0 and array.shape[1] > 1 and array.strides[1] != array.dtype.itemsize:
            raise ValueError("the elements of a table's row must lie side by side")
        self.c.data = <char *>cnp.PyArray_DATA(array)
        self.c.n_rows = array.shape[0]
        self.c.n_cols = array.shape[1]
        self.c.row_stride = array.strides[0]


cdef int init_rows(_c.fe_array *rows, cnp.ndarray array, _Table table, cnp.ndarray ids) except -1:
    """Rows like those of `table`, one for each of `ids`: the last axis of `array` holds a row's elements."""
    cdef int n_dims = cnp.PyArray_NDIM(array) - 1
    if np.shape(array) != np.shape(ids) + (table.c.n_cols,) or array.dtype != table.numpy_dtype:
        raise ValueError(f"rows of {array.dtype} and shape {np.shape(array)} do not go with ids of shape {np.shape(ids)} and a "
                         f"table of {table.numpy_dtype} with {table.c.n_cols} columns")
    if array.size > 0 and table.c.n_cols > 1 and array.strides[n_dims] != table.numpy_dtype.itemsize:
        raise ValueError("the elements of a row must lie side by side")
    _c.fe_array_init(rows, <char *>cnp.PyArray_DATA(array), n_dims, <const int64_t *>cnp.PyArray_DIMS(array),
                     <const int64_t *>cnp.PyArray_STRIDES(array))
    return 0


cdef int check_pair(_Table a, _Table b) except -1:
    """Two tables that are added or take one gradient: of one dtype and one width."""
    if a.c.dtype != b.c.dtype or a.c.n_cols != b.c.n_cols:
        raise ValueError(f"the two tables differ: {a.c.n_cols} columns of {a.numpy_dtype}, {b.c.n_cols} columns of {b.numpy_dtype}")
    return 0


cdef int init_ids(_c.fe_ids *ids, cnp.ndarray array) except -1:
    """Ids of any integer type and layout, read where they are."""
    cdef int size = array.dtype.itemsize, log2_size = 0
    cdef bint is_unsigned = array.dtype.kind == "u"
    while 1 << log2_size < size:
        log2_size += 1
    if array.dtype.kind not in "iu":
        raise TypeError(f"ids must be integers, got {array.dtype}")
    ids.type = <_c.fe_id_type>(2 * log2_size + is_unsigned)
    ids.swapped = not array.dtype.isnative
    _c.fe_array_init(&ids.array, <char *>cnp.PyArray_DATA(array), cnp.PyArray_NDIM(array),
                     <const int64_t *>cnp.PyArray_DIMS(array), <const int64_t *>cnp.PyArray_STRIDES(array))
    return 0


cdef int init_positions(_c.fe_ids *ids, cnp.ndarray position_ids, int64_t start, cnp.ndarray token_ids) except -1:
    """Position ids given as an array of token_ids' shape, or None: start, start + 1, ... along the last axis."""
    cdef int n_dims = cnp.PyArray_NDIM(token_ids)
    if position_ids is not None:
        if position_ids.size != token_ids.size:
            raise ValueError("position_ids must have the shape of token_ids")
        return init_ids(ids, position_ids)
    ids.type = _c.FE_ARANGE
    ids.array.n_items = token_ids.size
    ids.start = start
    ids.period = token_ids.shape[n_dims - 1] if n_dims > 0 else 1
    return 0


cdef raise_status(_c.fe_status status, tuple operands, cnp.ndarray shaped_ids):
    """The exception for a status that is not FE_OK. `operands` are (name, ids or None, n_rows), one for each array of ids."""
    if status.code == _c.FE_NO_MEMORY:
        raise MemoryError(f"no memory for a copy of {shaped_ids.size} ids")
    name, ids, n_rows = operands[status.operand]
    cdef object value = status.id
    if ids is not None and ids.dtype.kind == "u":
        value = <uint64_t>status.id
    position = tuple(int(i) for i in np.unravel_index(status.index, np.shape(shaped_ids)))
    raise IndexError(f"{name} {value} at position {position} is out of range for a table of {n_rows} rows")


def build_info():
    """The instruction set in use, those there are, and what the C was compiled with."""
    isa = _c.fe_isa().decode()
    return {"isa": isa, "isa_available": [isa], "compiler": _c.fe_compiler().decode()}


def resolve_ids(cnp.ndarray ids not None, int64_t n_rows, str bounds not None, str name):
    """The row that each id means, as int64 of the shape of `ids`; -1 for no row."""
    cdef _c.fe_ids c_ids
    cdef _c.fe_bounds c_bounds = _BOUNDS[bounds]
    cdef cnp.ndarray rows = np.empty(np.shape(ids), np.int64)
    cdef int64_t *c_rows = <int64_t *>cnp.PyArray_DATA(rows)
    cdef _c.fe_status status
    init_ids(&c_ids, ids)
    with nogil:
        status = _c.fe_resolve_ids(&c_ids, n_rows, c_bounds, c_rows)
    if status.code != _c.FE_OK:
        raise_status(status, ((name, ids, n_rows),), ids)
    return rows


def gather(cnp.ndarray table not None, cnp.ndarray ids not None, cnp.ndarray out not None, str bounds not None):
    """out[i] = table[ids[i]]"""
    cdef _Table c_table = _Table(table)
    cdef _c.fe_ids c_ids
    cdef _c.fe_array c_out
    cdef _c.fe_bounds c_bounds = _BOUNDS[bounds]
    cdef _c.fe_status status
    init_ids(&c_ids, ids)
    init_rows(&c_out, out, c_table, ids)
    with nogil:
        status = _c.fe_gather(&c_table.c, &c_ids, c_bounds, &c_out)
    if status.code != _c.FE_OK:
        raise_status(status, (("id", ids, c_table.c.n_rows),), ids)


def gather_add(cnp.ndarray wte not None, cnp.ndarray token_ids not None, cnp.ndarray wpe not None, cnp.ndarray position_ids,
               int64_t start, cnp.ndarray out not None, str bounds not None):
    """out[i] = wte[token_ids[i]] + wpe[position_ids[i]]"""
    cdef _Table c_wte = _Table(wte), c_wpe = _Table(wpe)
    cdef _c.fe_ids c_token_ids, c_position_ids
    cdef _c.fe_array c_out
    cdef _c.fe_bounds c_bounds = _BOUNDS[bounds]
    cdef _c.fe_status status
    init_ids(&c_token_ids, token_ids)
    init_positions(&c_position_ids, position_ids, start, token_ids)
    init_rows(&c_out, out, c_wte, token_ids)
    check_pair(c_wte, c_wpe)
    with nogil:
        status = _c.fe_gather_add(&c_wte.c, &c_token_ids, &c_wpe.c, &c_position_ids, c_bounds, &c_out)
    if status.code != _c.FE_OK:
        raise_status(status, (("token id", token_ids, c_wte.c.n_rows), ("position id", position_ids, c_wpe.c.n_rows)), token_ids)


def scatter_add(cnp.ndarray table not None, cnp.ndarray ids not None, cnp.ndarray values not None, str bounds not None):
    """table[ids[i]] += values[i]"""
    cdef _Table c_table = _Table(table)
    cdef _c.fe_ids c_ids
    cdef _c.fe_array c_values
    cdef _c.fe_bounds c_bounds = _BOUNDS[bounds]
    cdef _c.fe_status status
    init_ids(&c_ids, ids)
    init_rows(&c_values, values, c_table, ids)
    with nogil:
        status = _c.fe_scatter_add(&c_table.c, &c_ids, c_bounds, &c_values)
    if status.code != _c.FE_OK:
        raise_status(status, (("id", ids, c_table.c.n_rows),), ids)


def gather_add_backward(cnp.ndarray dout not None, cnp.ndarray token_ids not None, cnp.ndarray dwte not None,
                        cnp.ndarray dwpe not None, cnp.ndarray position_ids, int64_t start, str bounds not None):
    """dwte[token_ids[i]] += dout[i]; dwpe[position_ids[i]] += dout[i]"""
    cdef _Table c_dwte = _Table(dwte), c_dwpe = _Table(dwpe)
    cdef _c.fe_ids c_token_ids, c_position_ids
    cdef _c.fe_array c_dout
    cdef _c.fe_bounds c_bounds = _BOUNDS[bounds]
    cdef _c.fe_status status
    init_ids(&c_token_ids, token_ids)
    init_positions(&c_position_ids, position_ids, start, token_ids)
    init_rows(&c_dout, dout, c_dwte, token_ids)
    check_pair(c_dwte, c_dwpe)
    with nogil:
        status = _c.fe_gather_add_backward(&c_dout, &c_dwte.c, &c_token_ids, &c_dwpe.c, &c_position_ids, c_bounds)
    if status.code != _c.FE_OK:
        raise_status(status, (("token id", token_ids, c_dwte.c.n_rows), ("position id", position_ids, c_dwpe.c.n_rows)), token_ids)
