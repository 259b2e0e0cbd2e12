/* The C contract of fastembed: what each entry point does, as its loop in pseudocode.
 *
 * D is a table's number of columns. Lengths say what they count (n_ids, n_rows); strides are in
 * bytes and may be negative or zero. Every function may run without the GIL, calls nothing of
 * Python, and returns a status instead of printing or aborting.
 */
#ifndef FASTEMBED_H
#define FASTEMBED_H

#include <stdbool.h>
#include <stdint.h>

#define FE_MAX_DIMS 64 /* NumPy's own limit */

/* Arithmetic is in float32 or float64. The others are how elements are stored, for arithmetic in
 * float32: float16 and bfloat16, to which a result is rounded once, when it is stored; and packed
 * tables, which only look-ups and bags read: a row of FE_Q8 or FE_Q4 holds elements of 8 or 4 bits
 * (of two in a byte the lower half comes first), then a scale and a bias: two float32, or with 4
 * bits two float16. The value of an element is element * scale + bias, rounded once, to float32.
 * Those from FE_E4M3 on are packed tables that are decoded (kernels/decode.inc): FP8 (e4m3fn, e5m2)
 * with a scale for each block of a row; the blocks of GGUF. FE_BYTES: rows of bytes, which look-ups
 * copy, whatever they are. */
typedef enum {
    FE_F32,
    FE_F64,
    FE_N_DTYPES,
    FE_F16 = FE_N_DTYPES,
    FE_BF16,
    FE_Q8,
    FE_Q4,
    FE_E4M3,
    FE_E5M2,
    FE_Q8_0,
    FE_Q4_0,
    FE_Q2_K,
    FE_Q3_K,
    FE_Q4_K,
    FE_Q5_K,
    FE_Q6_K,
    FE_N_READ_DTYPES,
    FE_BYTES = FE_N_READ_DTYPES
} fe_dtype;

/* What an id outside 0 <= id < n_rows means: an error; id modulo n_rows; the nearest row; no row,
 * which counts as zeros. */
typedef enum { FE_RAISE, FE_WRAP, FE_CLIP, FE_ZERO } fe_bounds;

/* Integer types of ids; FE_ARANGE stands for ids that are computed: start + i % period. FE_NGRAM:
 * they are rows of n-grams (fe_ngram_rows). */
typedef enum { FE_I8, FE_U8, FE_I16, FE_U16, FE_I32, FE_U32, FE_I64, FE_U64, FE_ARANGE, FE_NGRAM } fe_id_type;

/* FE_REPLACED: the name of a shared table is of another one now. */
typedef enum { FE_OK, FE_BAD_ID, FE_NO_MEMORY, FE_STOPPED, FE_REPLACED } fe_code;

/* The outcome of a call. For FE_BAD_ID: which array of ids (0 is the first), where in it in C
 * order, and the id's 64 bits. */
typedef struct {
    fe_code code;
    int32_t operand;
    int64_t index;
    int64_t id;
} fe_status;

/* A table: n_rows rows of D contiguous elements, row_stride bytes apart. A table that is read may
 * have any alignment; one that is written is aligned. */
typedef struct {
    char *data;
    int64_t n_rows, n_cols, row_stride;
    fe_dtype dtype;

    /* Of FP8 alone: a scale for each block_size elements of a row, in float32 or ue8m0 (a byte x
     * stands for 2^(x - 127), 255 for NaN). Those of row r begin at scales + r * scales_stride. */
    bool has_float_scales;
    int64_t block_size;
    const char *scales;
    int64_t scales_stride;

    const struct fe_shared *shared; /* or NULL (shared.h); fe_gather alone reads shared tables */
} fe_table;

/* An n-dimensional array of items (ids, or rows of D elements) taken in C order. Made by
 * fe_array_init, which merges axes where it can, so that most arrays end up with a single axis. */
