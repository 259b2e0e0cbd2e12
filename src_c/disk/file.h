/* Reads at a place of an open file; memory for them, aligned as direct I/O needs it. */
#ifndef FE_DISK_FILE_H
#define FE_DISK_FILE_H

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#if defined(_WIN32)
#include <io.h>
#include <malloc.h>
#include <windows.h>

static inline int64_t fe_read_once(int file, char *to, int64_t size, int64_t offset)
{
    OVERLAPPED at = {.Offset = (DWORD)offset, .OffsetHigh = (DWORD)((uint64_t)offset >> 32)};
    DWORD n_read = 0;
    if (ReadFile((HANDLE)_get_osfhandle(file), to, (DWORD)size, &n_read, &at))
        return n_read;
    return GetLastError() == ERROR_HANDLE_EOF ? 0 : -EIO;
}

static inline char *fe_new_buffer(int64_t size)
{
    return _aligned_malloc((size_t)size, 4096);
}

static inline void fe_free_buffer(char *buffer, int64_t size)
{
    (void)size;
    _aligned_free(buffer);
}

#else
#include <sys/mman.h>
#include <unistd.h>

static inline int64_t fe_read_once(int file, char *to, int64_t size, int64_t offset)
{
    const ssize_t n = pread(file, to, (size_t)size, (off_t)offset);
    return n < 0 ? -errno : n;
}

/* Pages of its own, which a child does not share: where a read is under way while a process forks,
 * it could otherwise end in the child's copy. */
static inline char *fe_new_buffer(int64_t size)
{
    void *found = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (found == MAP_FAILED)
        return NULL;
#if defined(MADV_DONTFORK)
    madvise(found, (size_t)size, MADV_DONTFORK);
#endif
    return found;
}

static inline void fe_free_buffer(char *buffer, int64_t size)
{
    munmap(buffer, (size_t)size);
}
#endif

/* The bytes up to offset + size or the end of the file; minus an errno if a read fails. */
static inline int64_t fe_read_at(int file, char *to, int64_t size, int64_t offset)
{
    int64_t n_read = 0;
    while (n_read < size) {
        const int64_t n = fe_read_once(file, to + n_read, size - n_read, offset + n_read);
        if (n == -EINTR)
            continue;
        if (n < 0)
            return n;
        n_read += n;
        if (n == 0 || n_read % 4096 != 0) /* a page in part is the last one, and no place for direct I/O to go on */
            break;
    }
    return n_read;
}

#endif
