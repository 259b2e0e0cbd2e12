/* Vectors of 16 bytes: what every x86-64 machine has, and a pair of registers or scalars elsewhere. All others are compared with it. */
#define FE_ISA baseline
#define FE_TARGET
#define VEC_BYTES 16
#include "../kernels/body.inc"
