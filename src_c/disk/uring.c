#include "uring.h"

#if defined(__linux__) && defined(__has_include)
#if __has_include(<linux/io_uring.h>)
#define HAS_URING 1
#endif
#endif

#ifdef HAS_URING
#include <errno.h>
#include <linux/io_uring.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static void *map_ring(const fe_uring *ring, uint64_t size, int64_t offset)
{
    void *found = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring->descriptor, (off_t)offset);
    if (found == MAP_FAILED)
        return NULL;
    madvise(found, size, MADV_DONTFORK);
    return found;
}

static int set_up(uint32_t depth, struct io_uring_params *params)
{
    *params = (struct io_uring_params){0};
#if defined(IORING_SETUP_SINGLE_ISSUER) && defined(IORING_SETUP_DEFER_TASKRUN)
    params->flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
    const int descriptor = (int)syscall(SYS_io_uring_setup, depth, params);
    if (descriptor >= 0 || errno != EINVAL)
        return descriptor;
    *params = (struct io_uring_params){0}; /* a kernel before 6.1 */
#endif
    return (int)syscall(SYS_io_uring_setup, depth, params);
}

/* IORING_FEAT_RW_CUR_POS came with IORING_OP_READ, in Linux 5.6. */
bool fe_uring_open(fe_uring *ring, uint32_t depth)
{
    struct io_uring_params params;
    *ring = (fe_uring){.descriptor = set_up(depth, &params)};
    if (ring->descriptor < 0)
        return false;
    const uint64_t sq_size = params.sq_off.array + params.sq_entries * sizeof(uint32_t);
    const uint64_t cq_size = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
    ring->rings_size = sq_size > cq_size ? sq_size : cq_size;
    ring->entries_size = params.sq_entries * sizeof(struct io_uring_sqe);
    if ((params.features & IORING_FEAT_RW_CUR_POS) && (params.features & IORING_FEAT_SINGLE_MMAP)) {
        ring->rings = map_ring(ring, ring->rings_size, IORING_OFF_SQ_RING);
        ring->entries = map_ring(ring, ring->entries_size, IORING_OFF_SQES);
    }
    if (ring->rings == NULL || ring->entries == NULL) {
        fe_uring_close(ring);
        return false;
    }
    char *rings = ring->rings;
    ring->sq_tail = (uint32_t *)(rings + params.sq_off.tail);
    ring->sq_array = (uint32_t *)(rings + params.sq_off.array);
    ring->sq_mask = *(uint32_t *)(rings + params.sq_off.ring_mask);
    ring->cq_head = (uint32_t *)(rings + params.cq_off.head);
    ring->cq_tail = (uint32_t *)(rings + params.cq_off.tail);
    ring->cq_mask = *(uint32_t *)(rings + params.cq_off.ring_mask);
    ring->completions = rings + params.cq_off.cqes;
    return true;
}

void fe_uring_close(fe_uring *ring)
{
    if (ring->rings != NULL)
        munmap(ring->rings, ring->rings_size);
    if (ring->entries != NULL)
        munmap(ring->entries, ring->entries_size);
    close(ring->descriptor);
}

void fe_uring_read(fe_uring *ring, int file, void *to, uint32_t size, int64_t offset, uint64_t tag)
{
    const uint32_t tail = *ring->sq_tail, place = tail & ring->sq_mask;
    struct io_uring_sqe *entry = (struct io_uring_sqe *)ring->entries + place;
    memset(entry, 0, sizeof *entry);
    entry->opcode = IORING_OP_READ;
    entry->fd = file;
    entry->addr = (uint64_t)(uintptr_t)to;
    entry->len = size;
    entry->off = (uint64_t)offset;
    entry->user_data = tag;
    ring->sq_array[place] = place;
    __atomic_store_n(ring->sq_tail, tail + 1, __ATOMIC_RELEASE);
    ring->n_queued++;
}

bool fe_uring_wait(fe_uring *ring, uint32_t n_ended)
{
    do {
        const long n = syscall(SYS_io_uring_enter, ring->descriptor, ring->n_queued, n_ended, IORING_ENTER_GETEVENTS, NULL, 0);
        if (n >= 0)
            ring->n_queued -= (uint32_t)n;
        else if (errno != EINTR && errno != EAGAIN && errno != EBUSY)
            return false;
    } while (ring->n_queued > 0);
    return true;
}

bool fe_uring_next(fe_uring *ring, uint64_t *tag, int64_t *result)
{
    const uint32_t head = *ring->cq_head;
    if (head == __atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE))
        return false;
    const struct io_uring_cqe *completion = (const struct io_uring_cqe *)ring->completions + (head & ring->cq_mask);
    *tag = completion->user_data;
    *result = completion->res;
    __atomic_store_n(ring->cq_head, head + 1, __ATOMIC_RELEASE);
    return true;
}

#else

bool fe_uring_open(fe_uring *ring, uint32_t depth)
{
    return (void)ring, (void)depth, false;
}

void fe_uring_close(fe_uring *ring)
{
    (void)ring;
}

void fe_uring_read(fe_uring *ring, int file, void *to, uint32_t size, int64_t offset, uint64_t tag)
{
    (void)ring, (void)file, (void)to, (void)size, (void)offset, (void)tag;
}

bool fe_uring_wait(fe_uring *ring, uint32_t n_ended)
{
    return (void)ring, (void)n_ended, false;
}

bool fe_uring_next(fe_uring *ring, uint64_t *tag, int64_t *result)
{
    return (void)ring, (void)tag, (void)result, false;
}

#endif
