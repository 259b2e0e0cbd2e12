/* Entry points of the optimisers: bounds that let rows skip work, and rows shared out between
 * threads. */
#include <float.h>
#include <math.h>

#include "dispatch.h"
#include "float_env.h"
#include "pool.h"

static double larger(double a, double b)
{
    return a > b ? a : b;
}

static double smaller(double a, double b)
{
    return a < b ? a : b;
}

/* The oldest step that is pending for some of these rows. */
static int32_t oldest_pending(const fe_lazy_table *lazy, const int64_t *rows, int64_t n_rows)
{
    int32_t oldest = lazy->n_steps;
    for (int64_t i = 0; i < n_rows; i++) {
        const int64_t row = rows == NULL ? i : rows[i];
        if (row >= 0 && lazy->n_applied[row] < oldest)
            oldest = lazy->n_applied[row];
    }
    return oldest;
}

/* For the roundings of at most 4,096 steps, each by half a unit of float32. */
static const double SLACK = 1.01;

/* Whether rows are rounded to 2 bytes an element after every step. */
static bool is_rounded(const fe_lazy_table *lazy)
{
    return fe_is_half(lazy->table.dtype) && lazy->master.data == NULL;
}

/* An element w keeps all its bits if u, the update that a step subtracts from it, is at most w
 * times this; where rows are rounded after every step, if u and decay together are. Halves that are
 * rounded to nearest keep w up to half of the distance to its neighbours. */
static double room_of(const fe_lazy_table *lazy)
{
    if (!is_rounded(lazy) || lazy->is_stochastic)
        return lazy->table.dtype == FE_F64 ? 0x1p-55 : 0x1p-26;
    return (lazy->table.dtype == FE_F16 ? 0x1p-12 : 0x1p-9) / SLACK;
}

/* Sets the last four scalars of the steps that are pending for some of these rows: bounds of what
 * later steps with a gradient of zeros do. `room` is the share of w that an update may have until
 * the end: decay makes w smaller, or takes some of it itself where rows are rounded.
 *
 *   update_bound  after this step, no later u exceeds u * update_bound * room,
 *                 if v >= min_v or v == 0
 *   next_m_bound  after this step, no later u exceeds m * next_m_bound * room
 *   m_bound       before this step, neither its u nor a later one exceeds
 *                 m * m_bound * room, and lr * m does not overflow
 *
 * docs/training.md derives them. */
static void bound_pending(const fe_lazy_table *lazy, const int64_t *rows, int64_t n_rows)
{
    const fe_step *oldest = lazy->steps + oldest_pending(lazy, rows, n_rows);
    const double all_room = room_of(lazy), smallest_normal = lazy->table.dtype == FE_F64 ? DBL_MIN : FLT_MIN;
    double lr = 0, correction = INFINITY, eps = INFINITY, v_kept = 1, room = all_room, m_bound = 0;
    bool m_decays = true; /* it never grows, and only +0 is added to it */
    for (fe_step *s = lazy->steps + lazy->n_steps - 1; s >= oldest; s--) {
        /* how much larger the numerator of a later update can be, and how much smaller its
         * divisor */
        const double growth = s->nesterov != 0 ? lr / (s->lr * s->beta1) : lr / s->lr;
        const double shrinkage = larger(s->correction / correction / sqrt(v_kept), s->eps / eps);
        s->update_bound = m_decays ? SLACK * larger(growth, 1) * larger(shrinkage, 1) / room : INFINITY;
        s->min_v = SLACK * smallest_normal / v_kept;
        s->next_m_bound = m_bound;
        lr = larger(lr, s->lr);
        correction = smaller(correction, s->correction);
        eps = smaller(eps, s->eps);
        v_kept *= s->beta2;
        room = is_rounded(lazy) ? smaller(room, larger(all_room - s->decay, 0)) : room * larger(1 - s->decay, 0);
        m_decays = m_decays && s->l2 == 0 && s->beta1 <= 1 && s->alpha1 >= 0 && (s->nesterov == 0 || s->beta1 >= smallest_normal);
        s->m_bound = m_bound = m_decays ? SLACK * ((lr + 1) / smaller(eps, 1) + 1) / room : INFINITY;
    }
}

/* ---- rows shared out between threads ---- */

typedef enum { APPLY_PENDING, APPLY_STEP, ADD_ROWS } update_kind;

typedef struct {
    update_kind kind;
    const fe_table *table;
    const fe_lazy_table *lazy;
    const fe_step *now;
    int32_t n_applied;
    const fe_batch *batch;
    const int64_t *rows;
    int64_t n_items, n_pieces;
} update_work;

/* Where a piece begins: the items of one row are all in one piece. n_items * piece might
 * overflow. */
static int64_t first_item(const update_work *work, int64_t piece)
{
    const int64_t n_items = work->n_items, n_pieces = work->n_pieces;
    int64_t item = n_items / n_pieces * piece + n_items % n_pieces * piece / n_pieces;
    if (work->batch != NULL)
        while (item > 0 && item < n_items && work->batch->rows[item] == work->batch->rows[item - 1])
            item++;
    return item;
}

static fe_status update_piece(const void *of_job, int64_t piece)
{
    const update_work *work = of_job;
    const int64_t first = first_item(work, piece), end = first_item(work, piece + 1);
    const fe_kernels *kernels = fe_dispatch();
    const fe_dtype dtype = fe_arithmetic(work->table->dtype);
    if (work->kind == APPLY_PENDING)
        kernels->apply_pending[dtype](work->lazy, work->rows, first, end);
    else if (work->kind == APPLY_STEP)
        kernels->apply_step[dtype](work->lazy, work->now, work->n_applied, work->batch, first, end);
    else
        kernels->add_rows[dtype](work->table, work->batch, first, end);
    return (fe_status){.code = FE_OK};
}

/* Pieces of few rows: one row with many pending steps takes as long as fifty without. */
static void run(update_work work)
{
    enum { PIECE_SIZE = 1 << 17 }; /* bytes of rows */
    const int64_t *rows = work.batch != NULL ? work.batch->rows : work.rows;
    const fe_float_env floats = fe_enter_default_floats();
    if (work.lazy != NULL)
        bound_pending(work.lazy, rows, work.n_items);
    fe_restore_floats(floats);
    if (work.n_items == 0)
        return;
    work.n_pieces = fe_n_pieces(work.n_items, PIECE_SIZE / (work.table->n_cols * 8 + 1) + 1);
    fe_pool_run(update_piece, &work, work.n_pieces, NULL);
}

void fe_apply_pending(const fe_lazy_table *lazy, const int64_t *rows, int64_t n_rows)
{
    const int64_t n_items = rows == NULL ? lazy->table.n_rows : n_rows;
    run((update_work){APPLY_PENDING, &lazy->table, .lazy = lazy, .rows = rows, .n_items = n_items});
}

void fe_apply_step(const fe_lazy_table *lazy, const fe_step *now, bool is_recorded, const fe_batch *batch)
{
    run((update_work){APPLY_STEP, &lazy->table, lazy, now, lazy->n_steps + is_recorded, batch, .n_items = batch->n_items});
}

void fe_add_rows(const fe_table *sums, const fe_batch *batch)
{
    run((update_work){ADD_ROWS, sums, .batch = batch, .n_items = batch->n_items});
}