typedef struct {
    char *data;
    int64_t n_items;
    fe_dtype dtype; /* of the elements of rows; unused for ids */
    int32_t n_dims; /* at least 1 */
    int64_t shape[FE_MAX_DIMS], strides[FE_MAX_DIMS];
} fe_array;

typedef struct fe_ngram_rows fe_ngram_rows; /* ngram.h */

typedef struct {
    fe_array array; /* for FE_ARANGE and FE_NGRAM only n_items is used */
    fe_id_type type;
    bool swapped; /* not in the machine's byte order */
    int64_t start, period;
    const fe_ngram_rows *ngrams;
} fe_ids;

/* Called now and then, by the caller's thread, during a long reading call; a result other than 0
 * ends the call with FE_STOPPED. May be NULL. */
typedef int (*fe_stop)(void);

/* shape and strides of the items' axes: the axis of a row's elements is not among them. The dtype
 * is left to the caller. */
void fe_array_init(fe_array *array, char *data, int32_t n_dims, const int64_t *shape, const int64_t *strides);

/* Bytes of the elements of a row of a packed table, and of its scales: those of one tensor, or of
 * two. -1 if no row has that n_cols. */
int64_t fe_packed_size(const fe_table *table, bool of_scales);

/* ---- look-ups and scatter-add ---- */

/* Ids are checked before anything is written: all of the first array, then all of the second. The
 * first bad id in C order is reported. When an id is used it is loaded and checked once more, so
 * that ids which another thread changes can give a wrong row or a late error, never an access
 * outside a table. */

/* for i: rows[i] = the row that ids[i] means, or -1 for no row. rows == NULL only checks. */
fe_status fe_resolve_ids(const fe_ids *ids, int64_t n_rows, fe_bounds bounds, int64_t *rows, fe_stop stop);

/* Results have the dtype of the table, or that of its arithmetic.
 *
 * for i: out[i] = row(ids[i]), zeros for no row. is_new: the caller drops `out` on an error, so
 * that no check runs beforehand; the bad id that is reported is then not always the first. */
fe_status fe_gather(const fe_table *table, const fe_ids *ids, fe_bounds bounds, const fe_array *out, bool is_new, fe_stop stop);

/* for i: out[i] = wte row(token_ids[i]) + wpe row(position_ids[i]), zeros for no row. wpe has the
 * dtype of wte, or that of its arithmetic. */
fe_status fe_gather_add(const fe_table *wte, const fe_ids *token_ids, const fe_table *wpe, const fe_ids *position_ids,
                        fe_bounds bounds, const fe_array *out, bool is_new, fe_stop stop);

/* The same for a few tokens at positions start, start + 1, ..., with as little overhead as can be.
 * `out` is contiguous, and all of one dtype. False if an id is out of range; `out` is then
 * undefined. */
bool fe_gather_add_few(const fe_table *wte, const int64_t *token_ids, int64_t n_ids, const fe_table *wpe, int64_t start,
                       char *out);

/* for i: table row(ids[i]) += values[i], unless no row. All ids are copied and checked first. */
fe_status fe_scatter_add(const fe_table *table, const fe_ids *ids, fe_bounds bounds, const fe_array *values);

/* for i: dwte row(token_ids[i]) += dout[i]; dwpe row(position_ids[i]) += dout[i]. All ids are
 * copied and checked first. */
fe_status fe_gather_add_backward(const fe_array *dout, const fe_table *dwte, const fe_ids *token_ids, const fe_table *dwpe,
                                 const fe_ids *position_ids, fe_bounds bounds);

/* ---- bags ---- */

typedef enum { FE_BAG_SUM, FE_BAG_MEAN, FE_BAG_SQRTN, FE_BAG_MAX } fe_bag_mode;

/* Bag b holds items offsets[b] .. offsets[b + 1] - 1. offsets do not decrease and stay within the
 * number of ids. */
typedef struct {
    const int64_t *offsets;
    int64_t n_bags;
    fe_bag_mode mode;
    const char *factors; /* one for each item, in the dtype of arithmetic; or NULL. Not with FE_BAG_MAX */
    int64_t padding_row; /* items of this row count as no row; or -1 */
} fe_bags;

