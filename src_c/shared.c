/* Shared tables: rows that one process writes and any number of processes read, without a lock. The
 * protocol is in docs/shared.md.
 *
 * A row is copied while it may be written, and the copy is dropped if its version has changed. As
 * bytes that are written and read at the same time the rows are no C11 atomics; the fences order
 * them against the versions, on x86-64 and on arm64. */
#include "shared.h"

#include <stdatomic.h>
#include <string.h>

#include "ids.h"
#include "shared_rows.h"

/* The sequence number counts in fours, one four for each publication: 0 at rest, 1 while the
 * journal is filled, 2 while rows are written, which are all in the journal. */
enum { FILLING = 1, WRITING = 2, NEXT = 4, PHASE = 3 };

/* Attempts at a row. Another one is only needed if the writer has gone on in the meantime; so many
 * mean that the memory has been damaged. */
enum { MAX_ATTEMPTS = 1 << 20 };

static uint64_t load_sequence(const fe_shared *shared)
{
    return __atomic_load_n(shared->sequence, __ATOMIC_ACQUIRE);
}

static void store_sequence(const fe_shared *shared, uint64_t value)
{
    __atomic_store_n(shared->sequence, value, __ATOMIC_RELEASE);
}

/* That of a row; of -1, no row, it is some other one. */
static uint32_t *version_of(const fe_shared *shared, int64_t row)
{
    return &shared->versions[row & shared->version_mask];
}

static uint32_t load_version(const fe_shared *shared, int64_t row)
{
    return __atomic_load_n(version_of(shared, row), __ATOMIC_RELAXED);
}

bool fe_is_replaced(const fe_shared *shared)
{
    return __atomic_load_n(shared->replaced, __ATOMIC_ACQUIRE) != shared->replaced_seen;
}

void fe_set_replaced(const fe_shared *shared, bool is_done)
{
    const uint64_t before = __atomic_load_n(shared->replaced, __ATOMIC_RELAXED) & ~(uint64_t)1;
    __atomic_store_n(shared->replaced, before + (is_done ? 2 : 1), __ATOMIC_RELEASE);
}

/* ---- writing ---- */

/* Copies distinct rows of the source into the journal; returns how many. */
static int64_t fill_journal(const fe_shared *shared, const fe_table *source, const int64_t *rows, int64_t n_rows,
                            int64_t row_size)
{
    int64_t n = 0;
    for (int64_t i = 0; i < n_rows; i++) {
        if (rows[i] < 0 || (n > 0 && rows[i] == shared->journal_rows[n - 1]))
            continue;
        shared->journal_rows[n] = rows[i];
        memcpy(shared->journal + n * row_size, fe_row(source, rows[i]), (size_t)row_size);
        n++;
    }
    return n;
}

void fe_publish_rows(const fe_table *table, const fe_table *source, const int64_t *rows, int64_t n_rows)
{
    const fe_shared *shared = table->shared;
    const int64_t row_size = table->n_cols * fe_item_size(table->dtype);
    const uint64_t before = load_sequence(shared);
    store_sequence(shared, before + FILLING);
    atomic_thread_fence(memory_order_release);
    const int64_t n = fill_journal(shared, source, rows, n_rows, row_size);
    *shared->journal_size = n;
    store_sequence(shared, before + WRITING);
    for (int64_t k = 0; k < n; k++) {
        const int64_t row = shared->journal_rows[k];
        uint32_t *version = version_of(shared, row);
        const uint32_t even = load_version(shared, row);
        __atomic_store_n(version, even + 1, __ATOMIC_RELAXED);
        atomic_thread_fence(memory_order_release);
        memcpy(fe_row(table, row), shared->journal + k * row_size, (size_t)row_size);
        __atomic_store_n(version, even + 2, __ATOMIC_RELEASE);
    }
    store_sequence(shared, before + NEXT);
}

/* ---- reading ---- */

static int64_t journal_size(const fe_table *table)
{
    const int64_t n = *(volatile const int64_t *)table->shared->journal_size;
    return n < 0 ? 0 : n < table->n_rows ? n : table->n_rows;
}

/* The row as it is in the journal, or NULL. */
static const char *in_journal(const fe_table *table, int64_t row, int64_t row_size)
{
    const fe_shared *shared = table->shared;
    const int64_t n = journal_size(table);
    int64_t first = 0, end = n;
    while (first < end) {
        const int64_t middle = first + (end - first) / 2;
        if (shared->journal_rows[middle] < row)
            first = middle + 1;
        else
            end = middle;
    }
    return first < n && shared->journal_rows[first] == row ? shared->journal + first * row_size : NULL;
}

