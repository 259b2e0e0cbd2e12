/* Vectors of 16 bytes: SSE2, which every x86-64 machine has; elsewhere what the compiler makes of
 * them. */
#define FE_ISA baseline
#define FE_TARGET
#define VEC_BYTES 16
#if defined(__x86_64__)
#include <emmintrin.h>
#define FE_STREAM(to, vector) _mm_stream_si128((__m128i *)(to), (__m128i)(vector))
#define FE_STREAM_HALVES(to, a, b) _mm_stream_si128((__m128i *)(to), (__m128i){(long long)(a), (long long)(b)})
#define FE_STREAM_END() _mm_sfence()
#endif
#include "../kernels/body.inc"
