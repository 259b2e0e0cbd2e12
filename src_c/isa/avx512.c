/* Vectors of 64 bytes, a cache line each. */
#if defined(__x86_64__)
#include <immintrin.h>

#define FE_ISA avx512
#define FE_TARGET __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,prfchw")))
#define VEC_BYTES 64
#define FE_STREAM(to, vector) _mm512_stream_si512((__m512i *)(to), (__m512i)(vector))
#define FE_STREAM_END() _mm_sfence()
#define FE_SOME_KERNELS
#define FE_CODE_PRODUCTS(codes, query)                                                                                           \
    _mm512_madd_epi16(_mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(codes))), _mm512_loadu_si512(query))
#include "../kernels/body.inc"
#endif
