/* Vectors of 32 bytes. */
#if defined(__x86_64__)
#define FE_ISA avx2
#define FE_TARGET __attribute__((target("avx2")))
#define VEC_BYTES 32
#include "../kernels/body.inc"
#endif
