/* The kernels of one instruction set, and what they share with the entry points.
 *
 * A kernel works on one block of resolved ids: rows[i] is a row of its table, already checked, or
 * -1 for no row. It owns no memory and no thread, cannot fail, and processes items in order, so
 * that every element is summed in the order of `rows`.
 */
#ifndef FE_KERNELS_H
#define FE_KERNELS_H

#include <stddef.h>

#include "../array.h"

#define FE_CACHE_LINE 64 /* bytes */

static inline bool fe_is_half(fe_dtype dtype)
{
    return dtype == FE_F16 || dtype == FE_BF16;
}

/* The dtype of sums, factors and optimiser state of a table. */
static inline fe_dtype fe_arithmetic(fe_dtype dtype)
{
    return dtype == FE_F64 ? FE_F64 : FE_F32;
}

/* Bytes of an element; for packed rows, of an element of their results. */
static inline int64_t fe_item_size(fe_dtype dtype)
{
    return dtype == FE_F64 ? sizeof(double) : fe_is_half(dtype) ? sizeof(uint16_t) : dtype == FE_BYTES ? 1 : sizeof(float);
}

static inline char *fe_row(const fe_table *table, int64_t row)
{
    return table->data + row * table->row_stride;
}

/* ---- look-ups and scatter-add ---- */

/* for i: to[i] = from[i], at any alignment; `to` may be `from`. Returns whether all of them are
 * rows: 0 <= id < n_rows. */
typedef bool fe_copy_ids_kernel(int64_t *to, const char *from, int64_t n_ids, int64_t n_rows);

/* for i: ids[i] = start + i */
typedef void fe_count_ids_kernel(int64_t *ids, int64_t n_ids, int64_t start);

/* for i: out[i] = table[rows[i]], zeros for no row. row_size is in bytes: a copy needs no dtype.
 * The kernels called _stream, here and below, write `out` past the cache. */
typedef void fe_gather_kernel(const fe_table *table, const int64_t *rows, int64_t row_size, fe_run out);
typedef fe_gather_kernel fe_gather_stream_kernel;

/* for i: out[i] = wte[token_rows[i]] + wpe[position_rows[i]], zeros for no row */
typedef void fe_gather_add_kernel(const fe_table *wte, const int64_t *token_rows, const fe_table *wpe,
                                  const int64_t *position_rows, fe_run out);
typedef fe_gather_add_kernel fe_gather_add_stream_kernel;

/* The same for tables of halves, into rows of their dtype or of float32, with `stream` past the
 * cache. wpe is of the dtype of wte or float32; without it (NULL) nothing is added. */
typedef void fe_gather_halves_kernel(const fe_table *wte, const int64_t *token_rows, const fe_table *wpe,
                                     const int64_t *position_rows, fe_run out, fe_dtype out_dtype, bool stream);

/* for i: out[i] = row rows[i] of halves or of a packed table, decoded into float32 and rounded to
 * out_dtype; zeros for no row. With `stream` past the cache. */
typedef void fe_decode_kernel(const fe_table *table, const int64_t *rows, fe_run out, fe_dtype out_dtype, bool stream);

/* for d: out[d] = a[d] + b[d]: one row */
typedef void fe_add_row_kernel(char *out, const char *a, const char *b, int64_t n_cols);

/* for i < n_items: table[rows[i]] += values[i], unless no row; later rows and values are only
 * prefetched */
typedef void fe_scatter_add_kernel(const fe_table *table, const int64_t *rows, fe_run values, int64_t n_items);

/* the same: dwte[token_rows[i]] += dout[i], dwpe[position_rows[i]] += dout[i]; dout is read once */
typedef void fe_scatter_add_pair_kernel(const fe_table *dwte, const int64_t *token_rows, const fe_table *dwpe,
                                        const int64_t *position_rows, fe_run dout, int64_t n_items);

/* ---- optimisers ---- */

/* for i: row rows[i] of t (row i where rows is NULL) applies its pending steps. Unlike other
 * kernels, this may meet the same row in several threads: one of them updates it. */
typedef void fe_apply_pending_kernel(const fe_lazy_table *t, const int64_t *rows, int64_t first, int64_t end);

/* Items first .. end - 1 of a batch, which hold all items of their rows: each row applies its
 * pending steps, then `now` with the sum of its gradients, and n_applied is set to that number. */
typedef void fe_apply_step_kernel(const fe_lazy_table *t, const fe_step *now, int32_t n_applied, const fe_batch *batch,
                                  int64_t first, int64_t end);

/* For such items: sums row(rows[i]) += item i's gradient. */
typedef void fe_add_rows_kernel(const fe_table *sums, const fe_batch *batch, int64_t first, int64_t end);

/* ---- bags ---- */

#define FE_BAG_PREFETCH_DISTANCE 32 /* items */

/* How a bag is reduced: in any mode, with or without factors; or as a sum of all its rows, which
 * come from memory or from the last cache. */
typedef enum { ANY_BAG, SUM_FROM_MEMORY, SUM_FROM_CACHE } bag_way;

/* Some items of one bag. */
typedef struct {
    fe_bag_mode mode;
    bool is_first;       /* out holds no row of this bag yet */
    bool all_kept;       /* all items have a row */
    int64_t n_items;     /* length of rows and factors */
    int64_t n_following; /* how many rows follow in memory, which may be prefetched */
    double divisor;      /* of the sum; 1 unless these are the last items */
    const char *factors; /* as in fe_bags */
} fe_bag_part;

