# The boundary between Python and C: arrays become C structs, the C call runs without the GIL, its status becomes an exception.
# Arguments have been checked by _checks.py; what is checked here once more is only what memory safety hangs on.
# A layer's tables are held through typed memoryviews; arrays of one call, of any number of dimensions, come in through NumPy's C API.
cimport numpy as cnp
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_CheckExact
from libc.stdint cimport int32_t, int64_t, uint64_t

import threading

import numpy as np

from fastembed cimport _c

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


cdef int need_pair(const _c.fe_table *a, const _c.fe_table *b) except -1:
    """Two tables that are added or take one gradient: of one dtype and one width."""
    if a.dtype != b.dtype or a.n_cols != b.n_cols:
        raise ValueError(f"the two tables differ: {a.n_cols} and {b.n_cols} columns, or their dtypes")
    return 0


cdef inline int numpy_type(const _c.fe_table *table) noexcept:
    return cnp.NPY_FLOAT32 if table.dtype == _c.FE_F32 else cnp.NPY_FLOAT64


cdef int need_rows(_c.fe_array *rows, cnp.ndarray array, const _c.fe_table *table, cnp.ndarray ids) except -1:
    """Rows like those of `table`, one for each of `ids`: the last axis of `array` holds a row's elements."""
    cdef int n_dims = cnp.PyArray_NDIM(ids), k
    cdef bint fits = cnp.PyArray_NDIM(array) == n_dims + 1 and cnp.PyArray_TYPE(array) == numpy_type(table)
    fits = fits and cnp.PyArray_ISNOTSWAPPED(array) and cnp.PyArray_DIM(array, n_dims) == table.n_cols
    for k in range(n_dims):
        fits = fits and cnp.PyArray_DIM(array, k) == cnp.PyArray_DIM(ids, k)
    if fits and table.n_cols > 1 and cnp.PyArray_SIZE(array) > 0:
        fits = cnp.PyArray_STRIDE(array, n_dims) == cnp.PyArray_ITEMSIZE(array)
    if not fits:
        raise ValueError(f"rows {array!r} do not go with ids of shape {np.shape(ids)} and a table of {table.n_cols} columns")
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
        raise TypeError(f"ids must be integers, got {array.dtype}")
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
    position = tuple(int(i) for i in np.unravel_index(status.index, np.shape(shaped_ids)))
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


def gather(cnp.ndarray table not None, cnp.ndarray ids not None, cnp.ndarray out not None, str bounds not None):
    """out[i] = table[ids[i]]"""
    cdef _c.fe_table c_table
    cdef _c.fe_ids c_ids
    cdef _c.fe_array c_out
    cdef _c.fe_bounds c_bounds = _BOUNDS[bounds]
    cdef _c.fe_status status
    need_table(&c_table, table)
    need_ids(&c_ids, ids)
    need_rows(&c_out, out, &c_table, ids)
    cdef _c.fe_stop stop = stop_for(c_ids.array.n_items, &c_table)
    with nogil:
        status = _c.fe_gather(&c_table, &c_ids, c_bounds, &c_out, False, stop)
    if status.code != _c.FE_OK:
        raise_status(status, (("id", ids, c_table.n_rows),), ids)


