/* Entry points of losses: logits are shared out between threads. In NumPy the logistic function
 * took 15 per cent of a step of skip-gram; and the same bits on all machines need an own
 * exponential. */
#include "dispatch.h"
#include "pool.h"

typedef struct {
    fe_dtype dtype;
    const char *logits, *targets;
    double divisor;
    char *gradients;
    double *losses;
    int64_t n_items, items_per_piece;
} logistic_work;

static fe_status logistic_piece(const void *of_job, int64_t piece)
{
    const logistic_work *work = of_job;
    const fe_range range = fe_piece_items(work->n_items, work->items_per_piece, piece);
    fe_dispatch()->logistic[work->dtype](work->logits, work->targets, work->divisor, work->gradients, work->losses, range.first,
                                         range.end);
    return (fe_status){.code = FE_OK};
}

void fe_logistic(fe_dtype dtype, const char *logits, const char *targets, int64_t n_items, double divisor, char *gradients,
                 double *losses)
{
    enum { ITEMS_PER_PIECE = 4096 };
    const logistic_work work = {dtype, logits, targets, divisor, gradients, losses, n_items, ITEMS_PER_PIECE};
    fe_pool_run(logistic_piece, &work, fe_n_pieces(n_items, work.items_per_piece), NULL);
}

typedef struct {
    const fe_table *logits;
    const int64_t *targets;
    double divisor;
    const fe_table *gradients;
    double *losses;
    int64_t rows_per_piece;
} cross_entropy_work;

static fe_status cross_entropy_piece(const void *of_job, int64_t piece)
{
    const cross_entropy_work *work = of_job;
    const fe_range range = fe_piece_items(work->logits->n_rows, work->rows_per_piece, piece);
    fe_dispatch()->cross_entropy[work->logits->dtype](work->logits, work->targets, work->divisor, work->gradients, work->losses,
                                                      range.first, range.end);
    return (fe_status){.code = FE_OK};
}

void fe_cross_entropy(const fe_table *logits, const int64_t *targets, double divisor, const fe_table *gradients, double *losses)
{
    enum { ITEMS_PER_PIECE = 1 << 14 };
    const cross_entropy_work work = {logits, targets, divisor, gradients, losses, ITEMS_PER_PIECE / (logits->n_cols + 1) + 1};
    fe_pool_run(cross_entropy_piece, &work, fe_n_pieces(logits->n_rows, work.rows_per_piece), NULL);
}
