/* A malloc to be preloaded, of which one call fails: the n-th on one thread after fail_at(n). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

static __thread bool is_counting = false;
static __thread long n_left = 0, n_counted = 0;

/* dlsym itself allocates while the addresses are looked up. */
static char early[1 << 16];
static size_t early_used = 0;

static void *(*next_malloc)(size_t);
static void *(*next_calloc)(size_t, size_t);
static void *(*next_realloc)(void *, size_t);
static void (*next_free)(void *);
static int (*next_posix_memalign)(void **, size_t, size_t);
static void *(*next_aligned_alloc)(size_t, size_t);

__attribute__((constructor)) static void look_up(void)
{
    *(void **)&next_calloc = dlsym(RTLD_NEXT, "calloc");
    *(void **)&next_malloc = dlsym(RTLD_NEXT, "malloc");
    *(void **)&next_realloc = dlsym(RTLD_NEXT, "realloc");
    *(void **)&next_free = dlsym(RTLD_NEXT, "free");
    *(void **)&next_posix_memalign = dlsym(RTLD_NEXT, "posix_memalign");
    *(void **)&next_aligned_alloc = dlsym(RTLD_NEXT, "aligned_alloc");
}

static void *take_early(size_t n)
{
    void *taken = early + early_used;
    early_used += (n + 15) & ~(size_t)15;
    return early_used <= sizeof early ? taken : NULL;
}

static bool is_early(const void *p)
{
    return (const char *)p >= early && (const char *)p < early + sizeof early;
}

static bool fails(void)
{
    if (!is_counting)
        return false;
    n_counted++;
    if (--n_left != 0)
        return false;
    errno = ENOMEM;
    return true;
}

/* From now on the n-th allocation of this thread fails. */
void fail_at(long n)
{
    n_left = n;
    n_counted = 0;
    is_counting = true;
}

/* No more; whether one has failed. */
int has_failed(void)
{
    is_counting = false;
    return n_left <= 0;
}

void *malloc(size_t n)
{
    if (next_malloc == NULL)
        look_up();
    return fails() ? NULL : next_malloc(n);
}

void *calloc(size_t n, size_t size)
{
    if (next_calloc == NULL)
        return take_early(n * size);
    return fails() ? NULL : next_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
    if (next_realloc == NULL)
        look_up();
    if (is_early(p)) {
        void *moved = next_malloc(n);
        return moved == NULL ? NULL : memcpy(moved, p, n < (size_t)(early + sizeof early - (char *)p) ? n : 0);
    }
    return fails() ? NULL : next_realloc(p, n);
}

void free(void *p)
{
    if (p != NULL && !is_early(p))
        next_free(p);
}

int posix_memalign(void **p, size_t alignment, size_t n)
{
    return fails() ? ENOMEM : next_posix_memalign(p, alignment, n);
}

void *aligned_alloc(size_t alignment, size_t n)
{
    return fails() ? NULL : next_aligned_alloc(alignment, n);
}