def gather_add(cnp.ndarray wte not None, cnp.ndarray token_ids not None, cnp.ndarray wpe not None, cnp.ndarray position_ids,
               int64_t start, cnp.ndarray out not None, str bounds not None):
    """out[i] = wte[token_ids[i]] + wpe[position_ids[i]]"""
    cdef _c.fe_table c_wte, c_wpe
    cdef _c.fe_ids c_token_ids, c_position_ids
    cdef _c.fe_array c_out
    cdef _c.fe_bounds c_bounds = _BOUNDS[bounds]
    cdef _c.fe_status status
    need_table(&c_wte, wte)
    need_table(&c_wpe, wpe)
    need_pair(&c_wte, &c_wpe)
    need_ids(&c_token_ids, token_ids)
    need_positions(&c_position_ids, position_ids, start, token_ids)
    need_rows(&c_out, out, &c_wte, token_ids)
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
    need_rows(&c_values, values, &c_table, ids)
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
    need_rows(&c_dout, dout, &c_dwte, token_ids)
    with nogil:
        status = _c.fe_gather_add_backward(&c_dout, &c_dwte, &c_token_ids, &c_dwpe, &c_position_ids, c_bounds)
    if status.code != _c.FE_OK:
        raise_status(status, (("token id", token_ids, c_dwte.n_rows), ("position id", position_ids, c_dwpe.n_rows)), token_ids)


# ---- calls that need no checks in Python: plain tables, plain ids, a new result. Anything else, and any error, is left to ops ----

cdef struct PlainIds:
    _c.fe_ids c
    int64_t values[FEW_IDS]  # of an int, or a list of ints
    int n_dims
    cnp.npy_intp shape[33]  # of the result: the ids' shape, and room for the columns


cdef bint plain_ids(PlainIds *plain, object ids) noexcept:
    """Ids that are an int, a short list of ints or an array of integers; False for anything else."""
    cdef int overflow = 0, k
    cdef cnp.npy_intp n_items = 1, stride = sizeof(int64_t)
    if cnp.PyArray_CheckExact(ids):
        plain.n_dims = cnp.PyArray_NDIM(ids)
        if plain.n_dims > 32 or not init_ids(&plain.c, ids):
            return False
        for k in range(plain.n_dims):
            plain.shape[k] = cnp.PyArray_DIM(ids, k)
        return True
    if PyLong_CheckExact(ids):
        plain.n_dims = 0
        plain.values[0] = PyLong_AsLongLongAndOverflow(ids, &overflow)
    elif type(ids) is list and PyList_GET_SIZE(ids) <= FEW_IDS:
        plain.n_dims = 1
        n_items = plain.shape[0] = PyList_GET_SIZE(ids)
        for k in range(n_items):
            if not PyLong_CheckExact(<object>PyList_GET_ITEM(ids, k)):
                return False
            plain.values[k] = PyLong_AsLongLongAndOverflow(<object>PyList_GET_ITEM(ids, k), &overflow)
            if overflow:
                return False
    else:
        return False
    plain.c.type = _c.FE_I64
    plain.c.swapped = False
    _c.fe_array_init(&plain.c.array, <char *>plain.values, 1, <const int64_t *>&n_items, <const int64_t *>&stride)
    return not overflow


cdef bint plain_start(int64_t *first, object start) noexcept:
    """An int that is far from where adding positions would overflow."""
    cdef int overflow = 0
    if not PyLong_CheckExact(start):
        return False
    first[0] = PyLong_AsLongLongAndOverflow(start, &overflow)
    return not overflow and -FAR < first[0] < FAR


cdef bint is_apart(cnp.ndarray out, const _c.fe_table *table) noexcept:
    """Whether a contiguous array lies wholly before or after the memory that a table spans."""
    cdef int64_t span = (table.n_rows - 1) * table.row_stride
    cdef char *first = table.data + (span if span < 0 else 0)
    cdef char *last = table.data + (span if span > 0 else 0) + table.n_cols * 8
    cdef char *begin = <char *>cnp.PyArray_DATA(out)
    return table.n_rows == 0 or begin >= last or begin + cnp.PyArray_NBYTES(out) <= first


