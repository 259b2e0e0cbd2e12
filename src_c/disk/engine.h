/* What disk.c, which callers call, and worker.c, which reads, have in common. */
#ifndef FE_DISK_ENGINE_H
#define FE_DISK_ENGINE_H

#include "../thread.h"
#include "cache.h"
#include "disk.h"

/* Part p of the row in slot s is unit s * n_parts + p. */
typedef struct {
    int32_t next;
    int32_t error; /* of its last read: an errno, or FE_TOO_SHORT */
} fe_unit;

enum { FE_TOO_SHORT = -1 };

/* Units to be read, linked by `next`; -1 is the end, and `last` means nothing if `first` is. */
typedef struct {
    int32_t first, last;
} fe_units;

/* The rows of a prefetch that nobody has looked at yet. */
typedef struct fe_job {
    struct fe_job *next;
    int64_t n_rows;
    int64_t rows[];
} fe_job;

/* The lock protects all that changes, but for data and `error` of units that are being read. */
struct fe_disk {
    fe_mutex lock;
    fe_cond has_work; /* for workers */
    fe_cond has_news; /* for callers: rows have come, or room; a worker has ended */

    fe_disk_part *parts;
    fe_disk_segment *segments;
    char *data;
    int64_t row_size, read_size; /* read_size: the most bytes of one read */
    int32_t n_parts, depth;

    fe_cache cache;
    fe_unit *units;
    fe_units urgent, later; /* of look-ups, of prefetches */
    fe_job *jobs, **end_of_jobs;
    int64_t n_ahead; /* items of jobs, and slots that jobs have in reading */
    int64_t n_held;  /* items of calls that hold slots */
    int32_t n_workers, n_idle, n_waiting, n_forks;
    bool is_closing;
    fe_disk_statistics counts;
    fe_disk *next_open;
};

/* From now on a child's copy is made ready in the child. False if that cannot be had. */
bool fe_disk_watch_forks(fe_disk *disk);
void fe_disk_unwatch_forks(const fe_disk *disk);

/* Of all below: the caller has the lock, which may be let go of for a while. */

/* Appends what the slots of these rows lack. The rows are sorted, so that neighbours are read
 * together. */
void fe_disk_ask(fe_disk *disk, fe_units *list, const int64_t *rows, int64_t n_rows);

/* Compares two int64_t, for qsort. */
int fe_disk_by_number(const void *a, const void *b);

/* Sees to it that threads read what has been asked for, as far as threads can be had. */
void fe_disk_start_workers(fe_disk *disk, int64_t n_wanted);

/* One read by the caller's own thread of what has been asked for; false without memory. */
bool fe_disk_read_here(fe_disk *disk);

/* A slot for a row that has none, in state FE_SLOT_READING; -1 if none is free. */
int32_t fe_disk_new_slot(fe_disk *disk, int64_t row, fe_heat heat);

#endif
