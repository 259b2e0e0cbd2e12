/* Vectors of 64 bytes: a line each. */
#if defined(__x86_64__)
#include <immintrin.h>

#define FE_ISA avx512
#define FE_TARGET __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,f16c,prfchw")))
#define VEC_BYTES 64
#define FE_STREAM(to, vector) _mm512_stream_si512((__m512i *)(to), (__m512i)(vector))
#define FE_STREAM_END() _mm_sfence()
#define FE_WIDEN_BYTES(from) _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(from)))
#define FE_WIDEN_HALVES(from) fe_widen_halves(_mm512_cvtepu8_epi64(_mm_loadl_epi64((const __m128i *)(from))))
#define FE_OF_F16(half) _cvtsh_ss(half)

/* Each of two halves of a byte in a half of 64 bits. */
FE_TARGET __attribute__((always_inline)) static inline __m512i fe_widen_halves(__m512i bytes)
{
    return _mm512_and_si512(_mm512_or_si512(bytes, _mm512_slli_epi64(bytes, 28)), _mm512_set1_epi32(15));
}

#include "../kernels/body.inc"
#endif
