/* Vectors of 64 bytes, a cache line each. */
#if defined(__x86_64__)
#include <immintrin.h>

#define FE_ISA avx512
#define FE_TARGET __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,prfchw")))
#define VEC_BYTES 64
#define FE_STREAM(to, vector) _mm512_stream_si512((__m512i *)(to), (__m512i)(vector))
#define FE_STREAM_HALVES(to, a, b)                                                                                               \
    _mm512_stream_si512((__m512i *)(to), _mm512_inserti64x4(_mm512_castsi256_si512((__m256i)(a)), (__m256i)(b), 1))
#define FE_STREAM_END() _mm_sfence()
#define FE_WIDEN_U16(h) _mm512_cvtepu16_epi32((__m256i)(h))
#define FE_NARROW_U32(x) _mm512_cvtepi32_epi16((__m512i)(x))
#define FE_WIDEN_F16(h) _mm512_cvtph_ps((__m256i)(h))
#define FE_NARROW_F16(x) _mm512_cvtps_ph((__m512)(x), _MM_FROUND_TO_NEAREST_INT)
#define FE_SOME_KERNELS
#include "../kernels/body.inc"
#endif
