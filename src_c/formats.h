/* Formats of packed rows: how many bytes hold how many elements. */
#ifndef FE_FORMATS_H
#define FE_FORMATS_H

#include "fastembed.h"

/* A block of a row: its elements, and its bytes. */
typedef struct {
    int16_t n_cols, size;
} fe_block_layout;

/* Of the formats whose rows are nothing but blocks; FP8 has its scales beside them, and FBGEMM's
 * rows end with one scale and bias. */
static const fe_block_layout fe_block_layouts[FE_N_READ_DTYPES] = {
    [FE_E4M3] = {1, 1},     [FE_E5M2] = {1, 1},     [FE_F16] = {1, 2},      [FE_BF16] = {1, 2},
    [FE_Q8_0] = {32, 34},   [FE_Q4_0] = {32, 18},   [FE_Q2_K] = {256, 84},  [FE_Q3_K] = {256, 110},
    [FE_Q4_K] = {256, 144}, [FE_Q5_K] = {256, 176}, [FE_Q6_K] = {256, 210},
};

/* Bytes of the elements of a row. */
static inline int64_t fe_elements_size(const fe_table *table)
{
    if (table->dtype == FE_Q8 || table->dtype == FE_Q4)
        return table->dtype == FE_Q8 ? table->n_cols : (table->n_cols + 1) / 2;
    const fe_block_layout layout = fe_block_layouts[table->dtype];
    return table->n_cols / layout.n_cols * layout.size;
}

/* Bytes of the scales of a row that are not within its blocks. */
static inline int64_t fe_scales_size(const fe_table *table)
{
    if (table->dtype == FE_Q8 || table->dtype == FE_Q4)
        return table->dtype == FE_Q8 ? 2 * sizeof(float) : 2 * sizeof(uint16_t);
    const int64_t n_blocks = table->block_size == 0 ? 0 : (table->n_cols + table->block_size - 1) / table->block_size;
    return n_blocks * (table->has_float_scales ? (int64_t)sizeof(float) : 1);
}

#endif
