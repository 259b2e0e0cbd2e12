/* The kernels in plain C: every machine runs them, and every other instruction set is compared with them. */
#include <string.h>

#include "../kernels/kernels.h"

/* Elements at any alignment: tables may lie in a mapped file or a packed record. */
typedef float f32_any __attribute__((aligned(1), may_alias));
typedef double f64_any __attribute__((aligned(1), may_alias));

#include "../kernels/gather.inc"

#define T f32_any
#define NAME(op) op##_f32
#include "../kernels/typed.inc"
#undef NAME
#undef T

#define T f64_any
#define NAME(op) op##_f64
#include "../kernels/typed.inc"
#undef NAME
#undef T

const fe_kernels fe_kernels_baseline = {
    .isa = "baseline",
    .gather = gather,
    .gather_add = {[FE_F32] = gather_add_f32, [FE_F64] = gather_add_f64},
    .scatter_add = {[FE_F32] = scatter_add_f32, [FE_F64] = scatter_add_f64},
};
