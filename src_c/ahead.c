/* Rows of a mapped file: whether they have to be read from the disk; asking for them all before they are read, and letting go of them. */
#define _GNU_SOURCE /* RUSAGE_THREAD */
#include "fastembed.h"

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

#else

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "pool.h"

static int64_t disk_reads(void)
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

/* Asking for rows that are there takes as long as reading them many times over, so that a few are tried first. */
bool fe_any_nonresident(const fe_mapped_rows *mapped, const int64_t *rows, int64_t n_rows)
{
    enum { N_TRIED = 32 };
    const int64_t before = disk_reads(), n = n_rows < N_TRIED ? n_rows : N_TRIED;
    for (int64_t k = 0; k < n; k++) {
        const int64_t row = rows[n_rows / n * k];
        if (is_row(mapped, row))
            (void)*(volatile const char *)(mapped->data + row * mapped->row_size);
        if ((k == 0 || k == 7 || k == n - 1) && disk_reads() != before) /* the question takes longer than a row that is there */
            return true;
    }
    return false;
}

typedef struct {
    const fe_mapped_rows *mapped;
    const int64_t *rows;
    int64_t n_rows, n_pieces;
    int advice;
} advise_work;

static fe_status advise_piece(const void *of_job, int64_t piece)
{
    const advise_work *work = of_job;
    const fe_mapped_rows *mapped = work->mapped;
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), data = (uintptr_t)mapped->data;
    const int64_t end = fe_first_of_piece(work->n_rows, work->n_pieces, piece + 1);
    uintptr_t from = 0, to = 0; /* pages side by side go in one call */
    for (int64_t i = fe_first_of_piece(work->n_rows, work->n_pieces, piece); i < end; i++) {
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
    enum { ROWS_PER_PIECE = 256 };
    const int64_t n_pieces = n_rows / ROWS_PER_PIECE + 1;
    const advise_work work = {mapped, rows, n_rows, n_pieces, advice};
    fe_pool_run(advise_piece, &work, n_pieces, NULL);
}

void fe_prefetch_pages(const fe_mapped_rows *mapped, const int64_t *rows, int64_t n_rows)
{
    advise(mapped, rows, n_rows, MADV_WILLNEED);
}

void fe_release_pages(const fe_mapped_rows *mapped, const int64_t *rows, int64_t n_rows)
{
    advise(mapped, rows, n_rows, MADV_DONTNEED);
}

#endif
