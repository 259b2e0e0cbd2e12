/* Vectors of 64 bytes: a line each. */
#if defined(__x86_64__)
#define FE_ISA avx512
#define FE_TARGET __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq")))
#define VEC_BYTES 64
#include "../kernels/body.inc"
#endif
