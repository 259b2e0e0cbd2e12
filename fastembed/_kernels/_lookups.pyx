# Look-ups on the fast path, without checks in Python: plain tables and ids, positions from a start.
# Anything else, and any error, is left to the functional API, which says what is wrong.
cimport cython
cimport numpy as cnp
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_CheckExact
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_GET_ITEM
from libc.stdint cimport int64_t

from . cimport _c
from ._core cimport bfloat16_type, fe, init_arange, init_ids, numpy_type, raise_status, stop_for

cnp.import_array()

cdef extern from "numpy/arrayobject.h":
    cnp.ndarray PyArray_NewFromDescr(type subtype, cnp.dtype dtype, int n_dims, const cnp.npy_intp *shape,
                                     const cnp.npy_intp *strides, void *data, int flags, void *parent)

cdef enum:
    SMALL = 65536  # bytes of ids and rows for which releasing the GIL (50 ns) costs more than it gives

cdef cnp.dtype FLOAT32 = cnp.PyArray_DescrFromType(cnp.NPY_FLOAT32)
cdef int64_t FAR = 1 << 62  # a start below it is far from where adding positions would overflow


# ---- arguments ----

cdef inline int64_t int64_of(object number) noexcept:
    """The value of an int; for one beyond 64 bits -1, which is out of range for every table too."""
    cdef int overflow
    return PyLong_AsLongLongAndOverflow(number, &overflow)


cdef bint init_start(int64_t *first, object start) noexcept:
    """An int from 0 on, as the position of the first token."""
    if not PyLong_CheckExact(start):
        return False
    first[0] = int64_of(start)
    return 0 <= first[0] < FAR


cdef bint init_plain_ids(PlainIds *plain, object ids) noexcept:
    """Ids that are an int, a short list of ints, or an array of integers, of 64 bits at most."""
    cdef int k, overflow = 0
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
            if not PyLong_CheckExact(<object>PyList_GET_ITEM(ids, k)) or overflow:
                return False
            plain.values[k] = PyLong_AsLongLongAndOverflow(<object>PyList_GET_ITEM(ids, k), &overflow)
    else:
        return False
    if overflow:
        return False
    plain.c.type, plain.c.swapped = _c.FE_I64, False
    fe.array_init(&plain.c.array, <char *>plain.values, 1, <const int64_t *>&n_items, <const int64_t *>&stride)
    return True


cdef bint is_few(object ids) noexcept:
    """A short array of int64 that C can read as it is."""
    if not cnp.PyArray_CheckExact(ids) or cnp.PyArray_NDIM(ids) != 1 or cnp.PyArray_TYPE(ids) != cnp.NPY_INT64:
        return False
    return cnp.PyArray_DIM(ids, 0) <= FEW_IDS and cnp.PyArray_ISCARRAY_RO(ids)


cdef inline cnp.npy_intp row_bytes(const _c.fe_table *table) noexcept:
    return table.n_cols * (4 if table.dtype == _c.FE_F32 else 8 if table.dtype == _c.FE_F64 else 2)


cdef bint is_apart(cnp.ndarray out, const char *data, int64_t n_rows, int64_t row_stride, int64_t row_size) noexcept:
    """Whether a contiguous array lies wholly before or after the memory that rows span."""
    cdef int64_t span = (n_rows - 1) * row_stride
    cdef const char *first = data + (span if span < 0 else 0)
    cdef const char *last = data + (span if span > 0 else 0) + row_size
    cdef const char *begin = <char *>cnp.PyArray_DATA(out)
    return n_rows == 0 or begin >= last or begin + cnp.PyArray_NBYTES(out) <= first


cdef bint is_apart_from_table(cnp.ndarray out, const _c.fe_table *table) noexcept:
    return is_apart(out, table.data, table.n_rows, table.row_stride, row_bytes(table))


cdef bint is_apart_from_rows(cnp.ndarray out, cnp.ndarray rows) noexcept:
    """The same for a matrix whose rows have their elements side by side."""
    if cnp.PyArray_NDIM(rows) != 2:  # the owner of the array has changed its shape
        return False
    return is_apart(out, <char *>cnp.PyArray_DATA(rows), cnp.PyArray_DIM(rows, 0), cnp.PyArray_STRIDE(rows, 0),
                    cnp.PyArray_DIM(rows, 1) * cnp.PyArray_ITEMSIZE(rows))


