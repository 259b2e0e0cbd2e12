# What a call writes, as one: prepared first, which can fail, then written, which cannot.
cimport numpy as cnp
from cpython.dict cimport PyDict_Check, PyDict_SetItem
from cpython.list cimport PyList_Check, PyList_GET_ITEM, PyList_GET_SIZE, PyList_SetItem
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int64_t
from libc.string cimport memcpy

from . cimport _c
from ._core cimport fe, need_batch, need_numbers, need_stored_table, need_written
from ._updates cimport LazyTable

from ._updates import N_SCALARS

cnp.import_array()

cdef extern from "Python.h":
    int PyObject_GenericSetAttr(object owner, object name, object value)  # which does not fail here


cdef class Write:
    cdef void write(self) noexcept:
        pass


cdef class StepWrite(Write):
    """One step of the rows of a batch, after the recorded steps that they missed."""
    cdef LazyTable table
    cdef _c.fe_step step
    cdef bint is_recorded
    cdef _c.fe_batch batch
    cdef _c.fe_array grads
    cdef tuple arrays

    cdef void write(self) noexcept:
        with nogil:
            fe.apply_step(&self.table.c, &self.step, self.is_recorded, &self.batch)
        if self.is_recorded:
            self.table.c.steps[self.table.c.n_steps] = self.step
            self.table.c.n_steps += 1


cdef class GradientsWrite(Write):
    """Rows of a table to which gradients are added, each rounded once."""
    cdef _c.fe_table table
    cdef _c.fe_batch batch
    cdef _c.fe_array grads
    cdef tuple arrays

    cdef void write(self) noexcept:
        with nogil:
            fe.add_rows(&self.table, &self.batch)


cdef class CopyWrite(Write):
    """The elements of an array become those of another one."""
    cdef cnp.ndarray target, source

    cdef void write(self) noexcept:
        cdef char *to = <char *>cnp.PyArray_DATA(self.target)
        if cnp.PyArray_SIZE(self.target) > 0:
            copy_axes(to, <const char *>cnp.PyArray_DATA(self.source), self.target, self.source, 0)


cdef void copy_axes(char *to, const char *source, cnp.ndarray target, cnp.ndarray like, int axis) noexcept:
    """Copy the axes from one on, of arrays of one shape: `target`, and `like` for the source."""
    cdef int n_left = cnp.PyArray_NDIM(target) - axis
    cdef cnp.npy_intp k, n = 1, size = cnp.PyArray_ITEMSIZE(target)
    if n_left > 0:
        n = cnp.PyArray_DIM(target, axis)
    if n_left == 0 or (n_left == 1 and cnp.PyArray_STRIDE(target, axis) == size and cnp.PyArray_STRIDE(like, axis) == size):
        memcpy(to, source, <size_t>(n * size))
        return
    for k in range(n):
        copy_axes(to + k * cnp.PyArray_STRIDE(target, axis), source + k * cnp.PyArray_STRIDE(like, axis), target, like, axis + 1)


cdef class CountWrite(Write):
    """counts[row] += 1 for each of some rows; -1 is no row."""
    cdef int64_t *counts
    cdef const int64_t *rows
    cdef int64_t n_counts, n_rows
    cdef tuple arrays

    cdef void write(self) noexcept:
        cdef int64_t i
        for i in range(self.n_rows):
            if 0 <= self.rows[i] < self.n_counts:
                self.counts[self.rows[i]] += 1


cdef class AttributeWrite(Write):
    cdef object owner, name, value, replaced  # the old value lives until all is written: freeing it may run Python code

    cdef void write(self) noexcept:
        PyObject_GenericSetAttr(self.owner, self.name, self.value)


cdef class ItemWrite(Write):
    """An item of a dict or a list, past the `__setitem__` of its class, which may run Python code."""
    cdef object container, key, value, replaced

    cdef void write(self) noexcept:
        if PyDict_Check(self.container):
            PyDict_SetItem(self.container, self.key, self.value)
        else:
            Py_INCREF(self.value)
            PyList_SetItem(self.container, self.key, self.value)


cdef class Commit:
    """Writes that happen together, all or none.

    `run` allocates no memory and runs no Python code, so that neither a lack of memory nor the
    handler of a signal can come between two of them. All that can fail does so before, when a
    write is added.
    """
    cdef list writes

    def __cinit__(self):
        self.writes = []

    def add_step(self, LazyTable table not None, cnp.ndarray step not None, bint is_recorded, cnp.ndarray rows not None,
                 cnp.ndarray order, cnp.ndarray factors, bint by_frequency, cnp.ndarray grads not None):
        """One step of a table; the caller has left room for it among the recorded ones."""
        cdef StepWrite write = StepWrite()
        need_batch(&write.batch, &write.grads, &table.c.table, rows, order, factors, by_frequency, grads)
        write.step = (<const _c.fe_step *>need_numbers("step", step, cnp.NPY_FLOAT64, N_SCALARS))[0]
        write.table, write.is_recorded, write.arrays = table, is_recorded, (rows, order, factors, grads)
        self.writes.append(write)

    def add_gradients(self, cnp.ndarray table not None, cnp.ndarray rows not None, cnp.ndarray order, cnp.ndarray factors,
                      bint by_frequency, cnp.ndarray grads not None):
        """As `add_rows` of the kernels, which adds gradients to rows of a table."""
        cdef GradientsWrite write = GradientsWrite()
        need_stored_table(&write.table, table)
        need_batch(&write.batch, &write.grads, &write.table, rows, order, factors, by_frequency, grads)
        write.arrays = (table, rows, order, factors, grads)
        self.writes.append(write)

    def add_copy(self, cnp.ndarray target not None, cnp.ndarray source not None):
        """The elements of an array become those of another of its shape and dtype."""
        cdef CopyWrite write = CopyWrite()
        if not cnp.PyArray_SAMESHAPE(target, source) or not cnp.PyArray_EquivArrTypes(target, source):
            raise ValueError("shape or dtype of the source does not match the target")
        write.target, write.source = target, source
        self.writes.append(write)

    def add_counts(self, cnp.ndarray counts not None, cnp.ndarray rows not None):
        """Each of some rows, -1 for none, is counted once more."""
        cdef CountWrite write = CountWrite()
        write.n_counts, write.n_rows = cnp.PyArray_SIZE(counts), cnp.PyArray_SIZE(rows)
        write.counts = <int64_t *>need_written("counts", counts, cnp.NPY_INT64, write.n_counts)
        write.rows = <const int64_t *>need_numbers("rows", rows, cnp.NPY_INT64, write.n_rows)
        write.arrays = (counts, rows)
        self.writes.append(write)

    def set_attribute(self, owner, str name not None, value):
        """An attribute that an object has already in its `__dict__` becomes another."""
        cdef AttributeWrite write = AttributeWrite()
        write.owner, write.name, write.value, write.replaced = owner, name, value, getattr(owner, name)
        self.writes.append(write)

    def set_item(self, container, key, value):
        """What a dict has already under a name, or a list at a place, becomes another."""
        cdef ItemWrite write = ItemWrite()
        if not PyDict_Check(container) and not PyList_Check(container):
            raise TypeError("items are set of a dict or a list")
        write.container, write.key, write.value, write.replaced = container, key, value, container[key]
        self.writes.append(write)

    def run(self):
        """Write all of it."""
        cdef Py_ssize_t k
        for k in range(PyList_GET_SIZE(self.writes)):
            (<Write>PyList_GET_ITEM(self.writes, k)).write()
