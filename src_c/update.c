/* The entry points of the optimisers: what the recorded steps allow to skip, and rows shared out between threads. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "array.h"
#include "dispatch.h"
#include "pool.h"

static double larger(double a, double b)
{
    return a > b ? a : b;
}

static double smaller(double a, double b)
{
    return a < b ? a : b;
}

/* What later steps with a gradient of zeros can at most do, for each recorded step. With SLACK for the roundings on the way (at most
 * 4,096 steps of half a unit of float32 each), an element w keeps all its bits if u, what a step takes from it, is below w * unit:
 *
 *   update_bound  after this step, no later u is larger than u * update_bound * unit * kept, if v >= min_v or v == 0
 *   next_m_bound  after this step, no later u is larger than m * next_m_bound * unit * kept
 *   m_bound       before this step, neither this nor a later u is larger than m * m_bound * unit * kept
 *
 * `kept` is what decay leaves of w until the end. See docs/training.md. Worked out for the steps that some of these rows missed. */
static void look_ahead(const fe_lazy_table *lazy, const int64_t *rows, int64_t n_rows)
{
    int32_t oldest = lazy->n_steps;
    for (int64_t i = 0; i < n_rows; i++) {
        const int64_t row = rows == NULL ? i : rows[i];
        if (row >= 0 && lazy->n_applied[row] < oldest)
            oldest = lazy->n_applied[row];
    }
    const double SLACK = 1.01, unit = lazy->table.dtype == FE_F32 ? 0x1p-26 : 0x1p-55;
    const double smallest = lazy->table.dtype == FE_F32 ? FLT_MIN : DBL_MIN;
    double lr = 0, correction = INFINITY, eps = INFINITY, v_kept = 1, kept = 1, m_bound = 0;
    bool all_fade = true; /* the averages shrink, and nothing is added to them */
    for (fe_step *s = lazy->steps + lazy->n_steps - 1; s >= lazy->steps + oldest; s--) {
        const double growth = s->nesterov != 0 ? lr / (s->lr * s->beta1) : lr / s->lr; /* of the update's numerator */
        const double shrinkage = larger(s->correction / correction / sqrt(v_kept), s->eps / eps);
        s->update_bound = all_fade ? SLACK * larger(growth, 1) * larger(shrinkage, 1) / (kept * unit) : INFINITY;
        s->min_v = SLACK * smallest / v_kept;
        s->next_m_bound = m_bound;
        lr = larger(lr, s->lr);
        correction = smaller(correction, s->correction);
        eps = smaller(eps, s->eps);
        v_kept *= s->beta2;
        kept *= larger(1 - s->decay, 0);
        all_fade = all_fade && s->l2 == 0 && s->beta1 <= 1;
        s->m_bound = m_bound = all_fade ? SLACK * ((lr + 1) / smaller(eps, 1) + 1) / (kept * unit) : INFINITY; /* nor may lr * m overflow */
    }
}

/* ---- rows shared out between threads ---- */

typedef enum { APPLY_PENDING, APPLY_STEP, ADD_ROWS, SUM_POWERS } update_kind;

typedef struct {
    update_kind kind;
    const fe_table *table;
    const fe_lazy_table *lazy;
    const fe_step *now;
    int32_t n_applied;
    const fe_batch *batch;
    const int64_t *rows;
    double p, *sums;
    int64_t n_items, n_pieces;
} update_work;

/* Where a piece begins: never within the items of one row. */
static int64_t first_item(const update_work *work, int64_t piece)
{
    int64_t item = fe_first_of_piece(work->n_items, work->n_pieces, piece);
    if (work->batch != NULL)
        while (item > 0 && item < work->n_items && work->batch->rows[item] == work->batch->rows[item - 1])
            item++;
    return item;
}

static fe_status update_piece(const void *of_job, int64_t piece)
{
    const update_work *work = of_job;
    const int64_t first = first_item(work, piece), end = first_item(work, piece + 1);
    const fe_kernels *kernels = fe_dispatch();
    const fe_dtype dtype = work->table->dtype;
    if (work->kind == APPLY_PENDING)
        kernels->apply_pending[dtype](work->lazy, work->rows, first, end);
    else if (work->kind == APPLY_STEP)
        kernels->apply_step[dtype](work->lazy, work->now, work->n_applied, work->batch, first, end);
    else if (work->kind == ADD_ROWS)
        kernels->add_rows[dtype](work->table, work->batch, first, end);
    else
        kernels->sum_powers[dtype](work->table, work->p, work->sums, first, end);
    return (fe_status){.code = FE_OK};
}

