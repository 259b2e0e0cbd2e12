#include "dispatch.h"

#include <stddef.h>
#include <string.h>

#include "cpu.h"

static bool always(void)
{
    return true;
}

/* The instruction sets of this build, the widest first. */
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

/* Kernels that `kernels` lacks become those of `lower`. */
static void fill_from(fe_kernels *kernels, const fe_kernels *lower)
{
#define FILL(kernel)                                                                                                             \
    if (kernels->kernel == NULL)                                                                                                 \
        kernels->kernel = lower->kernel;
#define FILL_EACH(kernel, n_dtypes)                                                                                              \
    for (int dtype = 0; dtype < n_dtypes; dtype++) {                                                                             \
        FILL(kernel[dtype])                                                                                                      \
    }
    FE_KERNELS(FILL, FILL_EACH)
#undef FILL
#undef FILL_EACH
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
    static fe_kernels selected;
    for (int32_t b = 0; b < N_BUILT; b++)
        if (strcmp(built[b].kernels->isa, isa) == 0 && built[b].runs_here()) {
            selected = *built[b].kernels;
            for (int32_t lower = b + 1; lower < N_BUILT; lower++)
                if (built[lower].runs_here())
                    fill_from(&selected, built[lower].kernels);
            in_use = &selected;
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
