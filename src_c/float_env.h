/* The floating-point environment that results are defined in: rounding to nearest, subnormals
 * kept. Another library may have set a different one in the calling thread, and a new thread
 * inherits it. */
#ifndef FE_FLOAT_ENV_H
#define FE_FLOAT_ENV_H

#include <stdbool.h>
#include <stdint.h>

typedef uint64_t fe_float_env;

#if defined(__x86_64__)
/* MXCSR: its lower 6 bits are exception flags, which are no part of the environment. */
#define FE_DEFAULT_FLOATS 0x1F80u
#define FE_FLOAT_FLAGS 0x3Fu

static inline fe_float_env fe_get_floats(void)
{
    return __builtin_ia32_stmxcsr();
}

static inline void fe_set_floats(fe_float_env env)
{
    __builtin_ia32_ldmxcsr((uint32_t)env);
}

#elif defined(__aarch64__)
#define FE_DEFAULT_FLOATS 0u /* FPCR */
#define FE_FLOAT_FLAGS 0u

static inline fe_float_env fe_get_floats(void)
{
    fe_float_env env;
    __asm__ volatile("mrs %0, fpcr" : "=r"(env));
    return env;
}

static inline void fe_set_floats(fe_float_env env)
{
    __asm__ volatile("msr fpcr, %0" : : "r"(env) : "memory");
}

#else
#error "fe_get_floats and fe_set_floats are not written for this machine"
#endif

static inline bool fe_are_default(fe_float_env env)
{
    return (env & ~(fe_float_env)FE_FLOAT_FLAGS) == FE_DEFAULT_FLOATS;
}

/* Sets the default environment; returns the one to restore. Writing the register takes many times
 * as long as reading it. */
static inline fe_float_env fe_enter_default_floats(void)
{
    const fe_float_env before = fe_get_floats();
    if (!fe_are_default(before))
        fe_set_floats(FE_DEFAULT_FLOATS);
    return before;
}

static inline void fe_restore_floats(fe_float_env before)
{
    if (!fe_are_default(before))
        fe_set_floats(before);
}

#endif
