/* Vectors of 16 bytes, which every arm64 machine has. */
#if defined(__aarch64__)
#include <arm_neon.h>

#define FE_ISA neon
#define FE_TARGET
#define VEC_BYTES 16
#define FE_FMA(x, y, z) ((float_vec)vfmaq_f32((float32x4_t)(z), (float32x4_t)(x), (float32x4_t)(y)))
#include "../kernels/body.inc"
#endif
