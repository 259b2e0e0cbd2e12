/* The threads that read: what is asked for becomes reads, and what they bring goes into slots. */
#if defined(__linux__)
#define _GNU_SOURCE /* for thread.h */
#endif
#include <string.h>

#include "engine.h"
#include "file.h"
#include "uring.h"

/* One read of whole pages, for units in a list. */
typedef struct {
    int file;
    int64_t begin, size;
    int32_t first_unit;
    bool is_under_way;
} fe_request;

/* Of one thread: requests, each with a buffer, through a ring or one after the other. */
typedef struct {
    fe_uring ring;
    bool has_ring;
    int32_t n_requests, n_free, n_ended;
    fe_request *requests;
    int32_t *free, *ended; /* numbers of requests */
    char *buffers;
    int64_t buffers_size;
} fe_reader;

/* ---- requests ---- */

typedef struct {
    int file;
    int64_t at, size;
} fe_place;

static fe_place place_of(const fe_disk *disk, int32_t unit)
{
    const fe_disk_part *part = &disk->parts[unit % disk->n_parts];
    const int64_t row = disk->cache.slots[unit / disk->n_parts].row;
    int64_t first = 0, end = part->n_segments;
    while (end - first > 1) {
        const int64_t middle = first + (end - first) / 2;
        if (part->segments[middle].first_row <= row)
            first = middle;
        else
            end = middle;
    }
    const fe_disk_segment *segment = &part->segments[first];
    return (fe_place){segment->file, segment->start + (row - segment->first_row) * part->size, part->size};
}

static int64_t page_begin(int64_t at)
{
    return at - at % FE_DISK_PAGE;
}

static int64_t page_end(fe_place place)
{
    return page_begin(place.at + place.size + FE_DISK_PAGE - 1);
}

/* The first unit that waits, and those behind it that lie in the same pages or the next ones. */
static bool next_request(fe_disk *disk, fe_request *request)
{
    fe_units *list = disk->urgent.first >= 0 ? &disk->urgent : &disk->later;
    if (list->first < 0)
        return false;
    fe_place place = place_of(disk, list->first);
    const int64_t begin = page_begin(place.at);
    int64_t end = begin;
    int32_t last;
    *request = (fe_request){.file = place.file, .begin = begin, .first_unit = list->first};
    do {
        end = page_end(place) > end ? page_end(place) : end;
        last = list->first;
        list->first = disk->units[last].next;
        if (list->first < 0)
            break;
        place = place_of(disk, list->first);
    } while (place.file == request->file && place.at >= begin && page_begin(place.at) <= end &&
             page_end(place) - begin <= disk->read_size);
    disk->units[last].next = -1;
    request->size = end - begin;
    return true;
}

static void copy_unit(const fe_disk *disk, int32_t unit, const char *from)
{
    char *to = disk->data + unit / disk->n_parts * disk->row_size;
    for (int32_t part = 0; part < unit % disk->n_parts; part++)
        to += disk->parts[part].size;
    memcpy(to, from, (size_t)disk->parts[unit % disk->n_parts].size);
}

/* What a read for several units did not bring is read again for each alone, so that no row fails
 * for another's sake. */
static int32_t read_unit(const fe_disk *disk, int32_t unit, fe_place place, char *buffer)
{
    const int64_t begin = page_begin(place.at), n_read = fe_read_at(place.file, buffer, page_end(place) - begin, begin);
    if (n_read < 0)
        return (int32_t)-n_read;
    if (n_read < place.at - begin + place.size)
        return FE_TOO_SHORT;
    copy_unit(disk, unit, buffer + (place.at - begin));
    return 0;
}

/* Copies what a request has brought (n_read bytes, or minus an errno) into slots, without lock. */
static void copy_units(fe_disk *disk, const fe_request *request, int64_t n_read, char *buffer)
{
    bool is_whole = true;
    for (int32_t unit = request->first_unit; unit >= 0; unit = disk->units[unit].next) {
        const fe_place place = place_of(disk, unit);
        const int64_t from = place.at - request->begin;
        disk->units[unit].error = 0;
        if (from + place.size <= n_read)
            copy_unit(disk, unit, buffer + from);
        else
            is_whole = false, disk->units[unit].error = FE_TOO_SHORT;
    }
    for (int32_t unit = is_whole ? -1 : request->first_unit; unit >= 0; unit = disk->units[unit].next)
        if (disk->units[unit].error != 0)
            disk->units[unit].error = read_unit(disk, unit, place_of(disk, unit), buffer);
}

