# What optimisers call: a table with its state and pending updates, and the gradients of a batch.
cimport numpy as cnp
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memset

from . cimport _c
from ._core cimport arithmetic, empty, fe, need_batch, need_numbers, need_stored_table, need_table, need_written

cnp.import_array()

N_SCALARS = sizeof(_c.fe_step) // sizeof(double)

cdef dict RULES = {
    "sgd": _c.FE_SGD,
    "adagrad": _c.FE_ADAGRAD,
    "row_wise_adagrad": _c.FE_ROWWISE_ADAGRAD,
    "adam": _c.FE_ADAM,
    "sparse_adam": _c.FE_SPARSE_ADAM,
}

cdef int need_like(_c.fe_table *table, cnp.ndarray array, const _c.fe_table *like, int64_t n_cols, str what) except -1:
    """A table of as many rows as another, and of the dtype of its arithmetic."""
    need_table(table, array)
    if table.dtype != arithmetic(like.dtype) or table.n_rows != like.n_rows or table.n_cols != n_cols:
        raise ValueError(f"shape or dtype of the {what} does not match the table")
    return 0


cdef class LazyTable:
    """A table, its states and its recorded steps, which stay in place while this object lives.

    `states` are arrays of the table's shape, or of one number for each row (row-wise Adagrad).
    `steps` has a row of N_SCALARS float64 for each step that can be recorded. The states of a table
    of halves, and its masters if there are any, are float32. `seed` is None for rounding to the nearest, else (seed, stream).
    """

    def __cinit__(self, str rule not None, cnp.ndarray table not None, tuple states not None, cnp.ndarray n_applied not None,
                  cnp.ndarray multipliers, cnp.ndarray steps not None, cnp.ndarray master=None, seed=None):
        self.c.rule = RULES[rule]
        need_stored_table(&self.c.table, table)
        self.c.is_stochastic = seed is not None
        self.c.seed, self.c.stream = (0, 0) if seed is None else seed
        self.need_states(states, master)
        self.c.n_applied = <int32_t *>need_written("n_applied", n_applied, cnp.NPY_INT32, self.c.table.n_rows)
        self.c.multipliers = <const double *>need_numbers("multipliers", multipliers, cnp.NPY_FLOAT64, self.c.table.n_rows)
        self.c.steps = <_c.fe_step *>need_written("steps", steps, cnp.NPY_FLOAT64, len(steps) * N_SCALARS)
        self.arrays = (table, states, master, n_applied, multipliers, steps)

    cdef int need_states(self, tuple states, object master) except -1:
        cdef int64_t n_cols = 1 if self.c.rule == _c.FE_ROWWISE_ADAGRAD else self.c.table.n_cols
        if len(states) > 2 or (not states and self.c.rule == _c.FE_ROWWISE_ADAGRAD):
            raise ValueError("states do not match the rule")
        for k, state in enumerate(states):
            if state is None:
                raise ValueError("states do not match the rule")
            need_like(&self.c.state[k], state, &self.c.table, n_cols, "state")
        if master is not None:
            if self.c.table.dtype != _c.FE_F16 and self.c.table.dtype != _c.FE_BF16:
                raise ValueError("masters are of a table of halves")
            need_like(&self.c.master, master, &self.c.table, self.c.table.n_cols, "masters")
        return 0

    @property
    def n_steps(self):
        """How many steps are recorded."""
        return self.c.n_steps

    def apply_pending(self, cnp.ndarray rows not None):
        """These rows take the recorded steps that they missed; -1 is no row."""
        cdef int64_t n_rows = cnp.PyArray_SIZE(rows)
        cdef const int64_t *c_rows = <const int64_t *>need_numbers("rows", rows, cnp.NPY_INT64, n_rows)
        with nogil:
            fe.apply_pending(&self.c, c_rows, n_rows)

    def apply_all(self):
        """All rows take the recorded steps that they missed, and none is recorded any more."""
        with nogil:
            fe.apply_pending(&self.c, NULL, 0)
            memset(self.c.n_applied, 0, <size_t>self.c.table.n_rows * sizeof(int32_t))
        self.c.n_steps = 0


def add_rows(cnp.ndarray sums not None, cnp.ndarray rows not None, cnp.ndarray order, cnp.ndarray factors, bint by_frequency,
             cnp.ndarray grads not None):
    """sums[rows[i]] += grads[order[i]] * factors[i], for sorted rows.

    With `by_frequency` each product is divided by how often its row occurs.
    """
    cdef _c.fe_table table
    cdef _c.fe_batch batch
    cdef _c.fe_array c_grads
    need_stored_table(&table, sums)
    need_batch(&batch, &c_grads, &table, rows, order, factors, by_frequency, grads)
    with nogil:
        fe.add_rows(&table, &batch)


def sort_rows(cnp.ndarray rows not None, int64_t n_rows):
    """(rows in ascending order, where each was), equal ones in their order; overwrites `rows`."""
    cdef int64_t n = cnp.PyArray_SIZE(rows)
    if n > 0x7FFFFFFF:
        raise ValueError(f"at most {0x7FFFFFFF} ids can be sorted at a time, got {n}")
    cdef cnp.ndarray in_order = empty(n, cnp.NPY_INT64), order = empty(n, cnp.NPY_INT32), scratch = empty(n, cnp.NPY_INT32)
    cdef int64_t *c_rows = <int64_t *>need_written("rows", rows, cnp.NPY_INT64, n)
    cdef int64_t *c_in_order = <int64_t *>cnp.PyArray_DATA(in_order)
    cdef int32_t *c_order = <int32_t *>cnp.PyArray_DATA(order)
    cdef int32_t *c_scratch = <int32_t *>cnp.PyArray_DATA(scratch)
    with nogil:
        fe.sort_rows(c_rows, n, n_rows, c_in_order, c_order, c_scratch)
    return in_order, order