cdef bint plain_out(object out, PlainIds *tokens, object token_ids, const _c.fe_table *wte, const _c.fe_table *wpe) noexcept:
    """An output that needs no more checks: contiguous, of the right shape and dtype, and clearly apart from everything that is read."""
    cdef int k
    if not cnp.PyArray_CheckExact(out) or not cnp.PyArray_ISCARRAY(out) or cnp.PyArray_TYPE(out) != numpy_type(wte):
        return False
    if cnp.PyArray_NDIM(out) != tokens.n_dims + 1:
        return False
    for k in range(tokens.n_dims + 1):
        if cnp.PyArray_DIM(out, k) != tokens.shape[k]:
            return False
    if not is_apart(out, wte) or (wpe != NULL and not is_apart(out, wpe)):
        return False
    if not cnp.PyArray_CheckExact(token_ids):
        return True
    cdef _c.fe_table ids  # as one row, to ask where it lies
    ids.data, ids.n_rows, ids.row_stride = <char *>cnp.PyArray_DATA(token_ids), 1, 0
    ids.n_cols = cnp.PyArray_SIZE(token_ids)
    return cnp.PyArray_IS_C_CONTIGUOUS(token_ids) and is_apart(out, &ids)


cdef object gather_plain(const _c.fe_table *wte, object token_ids, const _c.fe_table *wpe, object position_ids, object start,
                         object out):
    """The result of a look-up in one table (wpe NULL) or two, or None if it takes more than this to answer it."""
    cdef PlainIds tokens, positions
    cdef _c.fe_array rows
    cdef _c.fe_status status
    cdef _c.fe_stop stop = NULL
    cdef bint is_new = out is None
    cdef cnp.npy_intp row_size = wte.n_cols * (4 if wte.dtype == _c.FE_F32 else 8)
    if position_ids is not None or not plain_ids(&tokens, token_ids):
        return None
    cdef int n_dims = tokens.n_dims
    cdef int64_t n_items = tokens.c.array.n_items
    if wpe != NULL:
        if not plain_start(&positions.c.start, start):
            return None
        init_arange(&positions.c, positions.c.start, tokens.shape[n_dims - 1] if n_dims > 0 else 1, n_items)
    tokens.shape[n_dims] = wte.n_cols
    cdef cnp.ndarray result
    if is_new:
        result = cnp.PyArray_SimpleNew(n_dims + 1, tokens.shape, numpy_type(wte))
    elif plain_out(out, &tokens, token_ids, wte, wpe):
        result = out
    else:
        return None
    _c.fe_array_init(&rows, <char *>cnp.PyArray_DATA(result), 1, &n_items, <const int64_t *>&row_size)
    if n_items * row_size < SMALL:
        status = _c.fe_gather_add(wte, &tokens.c, wpe, &positions.c, _c.FE_RAISE, &rows, is_new, NULL)
    else:
        stop = stop_for(n_items, wte)
        with nogil:
            status = _c.fe_gather_add(wte, &tokens.c, wpe, &positions.c, _c.FE_RAISE, &rows, is_new, stop)
    if status.code == _c.FE_STOPPED:
        raise_status(status, (), None)
    return result if status.code == _c.FE_OK else None


cdef object gather_few(const _c.fe_table *wte, const int64_t *token_ids, int64_t n_ids, int n_dims, const _c.fe_table *wpe,
                       int64_t start):
    """The result for a few tokens in a row (n_dims 1), or for one (n_dims 0); None if an id is out of range.

    Most of what this takes is the new array.
    """
    cdef cnp.npy_intp shape[2]
    shape[0], shape[n_dims] = n_ids, wte.n_cols
    cdef cnp.ndarray result = cnp.PyArray_SimpleNew(n_dims + 1, shape, numpy_type(wte))
    return result if _c.fe_gather_add_few(wte, token_ids, n_ids, wpe, start, <char *>cnp.PyArray_DATA(result)) else None


cdef bint is_few(object ids) noexcept:
    """A short array of int64 that C can read as it is."""
    if not cnp.PyArray_CheckExact(ids) or cnp.PyArray_NDIM(ids) != 1 or cnp.PyArray_TYPE(ids) != cnp.NPY_INT64:
        return False
    return cnp.PyArray_DIM(ids, 0) <= FEW_IDS and cnp.PyArray_ISCARRAY_RO(ids)