/* out = the sum or maximum of `out`, which is in the dtype of arithmetic, and of some items of a
 * bag */
typedef void fe_bag_kernel(const fe_table *table, const int64_t *rows, const fe_bag_part *part, char *out);

/* Rows of `out`, out_stride bytes apart: 0 + row(rows[i]), the sum of a bag of one item; zeros
 * where rows[i] is -1. n_known rows, of which the first n_bags are summed, may be prefetched. */
typedef void fe_bags_of_one_kernel(const fe_table *table, const int64_t *rows, int64_t n_known, int64_t n_bags, char *out,
                                   int64_t out_stride);

/* out = a row of float32 rounded to halves of that dtype */
typedef void fe_round_row_kernel(char *out, fe_dtype dtype, const char *row, int64_t n_cols);

/* for d: unless winners[d] >= 0: winners[d] = the first item, counted from first_item, whose
 * element is largest[d] */
typedef void fe_bag_winners_kernel(const fe_table *table, const int64_t *rows, const fe_bag_part *part, int64_t first_item,
                                   const char *largest, int64_t *winners);

/* ---- as the entry points of that name, for items or rows first .. end - 1 ---- */

typedef void fe_dots_kernel(const fe_table *table, const fe_batch *batch, char *dots, int64_t first, int64_t end);
typedef void fe_costs_kernel(const fe_table *rows, const fe_table *queries, const fe_metric *metric, char *costs, char *squares,
                             int64_t first, int64_t end);
typedef void fe_norm_rows_kernel(const fe_table *rows, const fe_table *grads, bool is_layer, double eps, int64_t first,
                                 int64_t end);
typedef void fe_dropout_kernel(const fe_table *rows, double p, uint64_t key, int64_t first, int64_t end);
typedef void fe_logistic_kernel(const char *logits, const char *targets, double divisor, char *gradients, double *losses,
                                int64_t first, int64_t end);
typedef void fe_cross_entropy_kernel(const fe_table *logits, const int64_t *targets, double divisor, const fe_table *gradients,
                                     double *losses, int64_t first, int64_t end);
typedef void fe_sum_powers_kernel(const fe_table *rows, double p, double *sums, int64_t first, int64_t end);

typedef int64_t fe_below_kernel(const fe_table *rows, const fe_lines *lines, const char *limits, int64_t *found);
typedef void fe_code_bounds_kernel(const fe_codes *codes, const fe_code_query *query, float *lower, float *upper, int64_t first,
                                   int64_t end);

/* ---- the table ---- */

/* Every kernel once: ONE(name), or EACH(name, n) for an array of n, one for each dtype: that of
 * arithmetic where n is FE_N_DTYPES. */
#define FE_KERNELS(ONE, EACH)                                                                                                    \
    ONE(copy_ids)                                                                                                                \
    ONE(count_ids)                                                                                                               \
    ONE(gather)                                                                                                                  \
    ONE(gather_stream)                                                                                                           \
    EACH(gather_add, FE_N_DTYPES)                                                                                                \
    EACH(gather_add_stream, FE_N_DTYPES)                                                                                         \
    ONE(gather_halves)                                                                                                           \
    ONE(decode)                                                                                                                  \
    EACH(add_row, FE_N_READ_DTYPES)                                                                                              \
    EACH(scatter_add, FE_N_DTYPES)                                                                                               \
    EACH(scatter_add_pair, FE_N_DTYPES)                                                                                          \
    EACH(apply_pending, FE_N_DTYPES)                                                                                             \
    EACH(apply_step, FE_N_DTYPES)                                                                                                \
    EACH(add_rows, FE_N_DTYPES)                                                                                                  \
    EACH(bag, FE_N_READ_DTYPES)                                                                                                  \
    EACH(bags_of_one, FE_N_DTYPES)                                                                                               \
    ONE(round_row)                                                                                                               \
    EACH(bag_winners, FE_N_DTYPES)                                                                                               \
    EACH(dots, FE_N_DTYPES)                                                                                                      \
    EACH(costs, FE_N_DTYPES)                                                                                                     \
    EACH(norm_rows, FE_N_DTYPES)                                                                                                 \
    EACH(dropout, FE_N_DTYPES)                                                                                                   \
    EACH(logistic, FE_N_DTYPES)                                                                                                  \
    EACH(cross_entropy, FE_N_DTYPES)                                                                                             \
    EACH(sum_powers, FE_N_DTYPES)                                                                                                \
    EACH(below, FE_N_DTYPES)                                                                                                     \
    ONE(code_bounds)

/* A pointer to each; NULL where the next narrower instruction set's is used (dispatch.c). */
typedef struct {
    const char *isa;
#define FE_MEMBER(name) fe_##name##_kernel *name;
#define FE_MEMBERS(name, n) fe_##name##_kernel *name[n];
    FE_KERNELS(FE_MEMBER, FE_MEMBERS)
#undef FE_MEMBER
#undef FE_MEMBERS
} fe_kernels;

extern const fe_kernels fe_kernels_baseline;
#if defined(__x86_64__)
extern const fe_kernels fe_kernels_avx2, fe_kernels_avx512;
#elif defined(__aarch64__)
extern const fe_kernels fe_kernels_neon;
#endif

#endif
