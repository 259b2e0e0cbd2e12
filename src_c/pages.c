/* Large pages; pages of a mapped file: whether rows are in memory, reading them ahead of use, and
 * releasing them. */
#define _GNU_SOURCE /* RUSAGE_THREAD */
#include "huge.h"
#include "shared.h"

#include <stddef.h>

#if defined(_WIN32)

bool fe_any_nonresident(const fe_mapped_rows *mapped, const int64_t *rows, int64_t n_rows)
{
    return (void)mapped, (void)rows, (void)n_rows, false;
}

void fe_prefetch_pages(const fe_mapped_rows *mapped, const int64_t *rows, int64_t n_rows)
{
    (void)mapped, (void)rows, (void)n_rows;
}

void fe_release_pages(const fe_mapped_rows *mapped, const int64_t *rows, int64_t n_rows)
{
    (void)mapped, (void)rows, (void)n_rows;
}

char *fe_map_file(int file, int64_t size, bool is_writable)
{
    return (void)file, (void)size, (void)is_writable, NULL;
}

void fe_unmap_file(char *memory, int64_t size)
{
    (void)memory, (void)size;
}

bool fe_use_large_pages(char *memory, int64_t size)
{
    return (void)memory, (void)size, false;
}

void fe_discard_pages(char *memory, int64_t size)
{
    (void)memory, (void)size;
}

#else

#include <errno.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "pool.h"

/* Page faults so far that had to read from the disk. */
static int64_t major_faults(void)
{
    struct rusage usage;
#if defined(RUSAGE_THREAD)
    getrusage(RUSAGE_THREAD, &usage);
#else
    getrusage(RUSAGE_SELF, &usage);
#endif
    return usage.ru_majflt;
}

static bool is_row(const fe_mapped_rows *mapped, int64_t row)
{
    return row >= 0 && row < mapped->n_rows && mapped->row_size > 0;
}

/* Reads up to 32 rows, evenly spaced, and asks for the count of faults after the first, the eighth
 * and the last: asking takes longer than reading a row that is in memory. */
bool fe_any_nonresident(const fe_mapped_rows *mapped, const int64_t *rows, int64_t n_rows)
{
    enum { MAX_PROBES = 32 };
    const int64_t before = major_faults(), n = n_rows < MAX_PROBES ? n_rows : MAX_PROBES;
    for (int64_t k = 0; k < n; k++) {
        const int64_t row = rows[n_rows / n * k];
        if (is_row(mapped, row))
            (void)*(volatile const char *)(mapped->data + row * mapped->row_size);
        if ((k == 0 || k == 7 || k == n - 1) && major_faults() != before)
            return true;
    }
    return false;
}

typedef struct {
    const fe_mapped_rows *mapped;
    const int64_t *rows;
    int64_t n_rows, rows_per_piece;
    int advice;
} advise_work;

/* Adjacent pages go into one call of madvise. */
static fe_status advise_piece(const void *of_job, int64_t piece)
{
    const advise_work *work = of_job;
    const fe_mapped_rows *mapped = work->mapped;
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), data = (uintptr_t)mapped->data;
    const fe_range range = fe_piece_items(work->n_rows, work->rows_per_piece, piece);
    uintptr_t from = 0, to = 0;
    for (int64_t i = range.first; i < range.end; i++) {
        if (!is_row(mapped, work->rows[i]))
            continue;
        const uintptr_t first = data + (uintptr_t)(work->rows[i] * mapped->row_size), last = first + (uintptr_t)mapped->row_size;
        const uintptr_t first_page = first - first % page;
        if (first_page > to || first_page < from) {
            if (to > from)
                madvise((void *)from, to - from, work->advice);
            from = first_page;
        }
        to = last + (page - last % page) % page;
    }
    if (to > from)
        madvise((void *)from, to - from, work->advice);
    return (fe_status){.code = FE_OK};
}

static void advise(const fe_mapped_rows *mapped, const int64_t *rows, int64_t n_rows, int advice)
{
    const advise_work work = {mapped, rows, n_rows, .rows_per_piece = 256, .advice = advice};
    fe_pool_run(advise_piece, &work, fe_n_pieces(n_rows, work.rows_per_piece), NULL);
}

void fe_prefetch_pages(const fe_mapped_rows *mapped, const int64_t *rows, int64_t n_rows)
{
    advise(mapped, rows, n_rows, MADV_WILLNEED);
}

void fe_release_pages(const fe_mapped_rows *mapped, const int64_t *rows, int64_t n_rows)
{
    advise(mapped, rows, n_rows, MADV_DONTNEED);
}

/* ---- of shared tables ---- */

enum { LARGE_PAGE = 1 << 21 };

/* Reserves enough addresses for a mapping of that size that begins at a multiple of a large page,
 * and gives back those before and after it. */
static char *reserve_aligned(size_t size)
{
    char *reserved = mmap(NULL, size + LARGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANON, -1, 0);
    if (reserved == MAP_FAILED)
        return NULL;
    const size_t before = -(uintptr_t)reserved & (LARGE_PAGE - 1);
    if (before > 0)
        munmap(reserved, before);
    munmap(reserved + before + size, LARGE_PAGE - before);
    return reserved + before;
}

char *fe_map_file(int file, int64_t size, bool is_writable)
{
    char *place = reserve_aligned((size_t)size);
    if (place == NULL)
        return NULL;
    const int protection = PROT_READ | (is_writable ? PROT_WRITE : 0);
    char *memory = mmap(place, (size_t)size, protection, MAP_SHARED | MAP_FIXED, file, 0);
    if (memory != MAP_FAILED)
        return memory;
    const int error = errno;
    munmap(place, (size_t)size);
    errno = error;
    return NULL;
}

void fe_unmap_file(char *memory, int64_t size)
{
    munmap(memory, (size_t)size);
}

bool fe_use_large_pages(char *memory, int64_t size)
{
    return fe_advise_huge(memory, size) && fe_collapse_pages(memory, size);
}

void fe_discard_pages(char *memory, int64_t size)
{
#if defined(MADV_REMOVE)
    madvise(memory, (size_t)size, MADV_REMOVE);
#else
    (void)memory, (void)size;
#endif
}

#endif
