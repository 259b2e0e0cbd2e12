# The memory of tables: what layers hold theirs by; of a shared table its rows, their versions, its
# journal.
cimport numpy as cnp
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

from . cimport _c
from ._core cimport bounds_of, fe, init_table, need_ids, need_numbers, need_rows_like, need_stored_table, raise_status, stop_for
from ._lookups cimport HeldTable

cnp.import_array()

cdef extern from "Python.h":
    int PyBuffer_FillInfo(Py_buffer *buffer, object owner, void *data, Py_ssize_t size, bint is_readonly, int flags) except -1
    object PyErr_SetFromErrno(object error)  # which it raises


cdef class HeldArray(HeldTable):
    """An array as a table, kept in place by a typed memoryview."""
    cdef const float[:, :] f32
    cdef const double[:, :] f64
    cdef const uint16_t[:, :] halves


cdef HeldArray held(cnp.ndarray array):
    """None for a table that C cannot read in place."""
    cdef HeldArray table = HeldArray()
    if not init_table(&table.c, array):
        return None
    if table.c.dtype == _c.FE_F32:
        table.f32 = array
    elif table.c.dtype == _c.FE_F64:
        table.f64 = array
    else:
        table.halves = array.view("u2")  # bfloat16 has no buffer
    return table


def hold(*arrays):
    """Tables for the fast path of a layer; None if C cannot read all of them in place."""
    # No comprehension: in Cython 3.3 one that cannot grow for want of memory frees its item twice.
    cdef list tables = [None] * len(arrays)
    cdef Py_ssize_t k
    for k in range(len(arrays)):
        tables[k] = held(arrays[k])
    return None if None in tables else tuple(tables)


cdef class SharedMemory:
    """A file, mapped from its beginning: a buffer, for arrays in it."""
    cdef char *data
    cdef cnp.npy_intp size
    cdef bint is_writable

    def __cinit__(self, int file, cnp.npy_intp size, bint is_writable):
        self.data = fe.map_file(file, size, is_writable)
        self.size, self.is_writable = size, is_writable
        if self.data == NULL:
            PyErr_SetFromErrno(OSError)

    def __dealloc__(self):
        if self.data != NULL:
            fe.unmap_file(self.data, self.size)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.data, self.size, not self.is_writable, flags)

    def use_large_pages(self, cnp.npy_intp size):
        """Put the first bytes into large pages, where the system can."""
        if not 0 <= size <= self.size:
            raise ValueError(f"{size} bytes of {self.size}")
        with nogil:
            fe.use_large_pages(self.data, size)

    def discard(self, cnp.npy_intp first):
        """Give the memory from that page on back, where the system can: it is then zeros."""
        if not 0 <= first <= self.size:
            raise ValueError(f"byte {first} of {self.size}")
        with nogil:
            fe.discard_pages(self.data + first, self.size - first)


