# What `_commit` cimports.
from . cimport _c


cdef class LazyTable:
    cdef _c.fe_lazy_table c  # c.n_steps steps are recorded
    cdef tuple arrays
    cdef int need_states(self, tuple states, object master) except -1
