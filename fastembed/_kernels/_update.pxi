# What the optimisers call: a table with its state, the steps that its rows have yet to take, and the gradients of a batch.

_RULES = {
    "sgd": _c.FE_SGD,
    "adagrad": _c.FE_ADAGRAD,
    "row_wise_adagrad": _c.FE_ROWWISE_ADAGRAD,
    "adam": _c.FE_ADAM,
    "sparse_adam": _c.FE_SPARSE_ADAM,
}
N_SCALARS = sizeof(_c.fe_step) // sizeof(double)


_STORAGES = {None: _c.FE_AS_DTYPE, "float16": _c.FE_F16, "bfloat16": _c.FE_BF16}


cdef int need_halves(_c.fe_table *table, cnp.ndarray array) except -1:
    """A table of 2 bytes an element, for arithmetic in float32."""
    if cnp.PyArray_NDIM(array) != 2 or cnp.PyArray_TYPE(array) != cnp.NPY_UINT16 or not cnp.PyArray_ISNOTSWAPPED(array):
        raise ValueError("a table of halves must come as native uint16")
    table.dtype = _c.FE_F32
    table.data = <char *>cnp.PyArray_DATA(array)
    table.n_rows, table.n_cols = cnp.PyArray_DIM(array, 0), cnp.PyArray_DIM(array, 1)
    table.row_stride = cnp.PyArray_STRIDE(array, 0)
    if table.n_cols > 1 and table.n_rows > 0 and cnp.PyArray_STRIDE(array, 1) != 2:
        raise ValueError("the elements of a row must lie side by side")
    return 0


cdef bint has_shape(const _c.fe_table *table, int64_t n_rows, int64_t n_cols) noexcept:
    return table.n_rows == n_rows and table.n_cols == n_cols


cdef class Trained:
    """A table, its state arrays and what the recorded steps are kept in, held in place for as long as this object lives.

    `states` are arrays of the table's shape, or of one number for each row (row-wise Adagrad). `steps` has a row of N_SCALARS
    float64 for each step that can be recorded. A table of uint16 holds the bits of `storage` ("float16" or "bfloat16"); its states, and
    its masters if there are any, are float32. `seed` is None for rounding to the nearest, else (seed, stream).
    """
    cdef _c.fe_lazy_table c
    cdef tuple arrays
    cdef int32_t[::1] n_taken
    cdef const double[::1] multipliers
    cdef double[:, ::1] steps

    def __cinit__(self, str rule not None, cnp.ndarray table not None, tuple states not None, int32_t[::1] n_taken not None,
                  const double[::1] multipliers, double[:, ::1] steps not None, storage=None, cnp.ndarray master=None, seed=None):
        cdef int k
        cdef cnp.ndarray state
        cdef int64_t n_rows
        self.c.rule = _RULES[rule]
        self.c.storage = _STORAGES[storage]
        if storage is None:
            need_table(&self.c.table, table)
        else:
            need_halves(&self.c.table, table)
        n_rows = self.c.table.n_rows
        self.c.is_stochastic = seed is not None
        self.c.seed = self.c.stream = 0
        if seed is not None:
            self.c.seed, self.c.stream = seed
        self.c.master.data = NULL
        if master is not None:
            need_table(&self.c.master, master)
            if storage is None or self.c.master.dtype != _c.FE_F32 or not has_shape(&self.c.master, n_rows, self.c.table.n_cols):
                raise ValueError("masters that do not go with the table")
        self.c.state[0].data = self.c.state[1].data = NULL
        if len(states) > 2 or (not states and self.c.rule == _c.FE_ROWWISE_ADAGRAD):
            raise ValueError("states that do not go with the rule")
        for k, state in enumerate(states):
            if state is None:
                raise ValueError("states that do not go with the rule")
            need_table(&self.c.state[k], state)
            if (self.c.state[k].dtype != self.c.table.dtype
                    or not has_shape(&self.c.state[k], n_rows, 1 if self.c.rule == _c.FE_ROWWISE_ADAGRAD else self.c.table.n_cols)):
                raise ValueError("a state that does not go with the table")
        if n_taken.shape[0] != n_rows or (multipliers is not None and multipliers.shape[0] != n_rows):
            raise ValueError("one number for each row is needed")
        if steps.shape[1] != N_SCALARS or steps.shape[0] == 0:
            raise ValueError("a step has N_SCALARS scalars")
        self.arrays = (table, states, master)
        self.n_taken, self.multipliers, self.steps = n_taken, multipliers, steps
        self.c.n_applied = &n_taken[0] if n_rows > 0 else NULL
        self.c.multipliers = &multipliers[0] if multipliers is not None and n_rows > 0 else NULL
        self.c.steps = <_c.fe_step *>&steps[0, 0]

    def catch_up(self, int32_t n_steps, const int64_t[::1] rows):
        """Rows, or all rows for None, take the first n_steps of `steps` as far as they have not."""
        cdef int64_t n_rows = 0 if rows is None else rows.shape[0]
        cdef const int64_t *c_rows = NULL
        if rows is not None and n_rows == 0:
            return
        if rows is not None:
            c_rows = &rows[0]
        self.c.n_steps = n_steps
        with nogil:
            _c.fe_apply_pending(&self.c, c_rows, n_rows)

    def train(self, int32_t n_steps, const double[::1] now not None, bint is_recorded, const int64_t[::1] rows not None,
              const int32_t[::1] order, const double[::1] factors, bint by_frequency, cnp.ndarray grads not None):
        """One step of the rows of a batch, each of which first takes those of `steps` that it has missed."""
        cdef _c.fe_batch batch
        cdef _c.fe_array c_grads
        need_batch(&batch, &c_grads, &self.c.table, rows, order, factors, by_frequency, grads)
        if now.shape[0] != N_SCALARS:
            raise ValueError("a step has N_SCALARS scalars")
        self.c.n_steps = n_steps
        with nogil:
            _c.fe_apply_step(&self.c, <const _c.fe_step *>&now[0], is_recorded, &batch)


