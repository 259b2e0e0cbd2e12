/* Vectors of 16 bytes: what every x86-64 machine has, and a pair of registers or scalars elsewhere. All others are compared with it. */
#define FE_ISA baseline
#define FE_TARGET
#define VEC_BYTES 16
#if defined(__x86_64__)
#include <emmintrin.h>
#define FE_STREAM(to, vector) _mm_stream_si128((__m128i *)(to), (__m128i)(vector))
#define FE_STREAM_END() _mm_sfence()
#endif
#include "../kernels/body.inc"
