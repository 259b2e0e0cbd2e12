# Rows of files, read by their numbers into a cache that is an array of bytes.
cimport cython
cimport numpy as cnp
from libc.stdint cimport INT64_MAX, int32_t, int64_t
from libc.stdlib cimport free, malloc

from . cimport _c
from ._core cimport fe, need_numbers, need_written, stop_for

cnp.import_array()


def disk_slot_size(int32_t n_parts):
    """Bytes of memory for each slot of a cache beside its row."""
    return fe.disk_slot_size(n_parts)


cdef int need_segments(_c.fe_disk_segment *segments, list described, int64_t row_size) except -1:
    """(file, start, rows) of each segment, in the order of their rows."""
    cdef int64_t first = 0, k
    for k, (file, start, n_rows) in enumerate(described):
        segments[k].file, segments[k].start, segments[k].n_rows = file, start, n_rows
        segments[k].first_row = first
        if not (0 <= start <= INT64_MAX // 4 and 0 < n_rows <= INT64_MAX // 4 // max(row_size, 1) and row_size > 0):
            raise ValueError("a segment has rows, within what a file can hold")
        first += segments[k].n_rows
    return 0


cdef class DiskRows:
    """Rows of files in a cache: `cache` is uint8 of shape (slots, bytes of a row).

    `parts` are (bytes of a row, segments) of each part, a segment (file, start, rows). Files stay
    open until after `close`.
    """

    cdef _c.fe_disk *disk
    cdef cnp.ndarray cache

    def __cinit__(self, cnp.ndarray cache not None, list parts not None, int32_t depth, bint may_use_uring):
        cdef int64_t n_slots = cnp.PyArray_DIM(cache, 0) if cnp.PyArray_NDIM(cache) == 2 else 0
        cdef int64_t n_segments = 0, k = 0, row_size = 0
        for _, segments in parts:
            n_segments += len(segments)
        cdef int32_t n_parts = len(parts), p
        if n_parts < 1 or not 4 <= n_slots < (1 << 30) // n_parts or not 1 <= depth <= 4096:
            raise ValueError("at least one part, four slots and one read at a time, and not too many")
        cdef void *data = need_written("cache", cache, cnp.NPY_UINT8, cnp.PyArray_SIZE(cache))
        cdef _c.fe_disk_part *c_parts = <_c.fe_disk_part *>malloc(n_parts * sizeof(_c.fe_disk_part))
        cdef _c.fe_disk_segment *c_segments = <_c.fe_disk_segment *>malloc(max(n_segments, 1) * sizeof(_c.fe_disk_segment))
        cdef _c.fe_disk_options options
        try:
            if c_parts == NULL or c_segments == NULL:
                raise MemoryError("no memory for the places of rows")
            for p, (size, segments) in enumerate(parts):
                c_parts[p].segments, c_parts[p].n_segments, c_parts[p].size = c_segments + k, len(segments), size
                need_segments(c_segments + k, segments, size)
                k += c_parts[p].n_segments
                row_size += c_parts[p].size
                if c_parts[p].n_segments == 0 or row_size > cnp.PyArray_DIM(cache, 1):
                    raise ValueError("a part has segments and fits into the cache")
            if row_size != cnp.PyArray_DIM(cache, 1):
                raise ValueError("the parts make a row of the cache")
            options.parts, options.n_parts, options.depth = c_parts, n_parts, depth
            options.data, options.n_slots, options.may_use_uring = <char *>data, n_slots, may_use_uring
            self.cache = cache
            with nogil:
                self.disk = fe.disk_open(&options)
            if self.disk == NULL:
                raise MemoryError(f"no memory for a cache of {n_slots} rows")
        finally:
            free(c_parts)
            free(c_segments)

    def __dealloc__(self):
        if self.disk != NULL:
            with nogil:
                fe.disk_close(self.disk)
                fe.disk_free(self.disk)

    def prefetch(self, cnp.ndarray rows not None):
        """Ask for rows, int64, -1 for none."""
        cdef int64_t n_rows = cnp.PyArray_SIZE(rows)
        cdef const int64_t *c_rows = <const int64_t *>need_numbers("rows", rows, cnp.NPY_INT64, n_rows)
        with nogil:
            fe.disk_prefetch(self.disk, c_rows, n_rows)

    def hold(self, cnp.ndarray rows not None, cnp.ndarray slots not None):
        """slots[i] (int32) = where row rows[i] is until `release(slots)`; -1 for none.

        Returns None; or after a failed read (errno, or 0 for a file that has become shorter; i).
        """
        cdef int64_t n_rows = cnp.PyArray_SIZE(rows)
        cdef const int64_t *c_rows = <const int64_t *>need_numbers("rows", rows, cnp.NPY_INT64, n_rows)
        cdef int32_t *c_slots = <int32_t *>need_written("slots", slots, cnp.NPY_INT32, n_rows)
        cdef _c.fe_table unlimited
        cdef _c.fe_disk_status status
        if n_rows > cnp.PyArray_DIM(self.cache, 0) // 4:
            raise ValueError("a call holds a quarter of the slots at most")
        unlimited.n_cols = 0
        cdef _c.fe_stop stop = stop_for(INT64_MAX, &unlimited)
        with nogil:
            status = fe.disk_hold(self.disk, c_rows, n_rows, c_slots, stop)
        if status.code == _c.FE_DISK_FAILED or status.code == _c.FE_DISK_SHORT:
            return status.error if status.code == _c.FE_DISK_FAILED else 0, status.index
        need_held(status)
        return None

    def release(self, cnp.ndarray slots not None):
        cdef int64_t n_rows = cnp.PyArray_SIZE(slots)
        cdef const int32_t *c_slots = <const int32_t *>need_numbers("slots", slots, cnp.NPY_INT32, n_rows)
        with nogil:
            fe.disk_release(self.disk, c_slots, n_rows)

    def statistics(self):
        """Counts by name, and whether reads go through io_uring."""
        cdef _c.fe_disk_statistics n
        with nogil:
            n = fe.disk_count(self.disk)
        return {
            "hits": n.n_hits, "misses": n.n_misses, "prefetched": n.n_prefetched, "skipped": n.n_skipped,
            "evicted": n.n_evicted, "reads": n.n_reads, "bytes_read": n.n_bytes, "failed": n.n_failed,
            "engine": "io_uring" if n.uses_uring else "pread",
        }

    def close(self):
        """Cancel what waits to be read and end the threads; later calls are a ValueError."""
        with nogil:
            fe.disk_close(self.disk)


@cython.no_gc_clear
cdef class HeldRows:
    """A `hold` that ends with `release`, or with this object: a signal that is taken between the
    return of a call and its caller's next step cannot leave the slots held.

    `failed` is what `hold` returns.
    """

    cdef DiskRows disk
    cdef cnp.ndarray slots
    cdef readonly object failed
    cdef bint is_held

    def __cinit__(self, DiskRows disk not None, cnp.ndarray rows not None, cnp.ndarray slots not None):
        self.disk, self.slots = disk, slots
        self.failed = disk.hold(rows, slots)
        self.is_held = self.failed is None

    def __dealloc__(self):
        self.end()

    def release(self):
        self.end()

    cdef void end(self) noexcept:
        if self.is_held:
            self.is_held = False
            fe.disk_release(self.disk.disk, <const int32_t *>cnp.PyArray_DATA(self.slots), cnp.PyArray_SIZE(self.slots))


cdef int need_held(_c.fe_disk_status status) except -1:
    if status.code == _c.FE_DISK_STOPPED:
        return -1  # the signal handler's exception is set
    if status.code == _c.FE_DISK_NO_MEMORY:
        raise MemoryError("no memory to read rows")
    if status.code == _c.FE_DISK_CLOSED:
        raise ValueError("the table is closed")
    return 0