cdef int need_batch(_c.fe_batch *batch, _c.fe_array *c_grads, const _c.fe_table *table, const int64_t[::1] rows,
                    const int32_t[::1] order, const double[::1] factors, bint by_frequency, cnp.ndarray grads) except -1:
    """Rows of that table, sorted (not checked here), and the gradient of each."""
    cdef int n_dims = cnp.PyArray_NDIM(grads) - 1
    cdef int64_t n_items = rows.shape[0], i
    cdef int32_t largest = -1
    if not holds_rows(grads, table, n_dims, cnp.PyArray_DIMS(grads)):
        raise ValueError("gradients that do not go with the table")
    _c.fe_array_init(c_grads, <char *>cnp.PyArray_DATA(grads), n_dims, <const int64_t *>cnp.PyArray_DIMS(grads),
                     <const int64_t *>cnp.PyArray_STRIDES(grads))
    if order is None:
        largest = n_items - 1
    else:
        for i in range(order.shape[0]):
            largest = max(largest, order[i]) if order[i] >= 0 else 0x7FFFFFFF
    if (order is not None and order.shape[0] != n_items) or (factors is not None and factors.shape[0] != n_items):
        raise ValueError("items need as many places and factors")
    if largest >= c_grads.n_items:
        raise ValueError("a place outside the gradients")
    batch.rows = &rows[0] if n_items > 0 else NULL
    batch.order = &order[0] if order is not None and n_items > 0 else NULL
    batch.factors = &factors[0] if factors is not None and n_items > 0 else NULL
    batch.by_frequency = by_frequency
    batch.n_items = n_items
    batch.grads = c_grads
    return 0


def add_rows(cnp.ndarray sums not None, const int64_t[::1] rows not None, const int32_t[::1] order, const double[::1] factors,
             bint by_frequency, cnp.ndarray grads not None):
    """sums[rows[i]] += grads[order[i]] * factors[i], or that / how often the row occurs, for sorted rows."""
    cdef _c.fe_table table
    cdef _c.fe_batch batch
    cdef _c.fe_array c_grads
    need_table(&table, sums)
    need_batch(&batch, &c_grads, &table, rows, order, factors, by_frequency, grads)
    with nogil:
        _c.fe_add_rows(&table, &batch)


