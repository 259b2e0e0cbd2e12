/* Vectors of 16 bytes, which every arm64 machine has. */
#if defined(__aarch64__)
#define FE_ISA neon
#define FE_TARGET
#define VEC_BYTES 16
#include "../kernels/body.inc"
#endif
