/* The limit that look-ups on disk are compared with: a loop of io_uring that reads pages of 4 KiB
 * with so many requests under way, and does nothing with them. */
#include <errno.h>
#include <linux/io_uring.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PAGE = 4096, DEPTH = 64 };

typedef struct {
    int descriptor;
    unsigned *sq_tail, *sq_array, *cq_head, *cq_tail;
    unsigned sq_mask, cq_mask;
    struct io_uring_sqe *entries;
    struct io_uring_cqe *results;
} ring;

static int open_ring(ring *r)
{
    struct io_uring_params p = {0};
    r->descriptor = (int)syscall(SYS_io_uring_setup, DEPTH, &p);
    if (r->descriptor < 0)
        return -errno;
    size_t sq_size = p.sq_off.array + p.sq_entries * sizeof(unsigned);
    size_t cq_size = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe);
    int both = PROT_READ | PROT_WRITE, flags = MAP_SHARED | MAP_POPULATE;
    char *sq = mmap(NULL, sq_size, both, flags, r->descriptor, IORING_OFF_SQ_RING);
    char *cq = mmap(NULL, cq_size, both, flags, r->descriptor, IORING_OFF_CQ_RING);
    void *entries = mmap(NULL, p.sq_entries * sizeof(struct io_uring_sqe), both, flags, r->descriptor, IORING_OFF_SQES);
    if (sq == MAP_FAILED || cq == MAP_FAILED || entries == MAP_FAILED)
        return -ENOMEM;
    r->sq_tail = (unsigned *)(sq + p.sq_off.tail), r->sq_array = (unsigned *)(sq + p.sq_off.array);
    r->sq_mask = *(unsigned *)(sq + p.sq_off.ring_mask);
    r->cq_head = (unsigned *)(cq + p.cq_off.head), r->cq_tail = (unsigned *)(cq + p.cq_off.tail);
    r->cq_mask = *(unsigned *)(cq + p.cq_off.ring_mask);
    r->entries = entries, r->results = (struct io_uring_cqe *)(cq + p.cq_off.cqes);
    return 0;
}

static void ask(ring *r, int file, char *buffer, unsigned slot, int64_t page)
{
    unsigned tail = *r->sq_tail, at = tail & r->sq_mask;
    struct io_uring_sqe *entry = &r->entries[at];
    memset(entry, 0, sizeof *entry);
    entry->opcode = IORING_OP_READ, entry->fd = file, entry->off = (uint64_t)page * PAGE;
    entry->addr = (uint64_t)(uintptr_t)(buffer + (size_t)slot * PAGE), entry->len = PAGE, entry->user_data = slot;
    r->sq_array[at] = at;
    __atomic_store_n(r->sq_tail, tail + 1, __ATOMIC_RELEASE);
}

/* Reads n pages of a file that is open for direct reads; 0, or a negative errno. Rings and buffers
 * are left to the end of the process. */
int read_pages(int file, const int64_t *pages, int64_t n)
{
    static ring r;
    static char *buffer;
    int error = buffer ? 0 : open_ring(&r);
    if (!error && !buffer && posix_memalign((void **)&buffer, PAGE, (size_t)DEPTH * PAGE))
        error = -ENOMEM;
    int64_t n_asked = 0, n_done = 0;
    for (unsigned slot = 0; !error && slot < DEPTH && n_asked < n; slot++)
        ask(&r, file, buffer, slot, pages[n_asked++]);
    unsigned n_new = (unsigned)n_asked;
    while (!error && n_done < n) {
        if (syscall(SYS_io_uring_enter, r.descriptor, n_new, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0 && errno != EINTR)
            return -errno;
        unsigned head = *r.cq_head;
        for (n_new = 0; head != __atomic_load_n(r.cq_tail, __ATOMIC_ACQUIRE); head++, n_done++) {
            const struct io_uring_cqe *result = &r.results[head & r.cq_mask];
            if (result->res <= 0)
                return result->res ? result->res : -EIO;
            if (n_asked < n)
                ask(&r, file, buffer, (unsigned)result->user_data, pages[n_asked++]), n_new++;
        }
        __atomic_store_n(r.cq_head, head, __ATOMIC_RELEASE);
    }
    return error;
}
