# What the optimisers call: a table with its state, the steps that its rows have yet to take, and the gradients of a batch.

_RULES = {
    "sgd": _c.FE_SGD,
    "adagrad": _c.FE_ADAGRAD,
    "row_wise_adagrad": _c.FE_ROWWISE_ADAGRAD,
    "adam": _c.FE_ADAM,
    "sparse_adam": _c.FE_SPARSE_ADAM,
}
N_SCALARS = sizeof(_c.fe_step) // sizeof(double)


cdef class Trained:
    """A table, its state arrays and what the recorded steps are kept in, held in place for as long as this object lives.

    `states` are arrays of the table's shape, or of one number for each row (row-wise Adagrad). `steps` has a row of N_SCALARS
    float64 for each step that can be recorded.
    """
    cdef _c.fe_trained c
    cdef tuple arrays
    cdef int32_t[::1] n_taken
    cdef const double[::1] multipliers
    cdef double[:, ::1] steps

    def __cinit__(self, str rule not None, cnp.ndarray table not None, tuple states not None, int32_t[::1] n_taken not None,
                  const double[::1] multipliers, double[:, ::1] steps not None):
        cdef int k
        self.c.rule = _RULES[rule]
        need_table(&self.c.table, table)
        self.c.state[0].data = self.c.state[1].data = NULL
        for k, state in enumerate(states):
            need_table(&self.c.state[k], state)
            if state.dtype != table.dtype or state.shape != (len(table), 1 if rule == "row_wise_adagrad" else self.c.table.n_cols):
                raise ValueError(f"a state of {state.shape} and {state.dtype} does not go with the table")
        if n_taken.shape[0] != len(table) or (multipliers is not None and multipliers.shape[0] != len(table)):
            raise ValueError(f"one number for each of {len(table)} rows is needed")
        if steps.shape[1] != N_SCALARS or steps.shape[0] == 0:
            raise ValueError(f"a step has {N_SCALARS} scalars")
        self.arrays = (table, states)
        self.n_taken, self.multipliers, self.steps = n_taken, multipliers, steps
        self.c.n_taken = &n_taken[0] if len(table) > 0 else NULL
        self.c.multipliers = &multipliers[0] if multipliers is not None and len(table) > 0 else NULL
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
            _c.fe_catch_up(&self.c, c_rows, n_rows)

    def train(self, int32_t n_steps, const double[::1] now not None, bint is_recorded, const int64_t[::1] rows not None,
              const int32_t[::1] order, const double[::1] factors, bint by_frequency, cnp.ndarray grads not None):
        """One step of the rows of a batch, each of which first takes those of `steps` that it has missed."""
        cdef _c.fe_batch batch
        cdef _c.fe_array c_grads
        need_batch(&batch, &c_grads, &self.c.table, rows, order, factors, by_frequency, grads)
        if now.shape[0] != N_SCALARS:
            raise ValueError(f"a step has {N_SCALARS} scalars")
        self.c.n_steps = n_steps
        with nogil:
            _c.fe_train(&self.c, <const _c.fe_step *>&now[0], is_recorded, &batch)


cdef int need_batch(_c.fe_batch *batch, _c.fe_array *c_grads, const _c.fe_table *table, const int64_t[::1] rows,
                    const int32_t[::1] order, const double[::1] factors, bint by_frequency, cnp.ndarray grads) except -1:
    """Rows of that table, sorted (not checked here), and the gradient of each."""
    cdef int n_dims = cnp.PyArray_NDIM(grads) - 1
    cdef int64_t n_items = rows.shape[0], i
    cdef int32_t largest = -1
    if n_dims < 0 or cnp.PyArray_TYPE(grads) != numpy_type(table) or cnp.PyArray_DIM(grads, n_dims) != table.n_cols:
        raise ValueError(f"gradients of {table.n_cols} columns are needed, got {np.shape(grads)} of {grads.dtype}")
    _c.fe_array_init(c_grads, <char *>cnp.PyArray_DATA(grads), n_dims, <const int64_t *>cnp.PyArray_DIMS(grads),
                     <const int64_t *>cnp.PyArray_STRIDES(grads))
    if order is None:
        largest = n_items - 1
    else:
        for i in range(order.shape[0]):
            largest = max(largest, order[i]) if order[i] >= 0 else 0x7FFFFFFF
    if (order is not None and order.shape[0] != n_items) or (factors is not None and factors.shape[0] != n_items):
        raise ValueError(f"{n_items} items need as many places and factors")
    if largest >= c_grads.n_items:
        raise ValueError(f"there are {c_grads.n_items} gradients, and one more was to be read")
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
    cdef cnp.ndarray in_order = np.empty(n, np.int64), order = np.empty(n, np.int32), scratch = np.empty(n, np.int32)
    cdef int64_t *c_rows = <int64_t *>cnp.PyArray_DATA(rows)
    cdef int64_t *c_in_order = <int64_t *>cnp.PyArray_DATA(in_order)
    cdef int32_t *c_order = <int32_t *>cnp.PyArray_DATA(order)
    cdef int32_t *c_scratch = <int32_t *>cnp.PyArray_DATA(scratch)
    with nogil:
        _c.fe_sort_rows(c_rows, n, n_rows, c_in_order, c_order, c_scratch)
    return in_order, order


def sum_powers(cnp.ndarray rows not None, double p):
    """The sum of |x|^p over each row of a matrix, in float64: 16 sums of every sixteenth element, joined in pairs; the maximum for inf."""
    cdef _c.fe_table table
    need_table(&table, rows)
    cdef cnp.ndarray sums = np.zeros(table.n_rows)
    cdef double *c_sums = <double *>cnp.PyArray_DATA(sums)
    with nogil:
        _c.fe_sum_powers(&table, p, c_sums)
    return sums
