/* Vectors of 32 bytes. */
#if defined(__x86_64__)
#include <immintrin.h>

#define FE_ISA avx2
#define FE_TARGET __attribute__((target("avx2,prfchw")))
#define VEC_BYTES 32
#define FE_STREAM(to, vector) _mm256_stream_si256((__m256i *)(to), (__m256i)(vector))
#define FE_STREAM_END() _mm_sfence()
#include "../kernels/body.inc"
#endif