/* Several pieces for each thread, so that they end together: rows take very different times. One where there is little to do. */
static void run(update_work work)
{
    enum { LITTLE = 1 << 17, PIECES_PER_THREAD = 8 }; /* bytes */
    const int64_t n_pieces = PIECES_PER_THREAD * (int64_t)fe_get_num_threads(), row_size = work.table->n_cols * 8 + 1;
    if (work.n_items == 0)
        return;
    work.n_pieces = work.n_items < LITTLE / row_size + 1 ? 1 : n_pieces < work.n_items ? n_pieces : work.n_items;
    fe_pool_run(update_piece, &work, work.n_pieces, NULL);
}

void fe_apply_pending(const fe_lazy_table *lazy, const int64_t *rows, int64_t n_rows)
{
    const int64_t n_items = rows == NULL ? lazy->table.n_rows : n_rows;
    look_ahead(lazy, rows, n_items);
    run((update_work){APPLY_PENDING, &lazy->table, .lazy = lazy, .rows = rows, .n_items = n_items});
}

void fe_apply_step(const fe_lazy_table *lazy, const fe_step *now, bool is_recorded, const fe_batch *batch)
{
    look_ahead(lazy, batch->rows, batch->n_items);
    run((update_work){APPLY_STEP, &lazy->table, lazy, now, lazy->n_steps + is_recorded, batch, .n_items = batch->n_items});
}

void fe_add_rows(const fe_table *sums, const fe_batch *batch)
{
    run((update_work){ADD_ROWS, sums, .batch = batch, .n_items = batch->n_items});
}

void fe_sum_powers(const fe_table *rows, double p, double *sums)
{
    run((update_work){SUM_POWERS, rows, .p = p, .sums = sums, .n_items = rows->n_rows});
}

/* ---- sorting: a radix sort, 11 bits at a time from the lowest on, which keeps the order of equal rows ---- */

enum { RADIX_BITS = 11, N_BUCKETS = 1 << RADIX_BITS };

static void sort_few(const int64_t *rows, int64_t n, int64_t *sorted, int32_t *order)
{
    for (int64_t i = 0; i < n; i++) {
        const int64_t row = rows[i];
        int64_t k = i;
        for (; k > 0 && sorted[k - 1] > row; k--) {
            sorted[k] = sorted[k - 1];
            order[k] = order[k - 1];
        }
        sorted[k] = row;
        order[k] = (int32_t)i;
    }
}

static void sort_pass(const int64_t *rows, const int32_t *places, int64_t n, int shift, int64_t *to_rows, int32_t *to_places)
{
    int64_t next[N_BUCKETS] = {0}, sum = 0;
    for (int64_t i = 0; i < n; i++)
        next[rows[i] >> shift & (N_BUCKETS - 1)]++;
    for (int b = 0; b < N_BUCKETS; b++) {
        const int64_t count = next[b];
        next[b] = sum;
        sum += count;
    }
    for (int64_t i = 0; i < n; i++) {
        const int64_t to = next[rows[i] >> shift & (N_BUCKETS - 1)]++;
        to_rows[to] = rows[i];
        to_places[to] = places == NULL ? (int32_t)i : places[i];
    }
}

void fe_sort_rows(int64_t *rows, int64_t n, int64_t n_rows, int64_t *sorted, int32_t *order, int32_t *scratch)
{
    enum { FEW = 64 }; /* for which the buckets of one pass take longer */
    if (n <= FEW) {
        sort_few(rows, n, sorted, order);
        return;
    }
    int n_passes = 1;
    while (n_passes * RADIX_BITS < 63 && n_rows > (int64_t)1 << n_passes * RADIX_BITS)
        n_passes++;
    sort_pass(rows, NULL, n, 0, sorted, order);
    for (int pass = 1; pass < n_passes; pass++)
        if (pass % 2 == 1)
            sort_pass(sorted, order, n, pass * RADIX_BITS, rows, scratch);
        else
            sort_pass(rows, scratch, n, pass * RADIX_BITS, sorted, order);
    if (n_passes % 2 == 0) {
        memcpy(sorted, rows, (size_t)n * sizeof *sorted);
        memcpy(order, scratch, (size_t)n * sizeof *order);
    }
}
