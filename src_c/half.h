/* float16 and bfloat16 to float32 and back, rounded to nearest (ties to even) or stochastically. */
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

/* Bits of float32 numbers: infinity; the smallest normal and the largest float16, and from where on
 * rounding to float16 gives infinity; the largest bfloat16. */
enum {
    FE_INF = 0x7f800000,
    FE_F16_MIN = 0x38800000,
    FE_F16_MAX = 0x477fe000,
    FE_F16_TO_INF = 0x477ff000,
    FE_BF16_MAX = 0x7f7f0000,
};

static inline float fe_half_to_float(uint16_t h, fe_storage storage)
{
    if (storage == FE_BF16)
        return fe_bits_to_float((uint32_t)h << 16);
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, size = h & 0x7fff;
    if (size >= 0x7c00)
        return fe_bits_to_float(sign | FE_INF | (size & 0x3ff) << 13);
    return fe_bits_to_float(sign | (size >= 0x400 ? (size << 13) + 0x38000000 : fe_float_to_bits((float)size * 0x1p-24f)));
}

/* Rounded to nearest. */
static inline uint16_t fe_float_to_half(float x, fe_storage storage)
{
    const uint32_t bits = fe_float_to_bits(x), size = bits & 0x7fffffff;
    if (storage == FE_BF16)
        return (uint16_t)(size > FE_INF ? (bits >> 16 | 0x40) : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    if (size > FE_INF)
        return sign | 0x7e00;
    if (size >= FE_F16_TO_INF)
        return sign | 0x7c00;
    if (size >= FE_F16_MIN)
        return (uint16_t)(sign | (size + 0xfff + (size >> 13 & 1) - 0x38000000) >> 13);
    const float rounded = fe_bits_to_float(size) * 0x1p24f + 0x1p23f; /* to a whole number */
    return (uint16_t)(sign | (fe_float_to_bits(rounded) & 0x7fffff));
}

/* Rounded stochastically: away from zero with the probability that the cut-off part is of a unit,
 * by the upper bits of `random`. Infinities, NaN and numbers beyond the largest are as above. */
static inline uint16_t fe_float_to_half_stochastic(float x, fe_storage storage, uint32_t random)
{
    const uint32_t bits = fe_float_to_bits(x), size = bits & 0x7fffffff;
    if (size > (storage == FE_BF16 ? FE_BF16_MAX : FE_F16_MAX))
        return fe_float_to_half(x, storage);
    if (storage == FE_BF16)
        return (uint16_t)((bits + (random >> 16)) >> 16);
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    if (size >= FE_F16_MIN)
        return (uint16_t)(sign | (size + (random >> 19) - 0x38000000) >> 13);
    return (uint16_t)(sign | ((uint32_t)(fe_bits_to_float(size) * 0x1p37f) + (random >> 19)) >> 13);
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