/* for b: out[b] = the sum, in order, of factors[i] * row(ids[i]) over the items of bag b that have
 * a row, divided by their number (mean) or its square root (sqrtn); or their maximum; zeros for an
 * empty bag. All ids are checked first, unless is_new (as in fe_gather) lets bags check theirs.
 * With `winners`, `out` already holds the maxima, and winners[b * D + d], which is -1 before,
 * becomes the first item that has the maximum. `out` has one axis. */
fe_status fe_embedding_bag(const fe_table *table, const fe_ids *ids, fe_bounds bounds, const fe_bags *bags, const fe_array *out,
                           int64_t *winners, bool is_new, fe_stop stop);

/* One feature of a batch: its table, and at which byte of a row of the result its columns begin. */
typedef struct {
    fe_table table;
    int64_t out_offset;
} fe_feature;

/* The bags of many features at once: for f, b: the columns of feature f in row b of `out` = bag
 * f * B + b of its table, where B = bags->n_bags / n_features, as fe_embedding_bag sums it.
 * `factors` are in the dtype of all results. All ids are checked first, feature by feature. */
fe_status fe_embedding_bags(const fe_feature *features, int64_t n_features, const fe_ids *ids, fe_bounds bounds,
                            const fe_bags *bags, char *out, int64_t out_stride, fe_stop stop);

/* for i: parts[4 i .. 4 i + 3] = the four 32-bit words of MurmurHash3 (x64, 128 bits) of ids[i]
 * with that seed, the low word first */
void fe_hash_parts(const uint64_t *ids, int64_t n_ids, uint32_t seed, uint32_t *parts);

/* for i: rows[4 i .. 4 i + 3] = these words modulo n_rows, which is not 0 */
void fe_hash_rows(const uint64_t *ids, int64_t n_ids, uint32_t seed, uint32_t n_rows, int64_t *rows);

/* ---- rows of a mapped file ---- */

/* Contiguous rows, of row_size bytes each, in the memory of a mapped file. */
typedef struct {
    char *data;
    int64_t n_rows, row_size;
} fe_mapped_rows;

/* Whether some of these rows are not in memory. A guess: a few of them are read, one after the
 * other, until one causes a page fault. Rows outside the table are skipped, here and below. */
bool fe_any_nonresident(const fe_mapped_rows *mapped, const int64_t *rows, int64_t n_rows);

/* Asks the system to read the pages of these rows, which are sorted. */
void fe_prefetch_pages(const fe_mapped_rows *mapped, const int64_t *rows, int64_t n_rows);

/* Gives the memory of the pages of these rows back to the system; they are sorted, and hold what
 * the file holds. */
void fe_release_pages(const fe_mapped_rows *mapped, const int64_t *rows, int64_t n_rows);

/* ---- norms of rows, and dropout ---- */

/* for i: row i becomes (row - mean) / sqrt(mean((row - mean)^2) + eps); is_layer: mean is the row's
 * mean (layer norm), else 0 (RMS norm). With grads, which hold the gradients of the normalised
 * rows, these become the gradients of the rows as they were. */
void fe_norm_rows(const fe_table *rows, const fe_table *grads, bool is_layer, double eps);

/* for i, d: an element becomes 0 with probability p, else 1 / (1 - p) times itself. The random bits
 * depend on seed, call, i and d alone. */
void fe_dropout(const fe_table *rows, double p, uint64_t seed, uint64_t call);

/* for i: sums[i] = the sum of |x|^p over row i, in float64 whatever the dtype; the maximum of |x|
 * if p is INFINITY */
void fe_sum_powers(const fe_table *rows, double p, double *sums);

/* ---- optimisers: the formulas are those of fastembed/reference/optim.py ---- */

typedef enum { FE_SGD, FE_ADAGRAD, FE_ROWWISE_ADAGRAD, FE_ADAM, FE_SPARSE_ADAM, FE_N_RULES } fe_rule;

