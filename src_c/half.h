/* One float16 or bfloat16 as a float32, and random bits. Many of them: kernels/halves.inc. */
#ifndef FE_HALF_H
#define FE_HALF_H

#include <string.h>

#include "fastembed.h"

static inline uint32_t fe_float_to_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float fe_bits_to_float(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

enum { FE_INF = 0x7f800000 }; /* the bits of a float32 */

/* A NaN becomes a quiet one, as the processor's own conversion makes it. */
static inline float fe_half_to_float(uint16_t h, fe_dtype dtype)
{
    if (dtype == FE_BF16)
        return fe_bits_to_float((uint32_t)h << 16);
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, size = h & 0x7fff;
    if (size >= 0x7c00)
        return fe_bits_to_float(sign | FE_INF | (size & 0x3ff) << 13 | (size > 0x7c00 ? 0x400000 : 0));
    return fe_bits_to_float(sign | (size >= 0x400 ? (size << 13) + 0x38000000 : fe_float_to_bits((float)size * 0x1p-24f)));
}

/* The finaliser of splitmix64 (Steele, Lea and Flood, 2014): every bit of the result depends on
 * every bit of x. */
static inline uint64_t fe_mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

#endif
