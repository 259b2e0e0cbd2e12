/* The C contract of fastembed: what each entry point does, as its loop in pseudocode.
 *
 * D is a table's number of columns. Lengths say what they count (n_ids, n_rows); strides are in bytes and may be negative or zero.
 * Every function may run without the GIL, calls nothing of Python, and returns a status instead of printing or aborting.
 */
#ifndef FASTEMBED_H
#define FASTEMBED_H

#include <stdbool.h>
#include <stdint.h>

#define FE_MAX_DIMS 64 /* NumPy's own limit */

/* FE_Q8 and FE_Q4 are of tables that are only read, by look-ups and bags: packed rows of 8 or 4 bits an element (of two in a byte the lower half
 * is the first), then a scale and a bias, two float32 or with 4 bits two float16. An element stands for element * scale + bias in float32. */
typedef enum { FE_F32, FE_F64, FE_N_DTYPES, FE_Q8 = FE_N_DTYPES, FE_Q4, FE_N_READ_DTYPES } fe_dtype;

/* What an id outside 0 <= id < n_rows means: an error; id modulo n_rows; the nearest row; a row of zeros. */
typedef enum { FE_RAISE, FE_WRAP, FE_CLIP, FE_ZERO } fe_bounds;

/* Integer types of ids; FE_ARANGE stands for ids that are computed: start + i % period. */
typedef enum { FE_I8, FE_U8, FE_I16, FE_U16, FE_I32, FE_U32, FE_I64, FE_U64, FE_ARANGE } fe_id_type;

typedef enum { FE_OK, FE_BAD_ID, FE_NO_MEMORY, FE_STOPPED } fe_code;

/* The outcome of a call. For FE_BAD_ID: which ids (0 = the first, 1 = the second), where in C order, and the id's 64 bits. */
typedef struct {
    fe_code code;
    int32_t operand;
    int64_t index;
    int64_t id;
} fe_status;

/* A table: n_rows rows of D elements that lie side by side; rows need not. Any alignment is read; a written one is aligned. */
typedef struct {
    char *data;
    int64_t n_rows, n_cols, row_stride;
    fe_dtype dtype;
} fe_table;

/* An n-dimensional array of items (ids, or rows of D elements) taken in C order. Made by fe_array_init, which joins axes
 * that lie one after the other, so that most arrays end up with a single axis. */
typedef struct {
    char *data;
    int64_t n_items;
    int32_t n_dims; /* at least 1 */
    int64_t shape[FE_MAX_DIMS], strides[FE_MAX_DIMS];
} fe_array;

typedef struct {
    fe_array array; /* of FE_ARANGE only n_items is used */
    fe_id_type type;
    bool swapped; /* bytes are in the other order */
    int64_t start, period;
} fe_ids;

/* Asked now and then, by the caller's thread, of a long reading call; not 0 ends the call with FE_STOPPED. NULL: never asked. */
typedef int (*fe_stop)(void);

/* shape and strides of the items' axes: the axis of a row's elements is not among them. */
void fe_array_init(fe_array *array, char *data, int32_t n_dims, const int64_t *shape, const int64_t *strides);

/* Ids are checked before anything is written: first all of the first ids, then all of the second. The first bad one in C order
 * is reported. An id is loaded once more when it is used, and checked again then, so that ids which change meanwhile
 * can give a wrong row or a late error, never an access outside a table. Under FE_ZERO an id outside means: no row. */

/* for i: rows[i] = the row that ids[i] means, or -1 for no row. rows == NULL only checks: so a reading call finds a bad id before
 * its first write. */
fe_status fe_resolve_ids(const fe_ids *ids, int64_t n_rows, fe_bounds bounds, int64_t *rows, fe_stop stop);

/* for i: out[i] = row(ids[i]), zeros for no row. is_new: nobody sees out after an error, so that ids need not be checked beforehand;
 * then some bad id is reported, not always the first. */
fe_status fe_gather(const fe_table *table, const fe_ids *ids, fe_bounds bounds, const fe_array *out, bool is_new, fe_stop stop);

/* for i: out[i] = wte row(token_ids[i]) + wpe row(position_ids[i]), zeros for no row */
fe_status fe_gather_add(const fe_table *wte, const fe_ids *token_ids, const fe_table *wpe, const fe_ids *position_ids, fe_bounds bounds,
                        const fe_array *out, bool is_new, fe_stop stop);

