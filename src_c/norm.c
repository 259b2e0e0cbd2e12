/* Entry points of norms and dropout: rows are shared out between threads. */
#include "dispatch.h"
#include "half.h"
#include "pool.h"

typedef enum { NORM_ROWS, DROPOUT, SUM_POWERS } norm_kind;

typedef struct {
    norm_kind kind;
    const fe_table *rows, *grads;
    bool is_layer;
    double eps, p; /* p is dropout's probability, or the power */
    uint64_t key;
    double *sums;
    int64_t rows_per_piece;
} norm_work;

static fe_status norm_piece(const void *of_job, int64_t piece)
{
    const norm_work *work = of_job;
    const fe_range range = fe_piece_items(work->rows->n_rows, work->rows_per_piece, piece);
    const fe_kernels *kernels = fe_dispatch();
    const fe_dtype dtype = work->rows->dtype;
    if (work->kind == NORM_ROWS)
        kernels->norm_rows[dtype](work->rows, work->grads, work->is_layer, work->eps, range.first, range.end);
    else if (work->kind == DROPOUT)
        kernels->dropout[dtype](work->rows, work->p, work->key, range.first, range.end);
    else
        kernels->sum_powers[dtype](work->rows, work->p, work->sums, range.first, range.end);
    return (fe_status){.code = FE_OK};
}

static void run(norm_work work)
{
    enum { PIECE_SIZE = 1 << 17 }; /* bytes of rows */
    work.rows_per_piece = PIECE_SIZE / (work.rows->n_cols * 8 + 1) + 1;
    fe_pool_run(norm_piece, &work, fe_n_pieces(work.rows->n_rows, work.rows_per_piece), NULL);
}

void fe_norm_rows(const fe_table *rows, const fe_table *grads, bool is_layer, double eps)
{
    if (rows->n_cols > 0)
        run((norm_work){NORM_ROWS, rows, .grads = grads, .is_layer = is_layer, .eps = eps});
}

void fe_dropout(const fe_table *rows, double p, uint64_t seed, uint64_t call)
{
    run((norm_work){DROPOUT, rows, .p = p, .key = fe_mix(fe_mix(seed) + call)});
}

void fe_sum_powers(const fe_table *rows, double p, double *sums)
{
    run((norm_work){SUM_POWERS, rows, .p = p, .sums = sums});
}
