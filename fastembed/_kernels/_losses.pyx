# Losses of logits, with their gradients.
cimport numpy as cnp
from libc.stdint cimport int64_t

from . cimport _c
from ._core cimport empty, fe, need_numbers, need_table, numpy_type

import numpy as np

cnp.import_array()


def logistic(cnp.ndarray logits not None, cnp.ndarray targets not None, double divisor):
    """(the gradient of each logit over a divisor, its loss in float64), both of the logits' shape."""
    cdef _c.fe_table c_logits
    cdef cnp.ndarray row = logits.reshape(1, -1)
    cdef int64_t n_items = cnp.PyArray_SIZE(row)
    need_table(&c_logits, row)
    cdef const char *c_targets = <const char *>need_numbers("targets", targets, numpy_type(c_logits.dtype), n_items)
    cdef cnp.ndarray gradients = np.empty(np.shape(logits), logits.dtype), losses = np.empty(np.shape(logits))
    cdef char *c_gradients = <char *>cnp.PyArray_DATA(gradients)
    cdef double *c_losses = <double *>cnp.PyArray_DATA(losses)
    with nogil:
        fe.logistic(c_logits.dtype, c_logits.data, c_targets, n_items, divisor, c_gradients, c_losses)
    return gradients, losses


def cross_entropy(cnp.ndarray logits not None, cnp.ndarray targets not None, double divisor):
    """(the gradient of each row of logits over a divisor, its loss in float64); 0 for target -1."""
    cdef _c.fe_table c_logits, c_gradients
    cdef int64_t i
    need_table(&c_logits, logits)
    cdef const int64_t *c_targets = <const int64_t *>need_numbers("targets", targets, cnp.NPY_INT64, c_logits.n_rows)
    for i in range(c_logits.n_rows):
        if c_targets[i] < -1 or c_targets[i] >= c_logits.n_cols:
            raise ValueError("a target outside the row")
    cdef cnp.ndarray gradients = np.empty(np.shape(logits), logits.dtype)
    cdef cnp.ndarray losses = empty(c_logits.n_rows, cnp.NPY_FLOAT64)
    cdef double *c_losses = <double *>cnp.PyArray_DATA(losses)
    need_table(&c_gradients, gradients)
    with nogil:
        fe.cross_entropy(&c_logits, c_targets, divisor, &c_gradients, c_losses)
    return gradients, losses
