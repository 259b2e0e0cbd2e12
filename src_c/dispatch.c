#include "dispatch.h"

#include <stddef.h>
#include <string.h>

#include "cpu.h"

static bool always(void)
{
    return true;
}

/* What this build holds, the widest first. */
static const struct {
    const fe_kernels *kernels;
    bool (*runs_here)(void);
} built[] = {
#if defined(__x86_64__)
    {&fe_kernels_avx512, fe_cpu_has_avx512},
    {&fe_kernels_avx2, fe_cpu_has_avx2},
#elif defined(__aarch64__)
    {&fe_kernels_neon, always},
#endif
    {&fe_kernels_baseline, always},
};

enum { N_BUILT = sizeof built / sizeof *built };

static const fe_kernels *in_use = &fe_kernels_baseline;
static fe_kernels chosen;

/* Kernels that an instruction set does not have are those of the next lower one that runs here. */
static void fill_from(const fe_kernels *lower)
{
    typedef void (*function)(void);
    char *to = (char *)&chosen;
    const char *from = (const char *)lower;
    for (size_t at = offsetof(fe_kernels, copy_ids); at < sizeof chosen; at += sizeof(function)) {
        function kernel;
        memcpy(&kernel, to + at, sizeof kernel);
        if (kernel == NULL)
            memcpy(to + at, from + at, sizeof kernel);
    }
}

const char *fe_isa_available(int32_t k)
{
    for (int32_t b = 0; b < N_BUILT; b++)
        if (built[b].runs_here() && k-- == 0)
            return built[b].kernels->isa;
    return NULL;
}

bool fe_select_isa(const char *isa)
{
    for (int32_t b = 0; b < N_BUILT; b++)
        if (strcmp(built[b].kernels->isa, isa) == 0 && built[b].runs_here()) {
            chosen = *built[b].kernels;
            for (int32_t lower = b + 1; lower < N_BUILT; lower++)
                if (built[lower].runs_here())
                    fill_from(built[lower].kernels);
            in_use = &chosen;
            return true;
        }
    return false;
}

const fe_kernels *fe_dispatch(void)
{
    return in_use;
}

const char *fe_isa(void)
{
    return in_use->isa;
}

#ifdef __clang__
#define COMPILER "" /* __VERSION__ names it */
#else
#define COMPILER "GCC "
#endif

#ifndef FE_CFLAGS
#define FE_CFLAGS ""
#endif

const char *fe_compiler(void)
{
    return COMPILER __VERSION__ " " FE_CFLAGS;
}