/* The same for a few tokens at positions start, start + 1, ..., for calls so short that nothing else may be done. out has its rows side
 * by side. False if an id is out of range; then out holds nothing of use. */
bool fe_gather_add_few(const fe_table *wte, const int64_t *token_ids, int64_t n_ids, const fe_table *wpe, int64_t start, char *out);

/* for i: table row(ids[i]) += values[i], no row is skipped. All ids are copied and checked first. */
fe_status fe_scatter_add(const fe_table *table, const fe_ids *ids, fe_bounds bounds, const fe_array *values);

/* for i: dwte row(token_ids[i]) += dout[i]; dwpe row(position_ids[i]) += dout[i]. All ids are copied and checked first. */
fe_status fe_gather_add_backward(const fe_array *dout, const fe_table *dwte, const fe_ids *token_ids, const fe_table *dwpe,
                                 const fe_ids *position_ids, fe_bounds bounds);

/* ---- bags ---- */

typedef enum { FE_BAG_SUM, FE_BAG_MEAN, FE_BAG_SQRTN, FE_BAG_MAX } fe_bag_mode;

/* Bag b holds items offsets[b] .. offsets[b + 1] - 1. offsets do not decrease, and their end is within the ids. */
typedef struct {
    const int64_t *offsets;
    int64_t n_bags;
    fe_bag_mode mode;
    const char *factors; /* of each item's row, in the table's dtype; or NULL. Not with FE_BAG_MAX */
    int64_t padding_row; /* whose items count as no row; or -1 */
} fe_bags;

/* for b: out[b] = the sum, in order, of factors[i] * row(ids[i]) over the items of bag b that have a row, divided by their number (mean)
 * or its root (sqrtn); or their maximum; zeros for none. All ids are checked first.
 * With `winners` out holds the maxima, and what is written is the first item that has each: winners[b * D + d], of -1 before. */
fe_status fe_embedding_bag(const fe_table *table, const fe_ids *ids, fe_bounds bounds, const fe_bags *bags, const fe_array *out,
                           int64_t *winners, fe_stop stop);

/* for i: rows[4 i .. 4 i + 3] = the four 32 bits of MurmurHash3 (x64, 128 bits, from seed) of ids[i], the low ones first, each
 * modulo n_rows, which is not 0 */
void fe_hash_rows(const uint64_t *ids, int64_t n_ids, uint32_t seed, uint32_t n_rows, int64_t *rows);

/* ---- rows of a mapped file ---- */

/* Rows of any size that lie side by side in the memory of a mapped file. */
typedef struct {
    char *data;
    int64_t n_rows, row_size;
} fe_mapped_rows;

/* Whether some of these rows (others are passed over) are not in memory: a few of them are read, one after the other, until one has
 * to come from the disk. Nothing but advice hangs on the answer. */
bool fe_any_nonresident(const fe_mapped_rows *mapped, const int64_t *rows, int64_t n_rows);

/* Asks for the pages of these rows, which are sorted, because they will be read soon. */
void fe_prefetch_pages(const fe_mapped_rows *mapped, const int64_t *rows, int64_t n_rows);

/* Gives back the memory of the pages of these rows, which are sorted and hold what the file holds. */
void fe_release_pages(const fe_mapped_rows *mapped, const int64_t *rows, int64_t n_rows);

/* ---- norms of rows, and dropout ---- */

/* for i: row i becomes (row - mean) / sqrt(mean of squares of that + eps), where the mean is 0 but for a layer norm. With grads, gradients
 * of what the rows become, these become the gradients of what the rows were. */
void fe_norm_rows(const fe_table *rows, const fe_table *grads, bool is_layer, double eps);

/* for i, d: an element becomes 0 with probability p, else 1 / (1 - p) times itself: by random bits of seed, call, i and d alone */
void fe_dropout(const fe_table *rows, double p, uint64_t seed, uint64_t call);

/* ---- optimisers: the formulas are those of fastembed/reference/optim.py ---- */

typedef enum { FE_SGD, FE_ADAGRAD, FE_ROWWISE_ADAGRAD, FE_ADAM, FE_SPARSE_ADAM, FE_N_RULES } fe_rule;

/* The scalars of one step, in float64: each is rounded once to the table's dtype when it is used. What a rule does not use is 0, but
 * that eps, correction and beta2 are then 1. The last four are worked out by every call for itself. */