def sort_rows(cnp.ndarray rows not None, int64_t n_rows):
    """(rows in ascending order, where each was), equal ones in their order; `rows`, of int64 in any shape, is overwritten."""
    cdef int64_t n = cnp.PyArray_SIZE(rows)
    if n > 0x7FFFFFFF:
        raise ValueError(f"at most {0x7FFFFFFF} ids can be sorted at a time, got {n}")
    if cnp.PyArray_TYPE(rows) != cnp.NPY_INT64 or not cnp.PyArray_ISCARRAY(rows):
        raise ValueError("rows must be a contiguous array of int64")
    cdef cnp.ndarray in_order = empty(n, cnp.NPY_INT64), order = empty(n, cnp.NPY_INT32), scratch = empty(n, cnp.NPY_INT32)
    cdef int64_t *c_rows = <int64_t *>cnp.PyArray_DATA(rows)
    cdef int64_t *c_in_order = <int64_t *>cnp.PyArray_DATA(in_order)
    cdef int32_t *c_order = <int32_t *>cnp.PyArray_DATA(order)
    cdef int32_t *c_scratch = <int32_t *>cnp.PyArray_DATA(scratch)
    with nogil:
        _c.fe_sort_rows(c_rows, n, n_rows, c_in_order, c_order, c_scratch)
    return in_order, order


def products(cnp.ndarray rows not None, cnp.ndarray queries not None):
    """Each row of a matrix times each query, shape (queries, rows), and times itself; summed in 16 parts."""
    cdef _c.fe_table c_rows, c_queries
    need_table(&c_rows, rows)
    need_table(&c_queries, queries)
    need_pair(&c_rows, &c_queries)
    cdef cnp.ndarray result = np.empty((c_queries.n_rows, c_rows.n_rows), rows.dtype)
    cdef cnp.ndarray squares = empty(c_rows.n_rows, numpy_type(&c_rows))
    cdef char *c_result = <char *>cnp.PyArray_DATA(result)
    cdef char *c_squares = <char *>cnp.PyArray_DATA(squares)
    with nogil:
        _c.fe_products(&c_rows, &c_queries, c_result, c_squares)
    return result, squares


def sum_powers(cnp.ndarray rows not None, double p):
    """The sum of |x|^p over each row of a matrix, in float64: 16 sums of every sixteenth element, joined in pairs; the maximum for inf."""
    cdef _c.fe_table table
    need_table(&table, rows)
    cdef cnp.ndarray sums = empty(table.n_rows, cnp.NPY_FLOAT64)
    cdef double *c_sums = <double *>cnp.PyArray_DATA(sums)
    with nogil:
        _c.fe_sum_powers(&table, p, c_sums)
    return sums


# ---- rows of a mapped file ----

cdef int need_mapped(_c.fe_mapped_rows *mapped, cnp.ndarray array) except -1:
    if cnp.PyArray_NDIM(array) < 1 or not cnp.PyArray_IS_C_CONTIGUOUS(array):
        raise ValueError("rows of a mapped file lie side by side")
    mapped.data, mapped.n_rows = <char *>cnp.PyArray_DATA(array), cnp.PyArray_DIM(array, 0)
    mapped.row_size = cnp.PyArray_NBYTES(array) // mapped.n_rows if mapped.n_rows > 0 else 0
    return 0


def is_absent(cnp.ndarray table not None, const int64_t[::1] rows not None):
    """Whether some of these rows of a mapped file seem not to be in memory."""
    cdef _c.fe_mapped_rows mapped
    cdef bint result
    need_mapped(&mapped, table)
    if rows.shape[0] == 0:
        return False
    with nogil:
        result = _c.fe_any_nonresident(&mapped, &rows[0], rows.shape[0])
    return result


def advise(cnp.ndarray table not None, const int64_t[::1] rows not None, bint is_over):
    """These sorted rows of a mapped file will be read soon; or (is_over) they hold what the file holds, and their memory may go."""
    cdef _c.fe_mapped_rows mapped
    need_mapped(&mapped, table)
    if rows.shape[0] > 0:
        with nogil:
            if is_over:
                _c.fe_release_pages(&mapped, &rows[0], rows.shape[0])
            else:
                _c.fe_prefetch_pages(&mapped, &rows[0], rows.shape[0])
