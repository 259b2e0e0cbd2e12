/* Vectors of 64 bytes, a cache line each. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define FE_ISA avx512
#define FE_TARGET __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,f16c,prfchw")))
#define VEC_BYTES 64
#define FE_STREAM(to, vector) _mm512_stream_si512((__m512i *)(to), (__m512i)(vector))
#define FE_STREAM_END() _mm_sfence()
#define FE_SQRT(x) sqrt_of_floats((__m512)(x))
#define FE_WIDEN_U16(h) _mm512_cvtepu16_epi32((__m256i)(h))
#define FE_NARROW_U32(x) _mm512_cvtepi32_epi16((__m512i)(x))
#define FE_UPPER_HALVES(a, b) _mm512_permutex2var_epi16((__m512i)(a), odd_words(), (__m512i)(b))
#define FE_WIDEN_F16(h) _mm512_cvtph_ps((__m256i)(h))
#define FE_NARROW_F16(x) _mm512_cvtps_ph((__m512)(x), _MM_FROUND_TO_NEAREST_INT)
#define FE_WIDEN_BYTES(from) _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(from)))
#define FE_PICK_NIBBLES(levels, from) _mm512_permutexvar_ps(nibbles(from), (__m512)(levels))
#define FE_WIDEN_TO_HALVES(bytes) _mm512_cvtepi8_epi16((__m256i)(bytes))
#define FE_F16_TO_FLOAT(half) _cvtsh_ss(half)
#define FE_FMA(x, y, z) ((float_vec)_mm512_fmadd_ps((__m512)(x), (__m512)(y), (__m512)(z)))
#define FE_SOME_KERNELS
#define FE_CODE_PRODUCTS(codes, query)                                                                                           \
    _mm512_madd_epi16(_mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(codes))), _mm512_loadu_si512(query))

/* The square roots that the instruction gives, to the bit: an estimate of 1 / sqrt(x) to 14 bits, a
 * Newton step, and a correction that is rounded once (Markstein 1990). All floats of two binades,
 * which stand for all others, were compared; and where the root is closest to the middle of two
 * floats, for every estimate that the instruction set admits. The instruction occupies the divider,
 * which an update needs for its quotient too: steps with a gradient of zeros take 0.72 of the time.
 * Outside the range in which no product underflows it is the instruction. */
FE_TARGET __attribute__((always_inline)) static inline __m512 sqrt_of_floats(__m512 x)
{
    const __m512 half = _mm512_set1_ps(0.5F), least = _mm512_set1_ps(0x1p-100F), most = _mm512_set1_ps(0x1p100F);
    const __mmask16 is_in_range = _mm512_cmp_ps_mask(x, least, _CMP_GE_OQ) & _mm512_cmp_ps_mask(x, most, _CMP_LE_OQ);
    if (__builtin_expect(is_in_range != 0xFFFF, 0))
        return _mm512_sqrt_ps(x);
    const __m512 estimate = _mm512_rsqrt14_ps(x);
    __m512 root = x * estimate, half_inverse = half * estimate;
    const __m512 error = _mm512_fnmadd_ps(root, half_inverse, half);
    root = _mm512_fmadd_ps(root, error, root);
    half_inverse = _mm512_fmadd_ps(half_inverse, error, half_inverse);
    return _mm512_fmadd_ps(half_inverse, _mm512_fnmadd_ps(root, root, x), root);
}

/* 16 half bytes, each in the lowest bits of an int32, which is all that a permutation reads. */
FE_TARGET __attribute__((always_inline)) static inline __m512i nibbles(const char *from)
{
    int64_t both;
    memcpy(&both, from, sizeof both);
    const __m512i words = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
    const __m512i shifts = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28);
    return _mm512_srlv_epi32(_mm512_permutexvar_epi32(words, _mm512_set1_epi64(both)), shifts);
}

/* 1, 3, ..., 63 */
FE_TARGET __attribute__((always_inline)) static inline __m512i odd_words(void)
{
    const __m512i numbers =
        _mm512_cvtepu8_epi16(_mm256_setr_epi64x(0x0706050403020100, 0x0f0e0d0c0b0a0908, 0x1716151413121110, 0x1f1e1d1c1b1a1918));
    return _mm512_or_si512(_mm512_slli_epi16(numbers, 1), _mm512_set1_epi16(1));
}

#include "../kernels/body.inc"
#endif