def try_gather(table, ids, out):
    """`gather` with bounds "raise", or None if its arguments need the checks of ops."""
    cdef _c.fe_table c_table
    if not cnp.PyArray_CheckExact(table) or not init_table(&c_table, table):
        return None
    return gather_plain(&c_table, ids, NULL, None, ZERO, out)


def try_gather_add(wte, token_ids, wpe, position_ids, start, out):
    """`gather_add` with bounds "raise", or None if its arguments need the checks of ops."""
    cdef _c.fe_table c_wte, c_wpe
    if not cnp.PyArray_CheckExact(wte) or not cnp.PyArray_CheckExact(wpe):
        return None
    if not init_table(&c_wte, wte) or not init_table(&c_wpe, wpe) or c_wte.dtype != c_wpe.dtype or c_wte.n_cols != c_wpe.n_cols:
        return None
    return gather_plain(&c_wte, token_ids, &c_wpe, position_ids, start, out)


# ---- layers ----

cdef class HeldTable:
    """A table's memory, kept in place by a typed memoryview for as long as this object lives."""
    cdef _c.fe_table c
    cdef const float[:, :] f32
    cdef const double[:, :] f64

    def __cinit__(self, cnp.ndarray array not None):
        need_table(&self.c, array)
        if self.c.dtype == _c.FE_F32:
            self.f32 = array
        else:
            self.f64 = array


cdef HeldTable held(object array):
    """None for a table that kernels cannot read in place."""
    cdef _c.fe_table table
    return HeldTable(array) if init_table(&table, array) else None


# A call of an object of a cdef class goes through a tuple of its arguments, and Cython's parsing of them: 40 of 110 ns for one token.
# The vectorcall protocol does without. Cython has no syntax for it, so that the slots are set by hand; a class that overrides
# __call__, or gets another one later, shows in its tp_call, and is then called through that.
cdef extern from *:
    """
    typedef PyObject *(*fe_vectorcall)(PyObject *, PyObject *const *, size_t, PyObject *);
    static void fe_set_vectorcall(PyObject *type, Py_ssize_t offset)
    {
        ((PyTypeObject *)type)->tp_vectorcall_offset = offset;
        ((PyTypeObject *)type)->tp_flags |= Py_TPFLAGS_HAVE_VECTORCALL;
    }
    static int fe_has_call_of(PyObject *self, PyObject *type)
    {
        return Py_TYPE(self)->tp_call == ((PyTypeObject *)type)->tp_call;
    }
    static PyObject *fe_tp_call(PyObject *self, PyObject *args, PyObject *kwargs)
    {
        return Py_TYPE(self)->tp_call(self, args, kwargs);
    }
    """
    ctypedef struct PyObject
    ctypedef void *fe_vectorcall
    void fe_set_vectorcall(object type, Py_ssize_t offset)
    bint fe_has_call_of(PyObject *self, PyObject *type)
    object fe_tp_call(PyObject *self, object args, object kwargs)
    Py_ssize_t PyVectorcall_NARGS(size_t nargsf)


cdef class Lookup:
    """What the layers inherit: a call that goes to C at once where it can, and to `_look_up` where it cannot."""
    cdef fe_vectorcall vectorcall
    cdef PyObject *type_of_call  # SingleLookup or PairLookup
    cdef public bint training

    def __cinit__(self):
        self.vectorcall = <fe_vectorcall>call_quickly
        fe_set_vectorcall(type(self), <char *>&self.vectorcall - <char *><PyObject *>self)  # CPython 3.11 does not hand it down

    cdef object quick(self, PyObject **args, Py_ssize_t n_args):
        """The result of a call with these positional arguments, or None if it takes more than C to answer it."""
        return None


