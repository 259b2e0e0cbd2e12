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

enum { DISTANCE = 16 }; /* rows in advance, as in kernels/prefetch.inc */

/* Fetches the beginning of a row of a list, if there is one: the processor goes on by itself. */
static void prefetch_row(const fe_table *table, const int64_t *rows, int64_t i, int64_t n_rows, int64_t row_size)
{
    if (i >= n_rows || rows[i] < 0)
        return;
    for (int64_t b = 0; b < row_size && b < 4 * FE_CACHE_LINE; b += FE_CACHE_LINE)
        __builtin_prefetch(fe_row(table, rows[i]) + b);
}

/* Copies distinct rows of the source into the journal; returns how many. */
static int64_t fill_journal(const fe_shared *shared, const fe_table *source, const int64_t *rows, int64_t n_rows,
                            int64_t row_size)
{
    int64_t n = 0;
    for (int64_t i = 0; i < n_rows; i++) {
        prefetch_row(source, rows, i + DISTANCE, n_rows, row_size);
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
    *shared->position = -1;
    store_sequence(shared, before + WRITING);
    for (int64_t k = 0; k < n; k++) {
        const int64_t row = shared->journal_rows[k];
        prefetch_row(table, shared->journal_rows, k + DISTANCE, n, row_size);
        uint32_t *version = version_of(shared, row);
        const uint32_t even = load_version(shared, row);
        __atomic_store_n(version, even + 1, __ATOMIC_RELAXED);
        __atomic_store_n(shared->position, k, __ATOMIC_RELEASE);
        atomic_thread_fence(memory_order_release);
        memcpy(fe_row(table, row), shared->journal + k * row_size, (size_t)row_size);
        __atomic_store_n(version, even + 2, __ATOMIC_RELEASE);
    }
    store_sequence(shared, before + NEXT);
}

/* ---- reading ---- */

/* Whether no row has been written since the sequence number was `before`, and what has been copied
 * is what it was. Filling the journal changes no row. */
static bool is_unchanged_since(const fe_shared *shared, uint64_t before)
{
    atomic_thread_fence(memory_order_acquire);
    return (load_sequence(shared) & ~(uint64_t)FILLING) == (before & ~(uint64_t)FILLING);
}

static int64_t journal_size(const fe_table *table)
{
    const int64_t n = *(volatile const int64_t *)table->shared->journal_size;
    return n < 0 ? 0 : n < table->n_rows ? n : table->n_rows;
}

/* The place of a row in the journal, or -1. */
static int64_t find_in_journal(const fe_table *table, int64_t row)
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
    return first < n && shared->journal_rows[first] == row ? first : -1;
}

static int64_t load_position(const fe_shared *shared)
{
    return __atomic_load_n(shared->position, __ATOMIC_ACQUIRE);
}

/* Whether all rows of the publication that is under way have been read at once in this process,
 * which shall not find older ones from then on: so all of them come from the journal. */
static bool is_shown(const fe_shared *shared, uint64_t sequence)
{
    return (sequence & PHASE) == WRITING && sequence == __atomic_load_n(shared->shown, __ATOMIC_RELAXED);
}

/* Unless a later one is there, of another thread. */
static void set_shown(const fe_shared *shared, uint64_t sequence)
{
    uint64_t shown = __atomic_load_n(shared->shown, __ATOMIC_RELAXED);
    while (shown < sequence &&
           !__atomic_compare_exchange_n(shared->shown, &shown, sequence, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        continue;
}

/* Copies a row while its version says that it may be being written, by a living process or by one
 * that was killed: from the journal if it is, else from its place. Its version is also that of
 * other rows: a row that is still to be written is not yet taken from the journal, or it would be
 * older at the next look. False if the writer has gone on meanwhile. */
static bool read_beside_writer(const fe_table *table, int64_t row, int64_t row_size, char *out)
{
    const fe_shared *shared = table->shared;
    const uint64_t before = load_sequence(shared);
    const int64_t position = load_position(shared), place = (before & PHASE) == WRITING ? find_in_journal(table, row) : -1;
    const bool are_shown = is_shown(shared, before), is_in_journal = place >= 0 && (place == position || are_shown);
    memcpy(out, is_in_journal ? shared->journal + place * row_size : fe_row(table, row), (size_t)row_size);
    atomic_thread_fence(memory_order_acquire);
    const int64_t position_after = load_position(shared); /* of this publication, if that is still under way */
    return is_unchanged_since(shared, before) && (place <= position || place > position_after || are_shown);
}

/* Copies a row whose version stays as it is, and is even. */
static bool read_unwritten(const fe_table *table, int64_t row, int64_t row_size, char *out)
{
    const uint32_t before = load_version(table->shared, row);
    atomic_thread_fence(memory_order_acquire);
    if ((before & 1) || is_shown(table->shared, load_sequence(table->shared)))
        return false;
    memcpy(out, fe_row(table, row), (size_t)row_size);
    atomic_thread_fence(memory_order_acquire);
    return load_version(table->shared, row) == before;
}

/* Rows whose version was odd when they were copied, or is another one now. */
static void read_again(const fe_table *table, const int64_t *rows, const uint32_t *versions, int64_t row_size, fe_run out)
{
    for (int64_t i = 0; i < out.n_items; i++) {
        bool is_whole = rows[i] < 0 || (!(versions[i] & 1) && versions[i] == load_version(table->shared, rows[i]));
        char *out_i = out.data + i * out.stride;
        while (!is_whole) /* each further time, the writer has written this row and gone on to others */
            is_whole = read_unwritten(table, rows[i], row_size, out_i) || read_beside_writer(table, rows[i], row_size, out_i);
    }
}

/* While rows are being written: those of which the version stays as it is are whole, and count
 * unless newer ones have been read at once. */
static void gather_by_versions(const fe_table *table, const int64_t *rows, int64_t row_size, fe_run out, fe_gather_kernel *gather)
{
    const fe_shared *shared = table->shared;
    const uint32_t are_shown = is_shown(shared, load_sequence(shared));
    uint32_t versions[FE_BLOCK], any = 0, changes = 0;
    for (int64_t i = 0; i < out.n_items; i++)
        any |= versions[i] = load_version(shared, rows[i]) | are_shown;
    atomic_thread_fence(memory_order_acquire);
    gather(table, rows, row_size, out);
    atomic_thread_fence(memory_order_acquire);
    for (int64_t i = 0; i < out.n_items; i++)
        changes |= versions[i] ^ load_version(shared, rows[i]);
    if (changes != 0 || (any & 1))
        read_again(table, rows, versions, row_size, out);
}

fe_status fe_gather_shared(const fe_table *table, const int64_t *rows, int64_t row_size, fe_run out, fe_gather_kernel *gather)
{
    if (fe_is_replaced(table->shared))
        return (fe_status){.code = FE_REPLACED};
    const uint64_t before = load_sequence(table->shared);
    if ((before & PHASE) != WRITING) {
        gather(table, rows, row_size, out);
        if (is_unchanged_since(table->shared, before))
            return (fe_status){.code = FE_OK};
    }
    gather_by_versions(table, rows, row_size, out, gather);
    return (fe_status){.code = FE_OK};
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
        const int64_t place = find_in_journal(table, rows[i]);
        if (place >= 0)
            memcpy(out + i * row_size, shared->journal + place * row_size, (size_t)row_size);
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
    if (!is_unchanged_since(table->shared, before))
        return false;
    if ((before & PHASE) == WRITING)
        set_shown(table->shared, before);
    return true;
}
