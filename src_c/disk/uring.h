/* Reads through io_uring, by system calls alone. One thread opens a ring and uses it. */
#ifndef FE_DISK_URING_H
#define FE_DISK_URING_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    int descriptor;
    void *rings, *entries;
    uint64_t rings_size, entries_size;
    uint32_t *sq_tail, *sq_array, *cq_head, *cq_tail;
    uint32_t sq_mask, cq_mask, n_queued;
    void *completions;
} fe_uring;

/* False where the system has none, or does not allow it. `depth` is a number of reads. */
bool fe_uring_open(fe_uring *ring, uint32_t depth);
void fe_uring_close(fe_uring *ring);

/* Queues a read; no more than `depth` may be queued or under way. */
void fe_uring_read(fe_uring *ring, int file, void *to, uint32_t size, int64_t offset, uint64_t tag);

/* Starts the queued reads and waits until at least so many have ended. False if that failed. */
bool fe_uring_wait(fe_uring *ring, uint32_t n_ended);

/* One read that has ended: its tag, and the bytes read or minus an errno. False without one. */
bool fe_uring_next(fe_uring *ring, uint64_t *tag, int64_t *result);

#endif