cdef object call_quickly(PyObject *self, PyObject **args, size_t nargsf, PyObject *kwnames):
    cdef Py_ssize_t n_args = PyVectorcall_NARGS(nargsf), k
    cdef object result
    if kwnames == NULL and fe_has_call_of(self, (<Lookup>self).type_of_call):
        result = (<Lookup>self).quick(args, n_args)
        if result is not None:
            return result
    names = () if kwnames == NULL else <tuple>kwnames
    values = [<object>args[k] for k in range(n_args + len(names))]
    return fe_tp_call(self, tuple(values[:n_args]), dict(zip(names, values[n_args:])))


cdef class SingleLookup(Lookup):
    """What Embedding inherits."""
    cdef HeldTable _weight
    cdef public object _last_ids  # or None

    def __cinit__(self):
        self.type_of_call = <PyObject *>SingleLookup

    def _hold(self, array):
        self._weight = held(array)

    cdef object quick(self, PyObject **args, Py_ssize_t n_args):
        cdef object result
        if n_args != 1 or self._weight is None:
            return None
        result = gather_plain(&self._weight.c, <object>args[0], NULL, None, ZERO, None)
        if result is not None and self.training:
            self._last_ids = (<object>args[0],)
        return result

    def __call__(self, ids, *, out=None):
        """The rows of ``ids``, shape S + (D,). See `fastembed.gather`."""
        result = self._look_up(ids, out)
        if self.training:
            self._last_ids = (ids,)
        return result


cdef class PairLookup(Lookup):
    """What TokenPositionEmbedding inherits."""
    cdef HeldTable _wte
    cdef HeldTable _wpe
    cdef bint called
    cdef object token_ids, position_ids, start  # of the last call

    def __cinit__(self):
        self.type_of_call = <PyObject *>PairLookup

    def _hold(self, wte, wpe):
        self._wte, self._wpe = held(wte), held(wpe)

    @property
    def _last_ids(self):
        """(token_ids, position_ids, start) of the last call in train mode, or None: kept apart, because a tuple takes 20 ns."""
        return (self.token_ids, self.position_ids, self.start) if self.called else None

    @_last_ids.setter
    def _last_ids(self, value):
        self.called = value is not None
        self.token_ids, self.position_ids, self.start = (None, None, None) if value is None else value

    cdef object quick(self, PyObject **args, Py_ssize_t n_args):
        cdef object result, position_ids = None
        cdef cnp.ndarray ids
        if self._wte is None or self._wpe is None:
            return None
        cdef int overflow = 0, overflow_2 = 0
        cdef int64_t token = 0, position = 0
        if n_args == 1 and is_few(<object>args[0]):
            ids = <cnp.ndarray>args[0]
            result = gather_few(&self._wte.c, <int64_t *>cnp.PyArray_DATA(ids), cnp.PyArray_DIM(ids, 0), 1, &self._wpe.c, 0)
        elif n_args == 1:
            result = gather_plain(&self._wte.c, <object>args[0], &self._wpe.c, None, ZERO, None)
        elif n_args == 2 and PyLong_CheckExact(<object>args[0]) and PyLong_CheckExact(<object>args[1]):
            position_ids = <object>args[1]
            token = PyLong_AsLongLongAndOverflow(<object>args[0], &overflow)
            position = PyLong_AsLongLongAndOverflow(position_ids, &overflow_2)
            if overflow != 0 or overflow_2 != 0:
                return None
            result = gather_few(&self._wte.c, &token, 1, 0, &self._wpe.c, position)
        else:
            return None
        if result is not None and self.training:
            self.called = True
            self.token_ids, self.position_ids, self.start = <object>args[0], position_ids, ZERO
        return result

    def __call__(self, token_ids, position_ids=None, *, start=0, out=None):
        """Token rows plus position rows, shape S + (D,). See `fastembed.gather_add`."""
        result = self._look_up(token_ids, position_ids, start, out)
        if self.training:
            self._last_ids = (token_ids, position_ids, start)
        return result

