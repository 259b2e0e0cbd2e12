#include "dispatch.h"

const fe_kernels *fe_dispatch(void)
{
    return &fe_kernels_baseline;
}

const char *fe_isa(void)
{
    return fe_dispatch()->isa;
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
