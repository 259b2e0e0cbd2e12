/* Vectors of 16 bytes: SSE2, which every x86-64 machine has; elsewhere what the compiler makes of
 * them. */
#define FE_ISA baseline
#define FE_TARGET
#define VEC_BYTES 16
#if defined(__x86_64__)
#include <emmintrin.h>
#define FE_STREAM(to, vector) _mm_stream_si128((__m128i *)(to), (__m128i)(vector))
#define FE_STREAM_END() _mm_sfence()
#define FE_CODE_PRODUCTS(codes, query)                                                                                           \
    _mm_madd_epi16(widen_codes((const __m128i *)(codes)), _mm_loadu_si128((const __m128i *)(query)))

__attribute__((always_inline)) static inline __m128i widen_codes(const __m128i *codes)
{
    const __m128i bytes = _mm_loadl_epi64(codes);
    return _mm_srai_epi16(_mm_unpacklo_epi8(bytes, bytes), 8);
}
#endif
#include "../kernels/body.inc"