/* The scalars of one step, in float64: each is rounded once to the table's dtype when it is used.
 * Those that a rule does not use are 0, except eps, correction and beta2, which are then 1. */
typedef struct {
    double lr;            /* the learning rate, with the bias correction of the first moment */
    double beta1, alpha1; /* first moment: m = beta1 * m + alpha1 * g, in SGD too */
    double beta2, alpha2; /* second moment: v = beta2 * v + alpha2 * g * g */
    double correction;    /* factor of sqrt(v): the bias correction of the second moment */
    double eps;           /* added to sqrt(v) * correction */
    double l2;            /* g = g + l2 * w */
    double decay;         /* w = (1 - decay) * w: lr * weight_decay */
    double nesterov;      /* 0 or 1 */
    double number;        /* of the step, from 1 on; stochastic rounding depends on it */

    /* Set by every call for itself (bound_pending in update.c). */
    double update_bound, m_bound, next_m_bound, min_v;
} fe_step;

/* A table that an optimiser updates lazily, with the optimiser's state in the dtype of arithmetic.
 * All of these arrays are written, and no two rows overlap.
 * Of the n_steps recorded steps row r has applied the first n_applied[r]; the others are pending,
 * and are applied, with a gradient of zeros, before anything else happens to the row. A step is
 * recorded if it moves rows without a gradient too.
 * Rows of 2 bytes an element are rounded after every step, to nearest or stochastically; with a
 * float32 master copy only at the end of a call. */
typedef struct {
    fe_rule rule;
    fe_table table;
    bool is_stochastic;
    uint64_t seed, stream;     /* random bits depend on seed, stream, step, row and column */
    fe_table master;           /* float32; data is NULL if there is none */
    fe_table state[2];         /* moments, or momentum, or sum of squares; data is NULL if unused */
    int32_t *n_applied;        /* one for each row */
    const double *multipliers; /* of each row's learning rate, 0 for a frozen row; NULL: all 1 */
    fe_step *steps;
    int32_t n_steps;
} fe_lazy_table;

/* The gradients of some rows of a table, in its dtype or in that of its arithmetic. rows are
 * sorted; item i has the gradient grads[order[i]] * factors[i], rounded; with by_frequency that is
 * divided by the number of items of its row, and rounded. order NULL: grads[i]; factors NULL: no
 * product. */
typedef struct {
    const int64_t *rows;
    const int32_t *order;
    const double *factors; /* rounded to the gradients' dtype when they are used */
    bool by_frequency;
    int64_t n_items;
    const fe_array *grads;
} fe_batch;

/* for i: row rows[i], or every row where rows is NULL, applies its pending steps. */
void fe_apply_pending(const fe_lazy_table *lazy, const int64_t *rows, int64_t n_rows);

/* One step, `now`, of the rows of a batch: each applies its pending steps, then this one with the
 * sum of its gradients, in the order of the items. n_applied becomes n_steps, + 1 if is_recorded:
 * the caller then appends the step. */
void fe_apply_step(const fe_lazy_table *lazy, const fe_step *now, bool is_recorded, const fe_batch *batch);

/* for i: sums row(rows[i]) += item i's gradient; the sum of a row is rounded once, when it is
 * stored */
void fe_add_rows(const fe_table *sums, const fe_batch *batch);

/* for r: sums row r = the sum of the gradients of row r; zeros without one. The rows of `sums` lie
 * one after the other. */
void fe_sum_rows(const fe_table *sums, const fe_batch *batch);

/* sorted = rows in ascending order, order = the index of each in rows; the sort is stable.
 * 0 <= rows[i] < n_rows. rows and scratch, of n items, are overwritten. */
void fe_sort_rows(int64_t *rows, int64_t n, int64_t n_rows, int64_t *sorted, int32_t *order, int32_t *scratch);

/* ---- losses of logits, whose gradients are over a divisor ---- */

