/* What callers call: look-ups that hold rows, prefetches, opening and closing. */
#if defined(__linux__)
#define _GNU_SOURCE /* for thread.h */
#endif
#include "disk.h"

#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "uring.h"

enum { STOP_MS = 50, MAX_READ = 32 << 10 };

/* ---- opening and closing ---- */

int64_t fe_disk_slot_size(int32_t n_parts)
{
    return fe_cache_slot_size() + n_parts * (int64_t)sizeof(fe_unit);
}

static bool copy_parts(fe_disk *disk, const fe_disk_options *options)
{
    int64_t n_segments = 0;
    for (int32_t k = 0; k < options->n_parts; k++)
        n_segments += options->parts[k].n_segments;
    disk->parts = malloc((size_t)options->n_parts * sizeof *disk->parts);
    disk->segments = malloc((size_t)n_segments * sizeof *disk->segments);
    if (disk->parts == NULL || disk->segments == NULL)
        return false;
    fe_disk_segment *segments = disk->segments;
    for (int32_t k = 0; k < options->n_parts; k++) {
        disk->parts[k] = options->parts[k];
        disk->parts[k].segments = segments;
        memcpy(segments, options->parts[k].segments, (size_t)options->parts[k].n_segments * sizeof *segments);
        segments += options->parts[k].n_segments;
        disk->row_size += options->parts[k].size;
        const int64_t whole = options->parts[k].size + 2 * FE_DISK_PAGE; /* a row begins and ends within pages */
        if (whole > disk->read_size)
            disk->read_size = whole - whole % FE_DISK_PAGE;
    }
    return true;
}

fe_disk *fe_disk_open(const fe_disk_options *options)
{
    fe_uring ring;
    fe_disk *disk = calloc(1, sizeof *disk);
    if (disk == NULL)
        return NULL;
    disk->lock = (fe_mutex)FE_MUTEX_INIT;
    disk->has_work = (fe_cond)FE_COND_INIT;
    fe_init_timed(&disk->has_news);
    disk->data = options->data;
    disk->n_parts = options->n_parts;
    disk->depth = options->depth;
    disk->read_size = MAX_READ;
    disk->urgent.first = disk->later.first = -1;
    disk->end_of_jobs = &disk->jobs;
    disk->counts.uses_uring = options->may_use_uring && fe_uring_open(&ring, (uint32_t)disk->depth);
    if (disk->counts.uses_uring)
        fe_uring_close(&ring);
    disk->units = malloc((size_t)options->n_slots * (size_t)options->n_parts * sizeof *disk->units);
    if (disk->units != NULL && copy_parts(disk, options) && fe_cache_init(&disk->cache, options->n_slots)) {
        if (fe_disk_watch_forks(disk))
            return disk;
        fe_cache_free(&disk->cache);
    }
    free(disk->units);
    free(disk->parts);
    free(disk->segments);
    free(disk);
    return NULL;
}

void fe_disk_close(fe_disk *disk)
{
    fe_lock(&disk->lock);
    disk->is_closing = true;
    fe_wake_all(&disk->has_work);
    fe_wake_all(&disk->has_news);
    while (disk->n_workers > 0)
        fe_wait(&disk->has_news, &disk->lock);
    fe_unlock(&disk->lock);
}

void fe_disk_free(fe_disk *disk)
{
    fe_disk_unwatch_forks(disk);
    while (disk->jobs != NULL) {
        fe_job *job = disk->jobs;
        disk->jobs = job->next;
        free(job);
    }
    fe_cache_free(&disk->cache);
    free(disk->units);
    free(disk->parts);
    free(disk->segments);
    free(disk);
}

fe_disk_statistics fe_disk_count(fe_disk *disk)
{
    fe_lock(&disk->lock);
    const fe_disk_statistics counts = disk->counts;
    fe_unlock(&disk->lock);
    return counts;
}

/* ---- asking ---- */

int32_t fe_disk_new_slot(fe_disk *disk, int64_t row, fe_heat heat)
{
    bool was_evicted;
    const int32_t slot = fe_cache_add(&disk->cache, row, &was_evicted);
    if (slot < 0)
        return -1;
    disk->counts.n_evicted += was_evicted;
    disk->cache.slots[slot] = (fe_slot){.row = row, .n_left = disk->n_parts, .state = FE_SLOT_READING, .heat = (uint8_t)heat};
    return slot;
}

