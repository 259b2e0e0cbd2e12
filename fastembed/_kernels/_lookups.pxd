# What layers hold their tables by, for other modules that make such.
from . cimport _c


cdef class HeldTable:
    """A table's memory, kept in place for as long as this object lives."""
    cdef _c.fe_table c
