# Calls that need no checks in Python: plain tables, plain ids, a new result. Anything else, and any error, is left to ops.

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


cdef inline cnp.npy_intp row_bytes(const _c.fe_table *table) noexcept:
    return table.n_cols * (4 if table.dtype == _c.FE_F32 else 8)


cdef bint is_apart(cnp.ndarray out, const char *data, int64_t n_rows, int64_t row_stride, int64_t row_size) noexcept:
    """Whether a contiguous array lies wholly before or after the memory that rows span. To the byte: neighbours are common."""
    cdef int64_t span = (n_rows - 1) * row_stride
    cdef const char *first = data + (span if span < 0 else 0)
    cdef const char *last = data + (span if span > 0 else 0) + row_size
    cdef const char *begin = <char *>cnp.PyArray_DATA(out)
    return n_rows == 0 or begin >= last or begin + cnp.PyArray_NBYTES(out) <= first


cdef bint is_apart_from_table(cnp.ndarray out, const _c.fe_table *table) noexcept:
    return is_apart(out, table.data, table.n_rows, table.row_stride, row_bytes(table))


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
    if not is_apart_from_table(out, wte) or (wpe != NULL and not is_apart_from_table(out, wpe)):
        return False
    if not cnp.PyArray_CheckExact(token_ids):
        return True
    return cnp.PyArray_IS_C_CONTIGUOUS(token_ids) and is_apart(out, <char *>cnp.PyArray_DATA(token_ids), 1, 0,
                                                               cnp.PyArray_NBYTES(token_ids))


cdef object gather_plain(const _c.fe_table *wte, object token_ids, const _c.fe_table *wpe, object position_ids, object start,
                         object out):
    """The result of a look-up in one table (wpe NULL) or two, or None if it takes more than this to answer it."""
    cdef PlainIds tokens, positions
    cdef _c.fe_array rows
    cdef _c.fe_status status
    cdef _c.fe_stop stop = NULL
    cdef bint is_new = out is None
    cdef cnp.npy_intp row_size = row_bytes(wte)
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
    cdef public bint _fast_path  # a look-up is nothing but a look-up: set by the layer, in one place

    def __cinit__(self):
        self.vectorcall = <fe_vectorcall>call_quickly
        fe_set_vectorcall(type(self), <char *>&self.vectorcall - <char *><PyObject *>self)  # CPython 3.11 does not hand it down

    cdef object quick(self, PyObject **args, Py_ssize_t n_args):
        """The result of a call with these positional arguments, or None if it takes more than C to answer it."""
        return None


cdef object call_quickly(PyObject *self, PyObject **args, size_t nargsf, PyObject *kwnames):
    cdef Py_ssize_t n_args = PyVectorcall_NARGS(nargsf), k
    cdef object result
    if kwnames == NULL and (<Lookup>self)._fast_path and fe_has_call_of(self, (<Lookup>self).type_of_call):
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
        cdef HeldTable weight = self._weight  # of this call, whatever a resize in another thread makes of the layer meanwhile
        if n_args != 1 or weight is None:
            return None
        result = gather_plain(&weight.c, <object>args[0], NULL, None, ZERO, None)
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
        cdef HeldTable wte = self._wte, wpe = self._wpe  # as in SingleLookup
        if wte is None or wpe is None:
            return None
        cdef int overflow = 0, overflow_2 = 0
        cdef int64_t token = 0, position = 0
        if n_args == 1 and is_few(<object>args[0]):
            ids = <cnp.ndarray>args[0]
            result = gather_few(&wte.c, <int64_t *>cnp.PyArray_DATA(ids), cnp.PyArray_DIM(ids, 0), 1, &wpe.c, 0)
        elif n_args == 1:
            result = gather_plain(&wte.c, <object>args[0], &wpe.c, None, ZERO, None)
        elif n_args == 2 and PyLong_CheckExact(<object>args[0]) and PyLong_CheckExact(<object>args[1]):
            position_ids = <object>args[1]
            token = PyLong_AsLongLongAndOverflow(<object>args[0], &overflow)
            position = PyLong_AsLongLongAndOverflow(position_ids, &overflow_2)
            if overflow != 0 or overflow_2 != 0:
                return None
            result = gather_few(&wte.c, &token, 1, 0, &wpe.c, position)
        else:
            return None
        if result is not None and self.training:
            self.called = True
            self.token_ids, self.position_ids, self.start = <object>args[0], position_ids, ZERO
        return result

    def __call__(self, token_ids, position_ids=None, *, start=0, lengths=None, mask=None, type_ids=None, out=None):
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
            False where there is padding. Padded places give zeros and no gradient, whatever their ids are.
        type_ids : array_like of integers, broadcast to S, optional
            By default all 0; only in a layer with types.
        out : ndarray of shape S + (D,), optional

        Returns
        -------
        ndarray of shape S + (D,)
        """
        return self._call(token_ids, position_ids, start, lengths, mask, type_ids, out)

