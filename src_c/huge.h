/* Large pages for new memory. A new array of 150 MB is otherwise 37,000 page faults, which take
 * three times as long as writing it. */
#ifndef FE_HUGE_H
#define FE_HUGE_H

#include <stdint.h>

enum { FE_HUGE_SIZE = 1 << 22 }; /* bytes from which it is worth a call of the system */

#if defined(__linux__)
#include <sys/mman.h>

/* Asks the system for them, in the whole pages within that memory; what it holds does not
 * change. */
static inline void fe_advise_huge(char *data, int64_t size)
{
    const uintptr_t page = 4096, first = ((uintptr_t)data + page - 1) & ~(page - 1),
                    end = ((uintptr_t)data + (uintptr_t)size) & ~(page - 1);
    if (size >= FE_HUGE_SIZE)
        (void)madvise((void *)first, end - first, MADV_HUGEPAGE);
}

#else
static inline void fe_advise_huge(char *data, int64_t size)
{
    (void)data, (void)size;
}
#endif
#endif