typedef struct {
    double lr;             /* what the update is multiplied by: the learning rate, corrected for bias */
    double beta1, alpha1;  /* the first average keeps beta1 and takes alpha1; SGD: momentum */
    double beta2, alpha2;  /* the second */
    double correction;     /* of the root of the second average */
    double eps;            /* what is added to that */
    double l2;             /* how much of an element is added to its gradient */
    double decay;          /* how much of an element is taken away: lr * weight_decay */
    double nesterov;       /* 0 or 1 */
    double number;         /* of the step, from 1 on: what random rounding depends on */
    double update_bound, m_bound, next_m_bound, min_v;
} fe_step;

/* How the rows of a trained table lie in memory: as its dtype says, or (dtype is then FE_F32) in 2 bytes an element. */
typedef enum { FE_AS_DTYPE, FE_F16, FE_BF16 } fe_storage;

/* A table that an optimiser trains, with its state: of no more dtype than the table's, all written, rows apart from each other.
 * Rows of 2 bytes an element are rounded after every step, to the nearest or at random; or only once, from float32 masters that are kept.
 * Rows may be behind: n_applied[row] of the n_steps recorded steps have been taken by that row. A recorded step is one that moves rows
 * without a gradient too; a row takes those that it missed, with a gradient of zeros, before anything else happens to it. */
typedef struct {
    fe_rule rule;
    fe_table table;
    fe_storage storage;
    bool is_stochastic;
    uint64_t seed, stream;     /* of the random numbers; each is of seed, stream, step, row and column */
    fe_table master;           /* float32 rows; data is NULL where there are none */
    fe_table state[2];         /* first and second average, or momentum, or sum of squares; data is NULL where the rule has none */
    int32_t *n_applied;        /* of each row */
    const double *multipliers; /* of each row's learning rate, 0 for a row that does not change; or NULL: all 1 */
    fe_step *steps;
    int32_t n_steps;
} fe_lazy_table;

/* The gradients of some rows of a table. Rows are sorted; item i has the gradient grads[order[i]] * factors[i], rounded, or with
 * by_frequency that / the number of items of its row, rounded. order NULL: grads[i]; factors NULL: no product. */
typedef struct {
    const int64_t *rows;
    const int32_t *order;
    const double *factors; /* rounded to the gradients' dtype when they are used */
    bool by_frequency;
    int64_t n_items;
    const fe_array *grads;
} fe_batch;

/* for i: row rows[i], or every row where rows is NULL, takes the steps that it missed. */
void fe_apply_pending(const fe_lazy_table *lazy, const int64_t *rows, int64_t n_rows);

/* One step, `now`, of the rows of a batch: each catches up and takes it with the sum of its gradients, in the order of the items.
 * n_applied becomes n_steps, + 1 if the step is going to be recorded. */
void fe_apply_step(const fe_lazy_table *lazy, const fe_step *now, bool is_recorded, const fe_batch *batch);

/* for i: sums row(rows[i]) += item i's gradient */
void fe_add_rows(const fe_table *sums, const fe_batch *batch);

/* for i: dots[i] = the sum of the products of row rows[i] and gradient grads[order[i]], in 16 parts; 0 for row -1. Rows need not be sorted. */
void fe_dots(const fe_table *table, const fe_batch *batch, char *dots);

/* sorted = rows in ascending order, order = where each was, equal ones in their order. 0 <= rows[i] < n_rows. rows and scratch, of n items,
 * are overwritten. */
void fe_sort_rows(int64_t *rows, int64_t n, int64_t n_rows, int64_t *sorted, int32_t *order, int32_t *scratch);

/* for i: sums[i] = the sum of |x|^p over the elements of row i, in float64, whatever the dtype; their maximum where p is INFINITY */
void fe_sum_powers(const fe_table *rows, double p, double *sums);

/* for i: squares[i] = row i times itself; for q: products[q * n_rows + i] = row i times query q; in their dtype, summed in 16 parts */
void fe_products(const fe_table *rows, const fe_table *queries, char *products, char *squares);

/* Instruction sets: the k-th that this build holds and this machine runs, the widest first, NULL past the last one; choose one by
 * name (false if it is not among them); the one in use, baseline until one is chosen; the compiler and flags that built them. */
const char *fe_isa_available(int32_t k);
bool fe_select_isa(const char *isa);
const char *fe_isa(void);
const char *fe_compiler(void);

/* Threads: how many a call may use, the caller among them; 1 until set, and n is at least 1. */
int32_t fe_get_num_threads(void);
void fe_set_num_threads(int32_t n);

#endif