/* for i, with p = 1 / (1 + e^-logits[i]): gradients[i] = (p - targets[i]) / divisor,
 *        losses[i] = -targets[i] log(p) - (1 - targets[i]) log(1 - p)
 * All arrays but losses are of that dtype, and side by side. */
void fe_logistic(fe_dtype dtype, const char *logits, const char *targets, int64_t n_items, double divisor, char *gradients,
                 double *losses);

/* for i: p = softmax(row i of logits), losses[i] = -log(p[targets[i]]),
 *        row i of gradients = (p, of which 1 is taken from p[targets[i]]) / divisor
 * Where targets[i] is -1 all of these are 0. */
void fe_cross_entropy(const fe_table *logits, const int64_t *targets, double divisor, const fe_table *gradients, double *losses);

/* ---- dot products, each summed in 16 parts ---- */

/* for i: dots[i] = row rows[i] times gradient grads[order[i]]; 0 for row -1. rows need not be
 * sorted. */
void fe_dots(const fe_table *table, const fe_batch *batch, char *dots);

typedef enum { FE_DOT, FE_COSINE, FE_L2 } fe_metric_kind;

typedef struct {
    fe_metric_kind kind;
    double smallest, largest; /* squares of rows whose products are near enough to the true ones */
} fe_metric;

/* for i: squares[i] = row i times itself, or NaN if that is outside of the metric's range and not
 *        all of the row is 0;
 * for q: costs[q * n_rows + i] = row i times query q
 *        times 1, of cosines 1 / sqrt(squares[i]) or 0; plus 0, of L2 squares[i]
 * All in the rows' dtype. */
void fe_costs(const fe_table *rows, const fe_table *queries, const fe_metric *metric, char *costs, char *squares);

/* For each column of a matrix, in its dtype. */
typedef struct {
    const char *factors, *offsets;
} fe_lines;

/* The places r * n_cols + c of the elements of contiguous rows for which
 *   not rows[r][c] * factors[c] + offsets[c] >= limits[r],
 * in ascending order; returns how many. Without lines (NULL) the elements are taken as they are.
 * found has room for all elements. */
int64_t fe_below(const fe_table *rows, const fe_lines *lines, const char *limits, int64_t *found);

/* ---- bounds from codes of 8 bits ---- */

/* Row i is about scales[i] * codes[i]; its cost, offsets[i] + scale * its product with a query. */
typedef struct {
    const int8_t *codes; /* n_rows x row_size, a multiple of 32; from -127 to 127 */
    int64_t n_rows, row_size;
    const float *scales, *errors, *lengths, *offsets;
} fe_codes;

typedef struct {
    const int16_t *numbers; /* row_size; 127 times the sum of their magnitudes fits int32 */
    float scale, of_errors, of_lengths, of_offsets;
} fe_code_query;

/* for i: cost = offsets[i] + scale * (scales[i] * (codes[i] times numbers)),
 *        error = of_errors * errors[i] + of_lengths * lengths[i] + of_offsets * offsets[i],
 *        lower[i] = cost - error, upper[i] = cost + error
 * The product is exact; every other operation is one of float32. */
void fe_code_bounds(const fe_codes *codes, const fe_code_query *query, float *lower, float *upper);

/* ---- custom calls of XLA (xla.c) ---- */

/* The address and the name of the k-th handler; NULL past the last one. */
void *fe_xla_handler(int32_t k, const char **name);

/* ---- instruction sets and threads ---- */

/* The k-th instruction set that this build has and this machine runs, the widest first; NULL past
 * the last one. */
const char *fe_isa_available(int32_t k);

/* Use the kernels of that instruction set from now on; false if it is not available. */
bool fe_select_isa(const char *isa);

/* The instruction set in use: baseline until one is selected. */
const char *fe_isa(void);

/* The compiler and the flags that this was built with. */
const char *fe_compiler(void);

/* How many threads a call may use, the caller among them; 1 until set, and n is at least 1. */
int32_t fe_get_num_threads(void);
void fe_set_num_threads(int32_t n);

#endif
