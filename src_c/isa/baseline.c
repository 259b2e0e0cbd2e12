/* Vectors of 16 bytes: what every x86-64 machine has, and a pair of registers or scalars elsewhere. All others are compared with it. */
#define FE_ISA baseline
#if defined(__x86_64__) && !defined(__clang__)
#define FE_TARGET __attribute__((optimize("Os"))) /* hardly a machine is left that needs it: small before fast */
#else
#define FE_TARGET
#endif
#define VEC_BYTES 16
#if defined(__x86_64__)
#include <emmintrin.h>
#define FE_STREAM(to, vector) _mm_stream_si128((__m128i *)(to), (__m128i)(vector))
#define FE_STREAM_END() _mm_sfence()
#endif
#include "../kernels/body.inc"