/* Says, with the lock, what has become of the units of a request. */
static void settle(fe_disk *disk, const fe_request *request)
{
    disk->counts.n_reads++;
    disk->counts.n_bytes += request->size;
    for (int32_t unit = request->first_unit; unit >= 0; unit = disk->units[unit].next) {
        const int32_t number = unit / disk->n_parts;
        fe_slot *slot = &disk->cache.slots[number];
        if (disk->units[unit].error != 0) {
            slot->error = disk->units[unit].error;
            disk->counts.n_failed++;
        }
        if (--slot->n_left > 0)
            continue;
        disk->n_ahead -= slot->is_ahead;
        slot->is_ahead = false;
        slot->state = slot->error != 0 ? FE_SLOT_FAILED : FE_SLOT_READY;
        if (slot->state == FE_SLOT_FAILED && slot->n_holders == 0)
            fe_cache_remove(&disk->cache, number);
    }
}

/* ---- readers ---- */

static bool open_reader(fe_reader *reader, const fe_disk *disk, bool with_ring)
{
    *reader = (fe_reader){0};
    reader->has_ring = with_ring && fe_uring_open(&reader->ring, (uint32_t)disk->depth);
    const int32_t n = reader->n_requests = reader->n_free = reader->has_ring ? disk->depth : 1;
    reader->buffers_size = n * disk->read_size;
    reader->requests = calloc((size_t)n, sizeof *reader->requests);
    reader->free = malloc((size_t)n * 2 * sizeof *reader->free);
    reader->buffers = fe_new_buffer(reader->buffers_size);
    if (reader->requests == NULL || reader->free == NULL || reader->buffers == NULL)
        return false;
    reader->ended = reader->free + n;
    for (int32_t k = 0; k < n; k++)
        reader->free[k] = k;
    return true;
}

static void close_reader(fe_reader *reader)
{
    if (reader->has_ring)
        fe_uring_close(&reader->ring);
    if (reader->buffers != NULL)
        fe_free_buffer(reader->buffers, reader->buffers_size);
    free(reader->requests);
    free(reader->free);
}

static char *buffer_of(const fe_reader *reader, const fe_disk *disk, int32_t k)
{
    return reader->buffers + k * disk->read_size;
}

static void end_request(fe_disk *disk, fe_reader *reader, int32_t k, int64_t n_read)
{
    reader->requests[k].is_under_way = false;
    copy_units(disk, &reader->requests[k], n_read, buffer_of(reader, disk, k));
    reader->ended[reader->n_ended++] = k;
}

/* Waits for reads of a ring: for a few where many are under way, which saves wake-ups. False if the
 * ring does not work any more. */
static bool wait_for_ring(fe_disk *disk, fe_reader *reader)
{
    enum { AT_ONCE = 8 };
    const int32_t n_under_way = reader->n_requests - reader->n_free;
    uint64_t k;
    int64_t n_read;
    if (!fe_uring_wait(&reader->ring, (uint32_t)(n_under_way < AT_ONCE ? n_under_way : AT_ONCE)))
        return false;
    while (fe_uring_next(&reader->ring, &k, &n_read))
        end_request(disk, reader, (int32_t)k, n_read);
    return true;
}

/* Where somebody has closed the ring's descriptor: reads may still be under way into the buffers,
 * which are left to them, and the descriptor may be another's. */
static void give_up_ring(fe_disk *disk, fe_reader *reader)
{
    char *buffers = fe_new_buffer(reader->buffers_size);
    if (buffers == NULL)
        return; /* and try again */
    reader->buffers = buffers;
    reader->has_ring = false;
    disk->counts.uses_uring = false;
}

/* Takes requests from the lists, as many as the reader has room for, and starts them. */
static void take_requests(fe_disk *disk, fe_reader *reader)
{
    while (reader->n_free > 0) {
        const int32_t k = reader->free[reader->n_free - 1];
        fe_request *request = &reader->requests[k];
        if (!next_request(disk, request))
            return;
        reader->n_free--;
        request->is_under_way = true;
        if (reader->has_ring)
            fe_uring_read(&reader->ring, request->file, buffer_of(reader, disk, k), (uint32_t)request->size, request->begin,
                          (uint64_t)k);
    }
}

static void read_in_turn(fe_disk *disk, fe_reader *reader)
{
    for (int32_t k = 0; k < reader->n_requests; k++) {
        const fe_request *request = &reader->requests[k];
        if (request->is_under_way)
            end_request(disk, reader, k, fe_read_at(request->file, buffer_of(reader, disk, k), request->size, request->begin));
    }
}

