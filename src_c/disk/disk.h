/* Rows of files, read by their numbers into a cache: the contract. Reads go through io_uring where
 * the kernel has it, else through threads that call pread.
 *
 * A row is one part or more (its elements, and its scales in a tensor of their own), which the
 * cache holds side by side. Reads are of whole pages of 4 KiB, and neighbouring pages that are
 * wanted at the same time are one read. Any thread may call; a forked child has the cache as it was
 * and starts threads of its own. */
#ifndef FE_DISK_H
#define FE_DISK_H

#include "../fastembed.h"

enum { FE_DISK_PAGE = 4096 };

/* Rows first_row .. first_row + n_rows - 1 of a part lie one after the other in a file (an open
 * descriptor), from byte `start` on. */
typedef struct {
    int file;
    int64_t start, first_row, n_rows;
} fe_disk_segment;

/* `size` bytes of each row, in segments that hold the rows from 0 on, in order. */
typedef struct {
    const fe_disk_segment *segments;
    int64_t n_segments, size;
} fe_disk_part;

/* The cache: n_slots rows side by side in `data`, at least 4 and less than 2^30 / n_parts. At most
 * `depth` reads are under way at once. */
typedef struct {
    const fe_disk_part *parts;
    int32_t n_parts, depth;
    char *data;
    int64_t n_slots;
    bool may_use_uring;
} fe_disk_options;

typedef struct fe_disk fe_disk;

typedef enum { FE_DISK_OK, FE_DISK_FAILED, FE_DISK_SHORT, FE_DISK_NO_MEMORY, FE_DISK_STOPPED, FE_DISK_CLOSED } fe_disk_code;

/* FE_DISK_FAILED (a read ended with the errno `error`) and FE_DISK_SHORT (the file has become
 * shorter) are of item `index`, the first that has no row. */
typedef struct {
    fe_disk_code code;
    int32_t error;
    int64_t index;
} fe_disk_status;

typedef struct {
    int64_t n_hits;       /* items whose row was there or on its way */
    int64_t n_misses;     /* items whose row a look-up had to ask for */
    int64_t n_prefetched; /* rows that prefetches asked for */
    int64_t n_skipped;    /* items of prefetches for which there was no room */
    int64_t n_evicted, n_reads, n_bytes, n_failed;
    bool uses_uring;
} fe_disk_statistics;

/* Bytes of memory for each slot beside its row. */
int64_t fe_disk_slot_size(int32_t n_parts);

/* NULL: no memory. The caller keeps files and data until fe_disk_free. */
fe_disk *fe_disk_open(const fe_disk_options *options);

/* Asks for rows and returns at once: rows that are not there are read as soon as can be. Rows of -1
 * are left out, and those that would be more than a quarter of the slots under way. */
void fe_disk_prefetch(fe_disk *disk, const int64_t *rows, int64_t n_rows);

/* for i: slots[i] = where row rows[i] is in the cache, -1 for row -1
 * Waits until all are there, and for its turn: other calls may hold half of the slots. The rows
 * stay where they are until fe_disk_release. n_rows is at most n_slots / 4. `stop` is called at
 * least every 50 ms of waiting. Nothing is held unless the status is FE_DISK_OK. */
fe_disk_status fe_disk_hold(fe_disk *disk, const int64_t *rows, int64_t n_rows, int32_t *slots, fe_stop stop);
void fe_disk_release(fe_disk *disk, const int32_t *slots, int64_t n_rows);

fe_disk_statistics fe_disk_count(fe_disk *disk);

/* Cancels what waits to be read, waits for reads that are under way, ends the threads. Calls that
 * wait, and all later ones, end with FE_DISK_CLOSED. */
void fe_disk_close(fe_disk *disk);

/* After fe_disk_close, when no call is left. */
void fe_disk_free(fe_disk *disk);

#endif
