/* Large pages for new memory. A new array of 150 MB is otherwise 37,000 page faults, which take
 * three times as long as writing it. */
#ifndef FE_HUGE_H
#define FE_HUGE_H

#include <stdbool.h>
#include <stdint.h>

enum { FE_HUGE_SIZE = 1 << 22 }; /* bytes from which it is worth a call of the system */

#if defined(__linux__)
#include <sys/mman.h>

/* Advice on the whole pages within that memory; what it holds does not change. Whether it was
 * taken. */
static inline bool fe_advise(char *data, int64_t size, int advice)
{
    const uintptr_t page = 4096, first = ((uintptr_t)data + page - 1) & ~(page - 1),
                    end = ((uintptr_t)data + (uintptr_t)size) & ~(page - 1);
    return size >= FE_HUGE_SIZE && madvise((void *)first, end - first, advice) == 0;
}

/* Asks the system for them, where the memory is touched for the first time from now on. */
static inline bool fe_advise_huge(char *data, int64_t size)
{
    return fe_advise(data, size, MADV_HUGEPAGE);
}

/* The same, at once, for memory that has been touched; Linux 6.1 and later do so. */
static inline bool fe_collapse_pages(char *data, int64_t size)
{
    enum { COLLAPSE = 25 }; /* MADV_COLLAPSE, which older headers do not have */
    return fe_advise(data, size, COLLAPSE);
}

#else
static inline bool fe_advise_huge(char *data, int64_t size)
{
    return (void)data, (void)size, false;
}

static inline bool fe_collapse_pages(char *data, int64_t size)
{
    return (void)data, (void)size, false;
}
#endif
#endif