/* Copies a row while some are being written, by a living process or by one that was killed: from
 * the journal, or from its place if it is not among them. */
static bool read_during_write(const fe_table *table, int64_t row, int64_t row_size, char *out)
{
    const uint64_t before = load_sequence(table->shared);
    if ((before & PHASE) != WRITING)
        return false;
    const char *in = in_journal(table, row, row_size);
    memcpy(out, in != NULL ? in : fe_row(table, row), (size_t)row_size);
    atomic_thread_fence(memory_order_acquire);
    return load_sequence(table->shared) == before;
}

static bool read_row(const fe_table *table, int64_t row, int64_t row_size, char *out)
{
    for (int32_t attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
        const uint32_t before = load_version(table->shared, row);
        atomic_thread_fence(memory_order_acquire);
        if (before & 1) {
            if (read_during_write(table, row, row_size, out))
                return true;
            continue;
        }
        memcpy(out, fe_row(table, row), (size_t)row_size);
        atomic_thread_fence(memory_order_acquire);
        if (load_version(table->shared, row) == before)
            return true;
    }
    return false;
}

/* Rows whose version was odd when they were copied, or is another one now. */
static fe_status read_again(const fe_table *table, const int64_t *rows, const uint32_t *versions, int64_t row_size, fe_run out)
{
    for (int64_t i = 0; i < out.n_items; i++) {
        const bool is_whole = rows[i] < 0 || (!(versions[i] & 1) && versions[i] == load_version(table->shared, rows[i]));
        if (!is_whole && !read_row(table, rows[i], row_size, out.data + i * out.stride))
            return (fe_status){.code = FE_TORN, .id = rows[i]};
    }
    return (fe_status){.code = FE_OK};
}

fe_status fe_gather_shared(const fe_table *table, const int64_t *rows, int64_t row_size, fe_run out, fe_gather_kernel *gather)
{
    const fe_shared *shared = table->shared;
    uint32_t versions[FE_BLOCK], any = 0, changes = 0;
    if (fe_is_replaced(shared))
        return (fe_status){.code = FE_REPLACED};
    for (int64_t i = 0; i < out.n_items; i++)
        any |= versions[i] = load_version(shared, rows[i]);
    atomic_thread_fence(memory_order_acquire);
    gather(table, rows, row_size, out);
    atomic_thread_fence(memory_order_acquire);
    for (int64_t i = 0; i < out.n_items; i++)
        changes |= versions[i] ^ load_version(shared, rows[i]);
    if (changes == 0 && !(any & 1))
        return (fe_status){.code = FE_OK};
    return read_again(table, rows, versions, row_size, out);
}

/* Rows that are being written become those of the journal: out[i] is row rows[i], or row i. */
static void take_from_journal(const fe_table *table, const int64_t *rows, int64_t n_rows, int64_t row_size, char *out)
{
    const fe_shared *shared = table->shared;
    if (rows == NULL) {
        const int64_t n = journal_size(table);
        for (int64_t k = 0; k < n; k++) {
            const int64_t row = shared->journal_rows[k];
            if (row >= 0 && row < table->n_rows)
                memcpy(out + row * row_size, shared->journal + k * row_size, (size_t)row_size);
        }
        return;
    }
    for (int64_t i = 0; i < n_rows; i++) {
        const char *in = in_journal(table, rows[i], row_size);
        if (in != NULL)
            memcpy(out + i * row_size, in, (size_t)row_size);
    }
}

bool fe_read_at_once(const fe_table *table, const int64_t *rows, int64_t n_rows, char *out)
{
    const int64_t row_size = table->n_cols * fe_item_size(table->dtype);
    const uint64_t before = load_sequence(table->shared);
    if (rows == NULL)
        memcpy(out, table->data, (size_t)(table->n_rows * row_size));
    else
        for (int64_t i = 0; i < n_rows; i++)
            memcpy(out + i * row_size, fe_row(table, rows[i]), (size_t)row_size);
    if ((before & PHASE) == WRITING)
        take_from_journal(table, rows, n_rows, row_size, out);
    atomic_thread_fence(memory_order_acquire);
    /* Filling the journal changes no row. */
    return (load_sequence(table->shared) & ~(uint64_t)FILLING) == (before & ~(uint64_t)FILLING);
}