cdef class SharedRows(HeldTable):
    """A shared table in a mapping of its memory, for look-ups, and in a writable one for changes.

    `rows` is the table, and the other arrays are what lies beside it: of uint64 the sequence number
    and the number of replacements, of uint32 the versions, of int64 the number of rows in
    the journal and which these are, the rows of the journal, and of int64 the place in it of the
    row that is being written.
    """
    cdef _c.fe_shared shared
    cdef uint64_t shown
    cdef readonly cnp.ndarray rows
    cdef tuple arrays
    cdef bint is_writable

    def __cinit__(self, cnp.ndarray rows not None, cnp.ndarray sequence not None, cnp.ndarray replaced not None,
                  cnp.ndarray versions not None, cnp.ndarray journal_size not None, cnp.ndarray journal_rows not None,
                  cnp.ndarray journal not None, cnp.ndarray position not None):
        cdef int64_t n_rows = cnp.PyArray_DIM(rows, 0)
        need_stored_table(&self.c, rows)
        if not cnp.PyArray_IS_C_CONTIGUOUS(rows) or not cnp.PyArray_SAMESHAPE(rows, journal):
            raise ValueError("the rows of a shared table lie side by side, and so do those of its journal")
        if not cnp.PyArray_IS_C_CONTIGUOUS(journal) or not cnp.PyArray_EquivArrTypes(rows, journal):
            raise ValueError("the journal of a shared table is of its dtype")
        self.shared.sequence = <uint64_t *>need_numbers("sequence", sequence, cnp.NPY_UINT64, 1)
        self.shared.replaced = <uint64_t *>need_numbers("replaced", replaced, cnp.NPY_UINT64, 1)
        self.shared.replaced_seen = self.shared.replaced[0]
        cdef int64_t n_versions = cnp.PyArray_SIZE(versions)
        if n_versions < 1 or n_versions & (n_versions - 1):
            raise ValueError(f"the number of versions is a power of two, got {n_versions}")
        self.shared.versions = <uint32_t *>need_numbers("versions", versions, cnp.NPY_UINT32, n_versions)
        self.shared.version_mask = n_versions - 1
        self.shared.journal_size = <int64_t *>need_numbers("journal_size", journal_size, cnp.NPY_INT64, 1)
        self.shared.journal_rows = <int64_t *>need_numbers("journal_rows", journal_rows, cnp.NPY_INT64, n_rows)
        self.shared.journal = <char *>cnp.PyArray_DATA(journal)
        self.shared.position = <int64_t *>need_numbers("position", position, cnp.NPY_INT64, 1)
        self.shared.shown = &self.shown
        self.c.shared = &self.shared
        self.rows = rows
        self.arrays = (sequence, replaced, versions, journal_size, journal_rows, journal, position)
        self.is_writable = cnp.PyArray_ISWRITEABLE(rows)

    @property
    def is_replaced(self):
        """Whether the name is to be looked at: this may not be its table any more."""
        return (self.shared.replaced_seen & 1) != 0 or fe.is_replaced(&self.shared)

    def set_replaced(self, bint is_done):
        """Let all processes look at the name: in each call, or when it `is_done` once more."""
        self.need_writable()
        fe.set_replaced(&self.shared, is_done)

    cdef int need_writable(self) except -1:
        if not self.is_writable:
            raise ValueError("a shared table that is only read")
        return 0

    def gather(self, cnp.ndarray ids not None, cnp.ndarray out not None, str bounds not None):
        """out[i] = row(ids[i]), each row whole; False if the name is to be looked at again first."""
        cdef _c.fe_ids c_ids
        cdef _c.fe_array c_out
        cdef _c.fe_bounds c_bounds = bounds_of(bounds)
        cdef _c.fe_status status
        need_ids(&c_ids, ids)
        need_rows_like(&c_out, out, &self.c, cnp.PyArray_NDIM(ids), cnp.PyArray_DIMS(ids))
        if c_out.dtype != self.c.dtype:
            raise ValueError("dtype of the rows does not match the table")
        cdef _c.fe_stop stop = stop_for(c_ids.array.n_items, &self.c)
        with nogil:
            status = fe.gather(&self.c, &c_ids, c_bounds, &c_out, False, stop)
        if status.code == _c.FE_REPLACED:
            return False
        if status.code != _c.FE_OK:
            raise_status(status, (("id", ids, self.c.n_rows),), ids)
        return True

    def read_at_once(self, cnp.ndarray rows, cnp.ndarray out not None):
        """out[i] = row(rows[i]), or all rows (None), of one moment; False if it did not succeed."""
        cdef int64_t n_rows = self.c.n_rows if rows is None else cnp.PyArray_SIZE(rows), k
        cdef const int64_t *c_rows = <const int64_t *>need_numbers("rows", rows, cnp.NPY_INT64, n_rows)
        cdef bint is_done
        if (cnp.PyArray_NDIM(out) != 2 or cnp.PyArray_DIM(out, 0) != n_rows or cnp.PyArray_DIM(out, 1) != self.c.n_cols
                or not cnp.PyArray_ISCARRAY(out) or not cnp.PyArray_EquivArrTypes(out, self.rows)):
            raise ValueError("shape or dtype of the result does not match the rows")
        if rows is not None:
            for k in range(n_rows):
                if not 0 <= c_rows[k] < self.c.n_rows:
                    raise ValueError(f"row {c_rows[k]} is not in a table of {self.c.n_rows} rows")
        with nogil:
            is_done = fe.read_at_once(&self.c, c_rows, n_rows, <char *>cnp.PyArray_DATA(out))
        return is_done

    def publish(self, cnp.ndarray source not None, cnp.ndarray rows not None):
        """Rows (int64, sorted; -1 is no row) become those of a table of the same shape and dtype."""
        cdef _c.fe_table c_source
        cdef int64_t n_rows = cnp.PyArray_SIZE(rows), k
        cdef const int64_t *c_rows = <const int64_t *>need_numbers("rows", rows, cnp.NPY_INT64, n_rows)
        self.need_writable()
        need_stored_table(&c_source, source)
        if c_source.dtype != self.c.dtype or c_source.n_rows != self.c.n_rows or c_source.n_cols != self.c.n_cols:
            raise ValueError("shape or dtype of the source does not match the shared table")
        for k in range(n_rows):
            if not -1 <= c_rows[k] < self.c.n_rows or (k > 0 and c_rows[k] < c_rows[k - 1]):
                raise ValueError(f"row {c_rows[k]} is not in its place in a list for a table of {self.c.n_rows} rows")
        with nogil:
            fe.publish_rows(&self.c, &c_source, c_rows, n_rows)
