/* The table of kernels that one instruction set provides, and the rules that every kernel keeps.
 *
 * A kernel works on one block of resolved ids: rows[i] is a row of its table, already checked, or -1 for no row. It owns no
 * memory and no thread, cannot fail, and touches items in order, so that every element is summed in the order of `rows`.
 */
#ifndef FE_KERNELS_H
#define FE_KERNELS_H

#include <stddef.h>

#include "../array.h"

static inline char *fe_row(const fe_table *table, int64_t row)
{
    return table->data + row * table->row_stride;
}

/* How many of a batch's items, from `item` on, are of one row. */
static inline int64_t fe_items_of_row(const fe_batch *batch, int64_t item, int64_t end)
{
    int64_t n_items = 1;
    while (item + n_items < end && batch->rows[item + n_items] == batch->rows[item])
        n_items++;
    return n_items;
}

__attribute__((returns_nonnull)) static inline const char *fe_gradient(const fe_batch *batch, int64_t item)
{
    return fe_array_run(batch->grads, batch->order == NULL ? item : batch->order[item], 1).data;
}

/* The gradient to ask for while that of `item` is worked on. */
__attribute__((returns_nonnull)) static inline const char *fe_coming_gradient(const fe_batch *batch, int64_t item)
{
    return fe_gradient(batch, item + 1 < batch->n_items ? item + 1 : item);
}

#define FE_STRIP_SIZE 8192 /* bytes of a row whose gradients are summed at one time, on the stack */

#define FE_AT_ONCE 8 /* gradients of one row that are summed in registers */

#define FE_BAG_AHEAD 32 /* items: a bag's row is asked for so much earlier */

/* Some items of a bag. is_first: out holds nothing of it yet. all_kept: none is no row. n_coming: rows that follow these in memory.
 * divisor: of the sum. */
typedef struct {
    fe_bag_mode mode;
    bool is_first, all_kept;
    int64_t n_items, n_coming;
    double divisor;
    const char *factors;
} fe_bag_part;

typedef struct {
    const char *isa;

    /* for i: to[i] = from[i], at any alignment; to may be from. Whether all are 0 <= id < n_rows. */
    bool (*copy_ids)(int64_t *to, const char *from, int64_t n_ids, int64_t n_rows);

    /* for i: ids[i] = start + i */
    void (*count_ids)(int64_t *ids, int64_t n_ids, int64_t start);

    /* for i: out[i] = table[rows[i]], zeros for no row; row_size is in bytes, a copy needs no dtype. [1]: out goes past the cache. */
    void (*gather[2])(const fe_table *table, const int64_t *rows, int64_t row_size, fe_run out);

    /* for i: out[i] = wte[token_rows[i]] + wpe[position_rows[i]], zeros for no row. [1]: out goes past the cache. */
    void (*gather_add[2][FE_N_DTYPES])(const fe_table *wte, const int64_t *token_rows, const fe_table *wpe,
                                       const int64_t *position_rows, fe_run out);

    /* out[d] = a[d] + b[d]: one row, with nothing around it */
    void (*add_row[FE_N_DTYPES])(char *out, const char *a, const char *b, int64_t n_cols);

    /* for i: table[rows[i]] += values[i], unless no row */
    void (*scatter_add[FE_N_DTYPES])(const fe_table *table, const int64_t *rows, fe_run values);

    /* for i: dwte[token_rows[i]] += dout[i], dwpe[position_rows[i]] += dout[i], unless no row; dout is read once */
    void (*scatter_add_pair[FE_N_DTYPES])(const fe_table *dwte, const int64_t *token_rows, const fe_table *dwpe,
                                          const int64_t *position_rows, fe_run dout);

    /* for i: row rows[i] of t (row i where rows is NULL) takes every recorded step that it has missed. Unlike other kernels, several threads may
     * work on one row: one of them does. */
    void (*apply_pending[FE_N_DTYPES])(const fe_lazy_table *t, const int64_t *rows, int64_t first, int64_t end);

    /* Items first .. end - 1 of a batch, which are all that there are of their rows: each row takes the recorded steps that it has missed, and
     * `now` with the sum of its gradients. It has then taken n_applied recorded steps. */
    void (*apply_step[FE_N_DTYPES])(const fe_lazy_table *t, const fe_step *now, int32_t n_applied, const fe_batch *batch, int64_t first, int64_t end);

    /* Items of that kind: sums row(rows[i]) += item i's gradient. */
    void (*add_rows[FE_N_DTYPES])(const fe_table *sums, const fe_batch *batch, int64_t first, int64_t end);

    /* for i: sums[i] = the sum of |x|^p over row i, in float64, or the maximum for INFINITY */
    void (*sum_powers[FE_N_DTYPES])(const fe_table *rows, double p, double *sums, int64_t first, int64_t end);

    /* out = out and part of a bag */
    void (*bag[FE_N_READ_DTYPES])(const fe_table *table, const int64_t *rows, const fe_bag_part *part, char *out);

    /* winners[d] = the first item of the part, counted from first_item, whose element is largest[d], unless there is one already */
    void (*bag_winners[FE_N_DTYPES])(const fe_table *table, const int64_t *rows, const fe_bag_part *part, int64_t first_item,
                                     const char *largest, int64_t *winners);

    /* Items first .. end - 1: dots[i] = row rows[i] times gradient i; rows need not be sorted. */
    void (*dots[FE_N_DTYPES])(const fe_table *table, const fe_batch *batch, char *dots, int64_t first, int64_t end);

    /* As fe_products, for rows first .. end - 1. */
    void (*products[FE_N_DTYPES])(const fe_table *rows, const fe_table *queries, char *products, char *squares, int64_t first, int64_t end);

    /* As fe_norm_rows and fe_dropout, for rows first .. end - 1. */
    void (*norm_rows[FE_N_DTYPES])(const fe_table *rows, const fe_table *grads, bool is_layer, double eps, int64_t first, int64_t end);
    void (*dropout[FE_N_DTYPES])(const fe_table *rows, double p, uint64_t key, int64_t first, int64_t end);
} fe_kernels;

/* Null where the compiler does not target that machine. */
extern const fe_kernels fe_kernels_baseline;
#if defined(__x86_64__)
extern const fe_kernels fe_kernels_avx2, fe_kernels_avx512;
#elif defined(__aarch64__)
extern const fe_kernels fe_kernels_neon;
#endif

#endif