int fe_disk_by_number(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

void fe_disk_ask(fe_disk *disk, fe_units *list, const int64_t *rows, int64_t n_rows)
{
    for (int32_t part = 0; part < disk->n_parts; part++)
        for (int64_t k = 0; k < n_rows; k++) {
            const int32_t unit = fe_cache_find(&disk->cache, rows[k]) * disk->n_parts + part;
            disk->units[unit].next = -1;
            if (list->first < 0)
                list->first = unit;
            else
                disk->units[list->last].next = unit;
            list->last = unit;
        }
    if (n_rows > 0)
        fe_disk_start_workers(disk, n_rows * disk->n_parts);
}

void fe_disk_prefetch(fe_disk *disk, const int64_t *rows, int64_t n_rows)
{
    fe_lock(&disk->lock);
    const int64_t room = disk->cache.n_slots / 4 - disk->n_ahead, n = n_rows < room ? n_rows : room;
    fe_job *job = n > 0 && !disk->is_closing ? malloc(sizeof *job + (size_t)n * sizeof *rows) : NULL;
    disk->counts.n_skipped += job == NULL ? n_rows : n_rows - n;
    if (job != NULL) {
        job->next = NULL;
        job->n_rows = n;
        memcpy(job->rows, rows, (size_t)n * sizeof *rows);
        *disk->end_of_jobs = job;
        disk->end_of_jobs = &job->next;
        disk->n_ahead += n;
        fe_disk_start_workers(disk, 1);
    }
    fe_unlock(&disk->lock);
}

/* ---- look-ups ---- */

/* What a call waits with: when it has to look for signals next, and of which process it is. */
typedef struct {
    fe_stop stop;
    int64_t asked_at;
    int32_t n_forks;
} fe_patience;

/* Waits for news, or reads if there is no thread to do it. */
static fe_disk_code wait_for_news(fe_disk *disk, fe_patience *patience)
{
    if (disk->is_closing)
        return FE_DISK_CLOSED;
    if (disk->n_workers == 0 && disk->urgent.first >= 0) {
        if (!fe_disk_read_here(disk))
            return FE_DISK_NO_MEMORY;
    } else {
        disk->n_waiting++;
        fe_wait_ms(&disk->has_news, &disk->lock, STOP_MS);
        disk->n_waiting--;
    }
    if (patience->stop == NULL || fe_microseconds() - patience->asked_at < STOP_MS * 1000)
        return FE_DISK_OK;
    fe_unlock(&disk->lock);
    const int stopped = patience->stop();
    fe_lock(&disk->lock);
    patience->asked_at = fe_microseconds();
    return stopped ? FE_DISK_STOPPED : disk->n_forks != patience->n_forks ? FE_DISK_CLOSED : FE_DISK_OK;
}

/* The slot of a row, a new one if it has none. */
static fe_disk_code slot_for(fe_disk *disk, int64_t row, fe_patience *patience, int32_t *slot, bool *is_new)
{
    for (;;) {
        *slot = fe_cache_find(&disk->cache, row);
        *is_new = *slot < 0;
        if (*is_new)
            *slot = fe_disk_new_slot(disk, row, FE_COLD);
        if (*slot >= 0)
            return FE_DISK_OK;
        const fe_disk_code code = wait_for_news(disk, patience);
        if (code != FE_DISK_OK)
            return code;
    }
}

/* What a look-up found: the rows that it has to ask for, and whether all others can be used. */
typedef struct {
    int64_t *missing;
    int64_t n_missing;
    bool all_ready;
} fe_found;

/* Holds the slots of all rows; after an error, of those before. */
static fe_disk_code hold_slots(fe_disk *disk, const int64_t *rows, int64_t n_rows, int32_t *slots, fe_found *found,
                               fe_patience *patience)
{
    enum { AHEAD = 16 };
    for (int64_t i = 0; i < n_rows; i++)
        slots[i] = -1;
    for (int64_t i = 0; i < n_rows; i++) {
        if (i + AHEAD < n_rows)
            fe_cache_expect(&disk->cache, rows[i + AHEAD]);
        if (rows[i] < 0)
            continue;
        bool is_new;
        int32_t number;
        const fe_disk_code code = slot_for(disk, rows[i], patience, &number, &is_new);
        if (code != FE_DISK_OK)
            return code;
        fe_slot *slot = &disk->cache.slots[number];
        if (is_new)
            found->missing[found->n_missing++] = rows[i];
        else
            slot->heat = slot->heat == FE_AWAITED ? FE_COLD : FE_HOT;
        disk->counts.n_hits += !is_new;
        disk->counts.n_misses += is_new;
        found->all_ready &= slot->state == FE_SLOT_READY;
        slot->n_holders++;
        slots[i] = number;
    }
    return FE_DISK_OK;
}

static fe_disk_status wait_for_rows(fe_disk *disk, const int32_t *slots, int64_t n_rows, fe_patience *patience)
{
    for (int64_t i = 0; i < n_rows; i++)
        while (slots[i] >= 0 && disk->cache.slots[slots[i]].state == FE_SLOT_READING) {
            const fe_disk_code code = wait_for_news(disk, patience);
            if (code != FE_DISK_OK)
                return (fe_disk_status){.code = code};
        }
    for (int64_t i = 0; i < n_rows; i++)
        if (slots[i] >= 0 && disk->cache.slots[slots[i]].state == FE_SLOT_FAILED) {
            const int32_t error = disk->cache.slots[slots[i]].error;
            return (fe_disk_status){error == FE_TOO_SHORT ? FE_DISK_SHORT : FE_DISK_FAILED, error, i};
        }
    return (fe_disk_status){.code = FE_DISK_OK};
}

static void release(fe_disk *disk, const int32_t *slots, int64_t n_rows)
{
    for (int64_t i = 0; i < n_rows; i++) {
        if (slots[i] < 0)
            continue;
        fe_slot *slot = &disk->cache.slots[slots[i]];
        if (--slot->n_holders == 0 && slot->state == FE_SLOT_FAILED)
            fe_cache_remove(&disk->cache, slots[i]);
    }
    disk->n_held -= n_rows;
    if (disk->n_waiting > 0)
        fe_wake_all(&disk->has_news);
}

/* A call that has its turn, with the lock. */
static fe_disk_status hold(fe_disk *disk, const int64_t *rows, int64_t n_rows, int32_t *slots, int64_t *missing,
                           fe_patience *patience)
{
    fe_found found = {missing, 0, true};
    disk->n_held += n_rows;
    fe_disk_status status = {.code = hold_slots(disk, rows, n_rows, slots, &found, patience)};
    if (disk->n_forks != patience->n_forks)
        return status; /* by a signal handler, in whose process nothing is held */
    qsort(missing, (size_t)found.n_missing, sizeof *missing, fe_disk_by_number);
    fe_disk_ask(disk, &disk->urgent, missing, found.n_missing);
    if (status.code == FE_DISK_OK && !found.all_ready)
        status = wait_for_rows(disk, slots, n_rows, patience);
    if (status.code != FE_DISK_OK && disk->n_forks == patience->n_forks)
        release(disk, slots, n_rows);
    return status;
}

fe_disk_status fe_disk_hold(fe_disk *disk, const int64_t *rows, int64_t n_rows, int32_t *slots, fe_stop stop)
{
    int64_t *missing = malloc((size_t)n_rows * sizeof *missing + 1);
    if (missing == NULL)
        return (fe_disk_status){.code = FE_DISK_NO_MEMORY};
    fe_lock(&disk->lock);
    fe_patience patience = {stop, fe_microseconds(), disk->n_forks};
    fe_disk_status status = {.code = disk->is_closing ? FE_DISK_CLOSED : FE_DISK_OK};
    while (status.code == FE_DISK_OK && disk->n_held + n_rows > disk->cache.n_slots / 2)
        status.code = wait_for_news(disk, &patience);
    if (status.code == FE_DISK_OK)
        status = hold(disk, rows, n_rows, slots, missing, &patience);
    fe_unlock(&disk->lock);
    free(missing);
    return status;
}

void fe_disk_release(fe_disk *disk, const int32_t *slots, int64_t n_rows)
{
    fe_lock(&disk->lock);
    release(disk, slots, n_rows);
    fe_unlock(&disk->lock);
}
