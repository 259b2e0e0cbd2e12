/* The entry points of norms and dropout: rows shared out between threads. */
#include "dispatch.h"
#include "half.h"
#include "pool.h"

typedef struct {
    const fe_table *rows, *grads;
    bool is_layer, is_dropout;
    double number; /* eps, or the probability */
    uint64_t key;
    int64_t rows_per_piece;
} norm_work;

static fe_status norm_piece(const void *of_job, int64_t piece)
{
    const norm_work *work = of_job;
    const int64_t first = piece * work->rows_per_piece, n_left = work->rows->n_rows - first;
    const int64_t end = first + (n_left < work->rows_per_piece ? n_left : work->rows_per_piece);
    if (work->is_dropout)
        fe_dispatch()->dropout[work->rows->dtype](work->rows, work->number, work->key, first, end);
    else
        fe_dispatch()->norm_rows[work->rows->dtype](work->rows, work->grads, work->is_layer, work->number, first, end);
    return (fe_status){.code = FE_OK};
}

static void run(norm_work work)
{
    enum { PIECE_SIZE = 1 << 17 }; /* bytes */
    work.rows_per_piece = PIECE_SIZE / (work.rows->n_cols * 8 + 1) + 1;
    if (work.rows->n_cols > 0)
        fe_pool_run(norm_piece, &work, (work.rows->n_rows + work.rows_per_piece - 1) / work.rows_per_piece, NULL);
}

void fe_norm_rows(const fe_table *rows, const fe_table *grads, bool is_layer, double eps)
{
    run((norm_work){.rows = rows, .grads = grads, .is_layer = is_layer, .number = eps});
}

void fe_dropout(const fe_table *rows, double p, uint64_t seed, uint64_t call)
{
    run((norm_work){.rows = rows, .is_dropout = true, .number = p, .key = fe_mix(fe_mix(seed) + call)});
}
