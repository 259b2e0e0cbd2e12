#include "cpu.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <stdint.h>

/* Bits of leaf 1, ECX, which AVX2 code needs too: FMA, OSXSAVE (xgetbv may be used), F16C. */
#define FMA_OSXSAVE_F16C (1u << 12 | 1u << 27 | 1u << 29)

/* Bits of leaf 7, EBX. */
#define AVX2 (1u << 5)
#define AVX512 (1u << 16 | 1u << 17 | 1u << 30 | 1u << 31) /* F, DQ, BW, VL */

/* Registers that the system saves (XCR0): SSE and AVX; also the mask registers and both halves of
 * the 512-bit registers. */
#define SAVES_AVX 0x06u
#define SAVES_AVX512 0xe6u

static bool has(uint32_t features, uint32_t saved)
{
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & FMA_OSXSAVE_F16C) != FMA_OSXSAVE_F16C)
        return false;
    uint32_t xcr0, high;
    __asm__("xgetbv" : "=a"(xcr0), "=d"(high) : "c"(0));
    if ((xcr0 & saved) != saved || !__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return false;
    return (b & features) == features;
}

/* Asked once: cpuid leaves a virtual machine, which takes as long as a short look-up. */
bool fe_cpu_has_avx2(void)
{
    static int known = -1;
    if (known < 0)
        known = has(AVX2, SAVES_AVX);
    return known;
}

bool fe_cpu_has_avx512(void)
{
    static int known = -1;
    if (known < 0)
        known = has(AVX512, SAVES_AVX512);
    return known;
}

#else

bool fe_cpu_has_avx2(void)
{
    return false;
}

bool fe_cpu_has_avx512(void)
{
    return false;
}

#endif