cdef bint is_apart_from_array(cnp.ndarray out, cnp.ndarray array) noexcept:
    return is_apart(out, <char *>cnp.PyArray_DATA(array), 1, 0, cnp.PyArray_NBYTES(array))


cdef bint is_plain_out(object out, PlainIds *plain, object ids) noexcept:
    """Contiguous, of the right shape, and clearly apart from the ids."""
    cdef int k
    if not cnp.PyArray_CheckExact(out) or not cnp.PyArray_ISCARRAY(out) or cnp.PyArray_NDIM(out) != plain.n_dims + 1:
        return False
    for k in range(plain.n_dims + 1):
        if cnp.PyArray_DIM(out, k) != plain.shape[k]:
            return False
    return not cnp.PyArray_CheckExact(ids) or (cnp.PyArray_IS_C_CONTIGUOUS(ids) and is_apart_from_array(out, ids))


# ---- look-ups ----

cdef inline cnp.ndarray new_array(cnp.dtype dtype, int n_dims, const cnp.npy_intp *shape):
    """A new array for rows of a table. By number of a dtype NumPy takes 50 instructions more."""
    Py_INCREF(dtype)  # a reference that the call takes over
    return PyArray_NewFromDescr(cnp.ndarray, dtype, n_dims, shape, NULL, NULL, 0, NULL)


cdef inline cnp.ndarray new_rows(const _c.fe_table *table, int n_dims, const cnp.npy_intp *shape):
    return new_array(FLOAT32 if table.dtype == _c.FE_F32 else cnp.PyArray_DescrFromType(numpy_type(table.dtype)), n_dims, shape)


cdef cnp.ndarray plain_result(PlainIds *plain, object ids, cnp.ndarray table, object packing, cnp.dtype dtype, object out):
    """A new array of that dtype for rows of a table, or `out`, if it needs no more checks; else None.

    Packed rows are read as float32 or halves, others as what they are.
    """
    if out is None:
        return new_array(dtype, plain.n_dims + 1, plain.shape)
    if not is_plain_out(out, plain, ids) or not is_apart_from_rows(out, table):
        return None
    cdef int type = cnp.PyArray_TYPE(out)
    if packing is None:
        return out if type == cnp.PyArray_TYPE(table) else None
    if packing.scales is not None and not is_apart_from_rows(out, packing.scales):
        return None
    return out if type == cnp.NPY_FLOAT32 or type == cnp.NPY_FLOAT16 or type == bfloat16_type else None


cdef object gather_plain(const _c.fe_table *wte, object token_ids, const _c.fe_table *wpe, int64_t start, object out):
    """The result of a look-up in one table (wpe NULL) or two; None if it needs checks."""
    cdef PlainIds tokens
    cdef _c.fe_ids positions
    cdef _c.fe_array rows
    cdef _c.fe_status status
    cdef _c.fe_stop stop
    cdef bint is_new = out is None
    cdef cnp.npy_intp row_size = row_bytes(wte)
    if not init_plain_ids(&tokens, token_ids):
        return None
    cdef int n_dims = tokens.n_dims
    cdef int64_t n_items = tokens.c.array.n_items
    init_arange(&positions, start, tokens.shape[n_dims - 1] if n_dims > 0 else 1, n_items)
    tokens.shape[n_dims] = wte.n_cols
    cdef cnp.ndarray result
    if is_new:
        result = new_rows(wte, n_dims + 1, tokens.shape)
    elif (is_plain_out(out, &tokens, token_ids) and cnp.PyArray_TYPE(out) == numpy_type(wte.dtype)
            and is_apart_from_table(out, wte) and (wpe == NULL or is_apart_from_table(out, wpe))):
        result = out
    else:
        return None
    fe.array_init(&rows, <char *>cnp.PyArray_DATA(result), 1, &n_items, <const int64_t *>&row_size)
    rows.dtype = wte.dtype
    if n_items * (row_size + sizeof(int64_t)) < SMALL:
        status = fe.gather_add(wte, &tokens.c, wpe, &positions, _c.FE_RAISE, &rows, is_new, NULL)
    else:
        stop = stop_for(n_items, wte)
        with nogil:
            status = fe.gather_add(wte, &tokens.c, wpe, &positions, _c.FE_RAISE, &rows, is_new, stop)
    if status.code == _c.FE_STOPPED:
        raise_status(status, (), None)
    return result if status.code == _c.FE_OK else None


