/* The C contract of shared tables, which one process writes and any number of processes read. */
#ifndef FE_SHARED_H
#define FE_SHARED_H

#include "fastembed.h"

/* What a shared table has beside its rows, in the same memory: a sequence number, versions, and a
 * journal with space for all rows. Row r has version r & version_mask, which other rows may have
 * too: they are few enough to stay in the L2 cache. Processes that only look rows up may have it
 * all mapped read-only. */
typedef struct fe_shared {
    uint64_t *sequence, *replaced;
    uint64_t replaced_seen; /* the number in *replaced when this process last looked at the name */
    uint32_t *versions;
    int64_t version_mask;
    int64_t *journal_size, *journal_rows;
    char *journal;
    int64_t *position; /* in the journal, of the row that is being written */
    uint64_t *shown;   /* of this process: at which sequence number it last read from the journal at once */
} fe_shared;

/* for distinct rows: table row(r) = source row(r). `rows` are sorted, may recur, and -1 is no row.
 * All of them are in the journal before the first is written, so that a process that reads finds
 * each row whole at any moment, and so it stays if this process is killed. One process writes. */
void fe_publish_rows(const fe_table *table, const fe_table *source, const int64_t *rows, int64_t n_rows);

/* for i: out[i] = row(rows[i]), or all rows with rows == NULL, as of one moment between two
 * publications. False if there was one in the meantime; `out` is then undefined. */
bool fe_read_at_once(const fe_table *table, const int64_t *rows, int64_t n_rows, char *out);

/* Whether the name is to be looked at again. *replaced becomes odd before the name is given to
 * another table, and even afterwards; while it is odd, who reads looks at the name in each call. */
bool fe_is_replaced(const fe_shared *shared);
void fe_set_replaced(const fe_shared *shared, bool is_done);

/* ---- memory ---- */

/* A file, mapped from its beginning at an address where large pages can begin; NULL and errno. */
char *fe_map_file(int file, int64_t size, bool is_writable);
void fe_unmap_file(char *memory, int64_t size);

/* Asks the system to hold the whole pages of that memory in large ones, which make look-ups faster:
 * what is touched first later, and at once what has been. Whether it did the latter for all. */
bool fe_use_large_pages(char *memory, int64_t size);

/* Gives whole pages back, where the system can; they are then zeros. */
void fe_discard_pages(char *memory, int64_t size);

#endif
