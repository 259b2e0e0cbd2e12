# The custom calls of XLA, as capsules that JAX registers.
from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport int32_t

from ._core cimport fe


def xla_handlers():
    """The handlers of src_c/xla.c by name."""
    cdef const char *name
    cdef int32_t k = 0
    handlers = {}
    while fe.xla_handler(k, &name) != NULL:
        handlers[name.decode()] = PyCapsule_New(fe.xla_handler(k, &name), "xla._CUSTOM_CALL_TARGET", NULL)
        k += 1
    return handlers
