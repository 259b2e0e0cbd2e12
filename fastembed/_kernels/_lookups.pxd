# What other modules need of look-ups: what layers hold their tables by, and arguments that need no
# checks in Python.
cimport numpy as cnp
from libc.stdint cimport int64_t

from . cimport _c

cdef enum:
    FEW_IDS = 64  # of a list that is read without an array, and of an array for `gather_few`


cdef class HeldTable:
    """A table's memory, kept in place for as long as this object lives."""
    cdef _c.fe_table c


cdef struct PlainIds:
    _c.fe_ids c
    int64_t values[FEW_IDS]  # of an int, or a list of ints
    int n_dims
    cnp.npy_intp shape[33]  # of the result: the ids' shape, and room for the columns

cdef bint init_start(int64_t *first, object start) noexcept
cdef bint init_plain_ids(PlainIds *plain, object ids) noexcept
cdef bint is_apart_from_array(cnp.ndarray out, cnp.ndarray array) noexcept
cdef object gather_plain(const _c.fe_table *wte, object token_ids, const _c.fe_table *wpe, int64_t start, object out)
cdef cnp.ndarray plain_result(PlainIds *plain, object ids, cnp.ndarray table, object packing, cnp.dtype dtype, object out)


cdef inline bint are_plain_bounds(object bounds) except -1:
    """Whether an id out of range is an error; a word that is none of the bounds is left to checks."""
    return type(bounds) is str and bounds == "raise"