/* Lets the requests that have been taken go on, without the lock, until one or more have ended. */
static void run_requests(fe_disk *disk, fe_reader *reader)
{
    fe_unlock(&disk->lock);
    bool ring_works = true;
    if (reader->has_ring)
        ring_works = wait_for_ring(disk, reader);
    else
        read_in_turn(disk, reader);
    fe_lock(&disk->lock);
    if (!ring_works)
        give_up_ring(disk, reader);
    while (reader->n_ended > 0) {
        const int32_t k = reader->ended[--reader->n_ended];
        settle(disk, &reader->requests[k]);
        reader->free[reader->n_free++] = k;
    }
    if (disk->n_waiting > 0)
        fe_wake_all(&disk->has_news);
}

bool fe_disk_read_here(fe_disk *disk)
{
    fe_reader reader;
    const bool opened = open_reader(&reader, disk, false);
    if (opened) {
        take_requests(disk, &reader);
        run_requests(disk, &reader);
    }
    close_reader(&reader);
    return opened;
}

/* ---- prefetches ---- */

static fe_job *take_job(fe_disk *disk)
{
    fe_job *job = disk->jobs;
    disk->jobs = job->next;
    if (job->next == NULL)
        disk->end_of_jobs = &disk->jobs;
    return job;
}

/* Asks for rows of a job that are not there, and keeps the others; the rows are sorted. */
static void ask_ahead(fe_disk *disk, int64_t *rows, int64_t n_rows, int64_t before)
{
    int64_t n_new = 0;
    for (int64_t i = 0; i < n_rows; i++) {
        const int64_t row = rows[i];
        if (row < 0 || row == before)
            continue;
        before = row;
        int32_t slot = fe_cache_find(&disk->cache, row);
        if (slot >= 0) {
            disk->cache.slots[slot].heat = FE_AWAITED;
        } else if ((slot = fe_disk_new_slot(disk, row, FE_AWAITED)) >= 0) {
            disk->cache.slots[slot].is_ahead = true;
            rows[n_new++] = row;
        }
    }
    disk->n_ahead += n_new;
    disk->counts.n_prefetched += n_new;
    fe_disk_ask(disk, &disk->later, rows, n_new);
}

/* Others may have the lock between two blocks of a job. */
static void run_job(fe_disk *disk, fe_job *job)
{
    enum { BLOCK = 1024 };
    fe_unlock(&disk->lock);
    qsort(job->rows, (size_t)job->n_rows, sizeof *job->rows, fe_disk_by_number);
    fe_lock(&disk->lock);
    disk->n_ahead -= job->n_rows;
    for (int64_t i = 0, before = -1; i < job->n_rows && !disk->is_closing; i += BLOCK) {
        const int64_t n_rows = job->n_rows - i < BLOCK ? job->n_rows - i : BLOCK, last = job->rows[i + n_rows - 1];
        ask_ahead(disk, job->rows + i, n_rows, before);
        before = last;
        fe_unlock(&disk->lock);
        fe_lock(&disk->lock);
    }
    free(job);
}

/* ---- threads ---- */

static void serve(fe_disk *disk, fe_reader *reader)
{
    for (;;) {
        if (disk->jobs != NULL && disk->later.first < 0 && !disk->is_closing) {
            run_job(disk, take_job(disk));
            continue;
        }
        if (!disk->is_closing)
            take_requests(disk, reader);
        if (reader->n_free < reader->n_requests) {
            run_requests(disk, reader);
        } else if (disk->is_closing) {
            return;
        } else {
            disk->n_idle++;
            fe_wait(&disk->has_work, &disk->lock);
            disk->n_idle--;
        }
    }
}

static FE_THREAD_RESULT work(void *of_thread)
{
    fe_disk *disk = of_thread;
    fe_reader reader;
    fe_lock(&disk->lock);
    const bool with_ring = disk->counts.uses_uring;
    fe_unlock(&disk->lock);
    const bool opened = open_reader(&reader, disk, with_ring);
    fe_lock(&disk->lock);
    disk->counts.uses_uring &= reader.has_ring;
    if (opened)
        serve(disk, &reader);
    fe_unlock(&disk->lock);
    close_reader(&reader);
    fe_lock(&disk->lock);
    disk->n_workers--;
    fe_wake_all(&disk->has_news);
    fe_unlock(&disk->lock);
    return 0;
}

void fe_disk_start_workers(fe_disk *disk, int64_t n_wanted)
{
    if (disk->is_closing)
        return;
    const int64_t n_busy = disk->n_workers - disk->n_idle, most = disk->counts.uses_uring ? 1 : disk->depth;
    const int64_t n = n_busy + n_wanted < most ? n_busy + n_wanted : most;
    while (disk->n_workers < n && fe_start_thread(work, disk))
        disk->n_workers++;
    if (n_wanted > 1)
        fe_wake_all(&disk->has_work);
    else
        fe_wake_one(&disk->has_work);
}
