/* Vectors of 64 bytes, a cache line each. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define FE_ISA avx512
#define FE_TARGET __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,f16c,prfchw")))
#define VEC_BYTES 64
#define FE_STREAM(to, vector) _mm512_stream_si512((__m512i *)(to), (__m512i)(vector))
#define FE_STREAM_HALVES(to, a, b)                                                                                               \
    _mm512_stream_si512((__m512i *)(to), _mm512_inserti64x4(_mm512_castsi256_si512((__m256i)(a)), (__m256i)(b), 1))
#define FE_STREAM_END() _mm_sfence()
#define FE_WIDEN_U16(h) _mm512_cvtepu16_epi32((__m256i)(h))
#define FE_NARROW_U32(x) _mm512_cvtepi32_epi16((__m512i)(x))
#define FE_WIDEN_F16(h) _mm512_cvtph_ps((__m256i)(h))
#define FE_NARROW_F16(x) _mm512_cvtps_ph((__m512)(x), _MM_FROUND_TO_NEAREST_INT)
#define FE_WIDEN_BYTES(from) _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(from)))
#define FE_PICK_NIBBLES(levels, from) _mm512_permutexvar_ps(nibbles(from), (__m512)(levels))
#define FE_F16_TO_FLOAT(half) _cvtsh_ss(half)
#define FE_FMA(x, y, z) ((float_vec)_mm512_fmadd_ps((__m512)(x), (__m512)(y), (__m512)(z)))
#define FE_SOME_KERNELS

/* 16 half bytes, each in the lowest bits of an int32, which is all that a permutation reads. */
FE_TARGET __attribute__((always_inline)) static inline __m512i nibbles(const char *from)
{
    int64_t both;
    memcpy(&both, from, sizeof both);
    const __m512i words = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
    const __m512i shifts = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28);
    return _mm512_srlv_epi32(_mm512_permutexvar_epi32(words, _mm512_set1_epi64(both)), shifts);
}

#include "../kernels/body.inc"
#endif