cdef object gather_few(const _c.fe_table *wte, const int64_t *token_ids, int64_t n_ids, int n_dims, const _c.fe_table *wpe,
                       int64_t start):
    """The result for a few tokens in a row (n_dims 1) or for one (n_dims 0); None for a bad id."""
    cdef cnp.npy_intp shape[2]
    shape[0], shape[n_dims] = n_ids, wte.n_cols
    cdef cnp.ndarray result = new_rows(wte, n_dims + 1, shape)
    return result if fe.gather_add_few(wte, token_ids, n_ids, wpe, start, <char *>cnp.PyArray_DATA(result)) else None


# ---- layers ----

cdef class HeldTable:
    """Declared in _lookups.pxd."""


# A call of an object of a cdef class makes a tuple of its arguments, which Cython then parses: that
# is 40 of 110 ns for one token. The vectorcall protocol does without. Cython has no syntax for it,
# so the slots are set by hand. A class that overrides __call__ has another tp_call, which is called
# then.
cdef extern from "Python.h":
    ctypedef struct PyObject
    ctypedef object (*ternaryfunc)(object self, object args, object kwargs)
    ctypedef struct PyTypeObject:
        ternaryfunc tp_call
        Py_ssize_t tp_vectorcall_offset
        unsigned long tp_flags
    PyTypeObject *Py_TYPE(object)
    Py_ssize_t PyVectorcall_NARGS(size_t nargsf)
    unsigned long Py_TPFLAGS_HAVE_VECTORCALL


cdef class Lookup:
    """A call that goes to C at once where it can, and to `__call__` where it cannot."""
    cdef void *vectorcall
    cdef ternaryfunc tp_call  # of SingleLookup or PairLookup
    cdef public bint training
    cdef public bint _fast_path  # set by the layer: a look-up does nothing but read rows
    cdef public tuple _held  # of `hold`

    def __cinit__(self):
        cdef PyTypeObject *of_layer = Py_TYPE(self)
        self.vectorcall = <void *>vectorcall
        of_layer.tp_vectorcall_offset = <char *>&self.vectorcall - <char *><PyObject *>self
        of_layer.tp_flags |= Py_TPFLAGS_HAVE_VECTORCALL  # CPython 3.11 does not inherit it

    cdef object look_up_fast(self, PyObject **args, Py_ssize_t n_args, PyObject *start, PyObject *out):
        """The result of a call with these arguments (NULL: not given), or None if it takes more than C."""
        return None  # a class of layers has its own

    # What a layer refers to is read and set in critical sections, which are nothing where Python
    # has its global lock: without it another thread may free what this one is about to hold.
    cdef inline tuple held_tables(self):
        """The tables, held by the caller too: another thread may resize the layer."""
        with cython.critical_section(self):
            return self._held


cdef object look_up_named(Lookup self, PyObject **args, Py_ssize_t n_args, tuple names):
    """The same with named arguments behind the others."""
    cdef object name
    cdef PyObject *start = NULL
    cdef PyObject *out = NULL
    for name in names:
        if name == "start":
            start = args[n_args]
        elif name == "out":
            out = args[n_args]
        else:
            return None
        args += 1
    return self.look_up_fast(args - len(names), n_args, start, out)


cdef object vectorcall(Lookup self, PyObject **args, size_t nargsf, PyObject *kwnames):
    cdef Py_ssize_t n_args = PyVectorcall_NARGS(nargsf), k
    cdef object result
    if self._fast_path and Py_TYPE(self).tp_call == self.tp_call:
        result = (self.look_up_fast(args, n_args, NULL, NULL) if kwnames == NULL
                  else look_up_named(self, args, n_args, <tuple>kwnames))
        if result is not None:
            return result
    names = () if kwnames == NULL else <tuple>kwnames
    cdef list values = [None] * (n_args + len(names))  # as in `hold` of _shared.pyx
    for k in range(n_args + len(names)):
        values[k] = <object>args[k]
    return Py_TYPE(self).tp_call(self, tuple(values[:n_args]), dict(zip(names, values[n_args:])))


cdef inline const _c.fe_table *table_of(tuple tables, Py_ssize_t k) noexcept:
    return &(<HeldTable>PyTuple_GET_ITEM(tables, k)).c


cdef class SingleLookup(Lookup):
    """What Embedding inherits."""
    cdef public object _last_ids  # or None

    def __cinit__(self):
        self.tp_call = (<PyTypeObject *>SingleLookup).tp_call

    cdef object look_up_fast(self, PyObject **args, Py_ssize_t n_args, PyObject *start, PyObject *out):
        cdef object result
        cdef tuple tables = self.held_tables()
        if n_args != 1 or tables is None or start != NULL:
            return None
        result = gather_plain(table_of(tables, 0), <object>args[0], NULL, 0, None if out == NULL else <object>out)
        if result is not None and self.training:
            with cython.critical_section(self):
                self._last_ids = (<object>args[0],)
        return result

    def __call__(self, ids, *, out=None, out_dtype=None):
        """The rows of ``ids``, shape S + (D,). See `fastembed.gather`."""
        return self.call(ids, out=out, out_dtype=out_dtype)[0]


cdef class PairLookup(Lookup):
    """What TokenPositionEmbedding inherits."""
    cdef object token_ids, position_ids, start  # of the last call; None without one

    def __cinit__(self):
        self.tp_call = (<PyTypeObject *>PairLookup).tp_call

    @property
    def _last_ids(self):
        """(token_ids, position_ids, start) of the last call in train mode, or None.

        They are kept apart, because a tuple takes 20 ns.
        """
        with cython.critical_section(self):
            return None if self.token_ids is None else (self.token_ids, self.position_ids, self.start)

    @_last_ids.setter
    def _last_ids(self, value):
        with cython.critical_section(self):
            self.token_ids, self.position_ids, self.start = (None, None, None) if value is None else value

    cdef object look_up_fast(self, PyObject **args, Py_ssize_t n_args, PyObject *start, PyObject *out):
        cdef object result, position_ids = None
        cdef cnp.ndarray ids
        cdef tuple tables = self.held_tables()
        cdef int64_t token, first = 0
        if tables is None or (start != NULL and not init_start(&first, <object>start)):
            return None
        cdef const _c.fe_table *wte = table_of(tables, 0)
        cdef const _c.fe_table *wpe = table_of(tables, 1)
        if n_args == 1 and out == NULL and is_few(<object>args[0]):
            ids = <cnp.ndarray>args[0]
            result = gather_few(wte, <int64_t *>cnp.PyArray_DATA(ids), cnp.PyArray_DIM(ids, 0), 1, wpe, first)
        elif n_args == 1:
            result = gather_plain(wte, <object>args[0], wpe, first, None if out == NULL else <object>out)
        elif (n_args == 2 and start == NULL and out == NULL and PyLong_CheckExact(<object>args[0])
                and PyLong_CheckExact(<object>args[1])):
            position_ids = <object>args[1]
            token = int64_of(<object>args[0])
            result = gather_few(wte, &token, 1, 0, wpe, int64_of(position_ids))
        else:
            return None
        if result is not None and self.training:
            with cython.critical_section(self):
                self.token_ids, self.position_ids = <object>args[0], position_ids
                self.start = 0 if start == NULL else <object>start
        return result

    def __call__(self, token_ids, position_ids=None, *, start=0, lengths=None, mask=None, type_ids=None, out=None,
                 out_dtype=None):
        """Token rows plus position rows, and what the layer's options make of them.

        Parameters
        ----------
        token_ids : array_like of integers, shape S
        position_ids : array_like of integers, broadcast to S, optional
            By default start, start + 1, ... along the last axis.
        start : int
            The position of the first token: how many tokens a cache already holds.
        lengths : array_like of integers, shape S[:-1], optional
            How many tokens of each sequence count; the places after them are padding.
        mask : array_like of booleans, broadcast to S, optional
            False where there is padding. Padded places give zeros and no gradient, whatever their
            ids are.
        type_ids : array_like of integers, broadcast to S, optional
            By default all 0; only in a layer with types.
        out : ndarray of shape S + (D,), optional
        out_dtype : {None, "float32"}
            As in `fastembed.gather`.

        Returns
        -------
        ndarray of shape S + (D,)
        """
        return self.call(token_ids, position_ids, start=start, lengths=lengths, mask=mask, type_ids=type_ids, out=out,
                         out_dtype=out_dtype)[0]
