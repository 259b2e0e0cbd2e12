/* Entry points of dot products and of what a search makes of them; rows are shared out between
 * threads. */
#include "dispatch.h"
#include "pool.h"

typedef struct {
    const fe_table *rows, *queries;
    const fe_metric *metric;
    char *costs, *squares;
    int64_t rows_per_piece;
} costs_work;

static fe_status costs_piece(const void *of_job, int64_t piece)
{
    const costs_work *work = of_job;
    const fe_range range = fe_piece_items(work->rows->n_rows, work->rows_per_piece, piece);
    fe_dispatch()->costs[work->rows->dtype](work->rows, work->queries, work->metric, work->costs, work->squares, range.first,
                                            range.end);
    return (fe_status){.code = FE_OK};
}

void fe_costs(const fe_table *rows, const fe_table *queries, const fe_metric *metric, char *costs, char *squares)
{
    enum { PIECE_SIZE = 1 << 18 }; /* bytes of rows */
    const costs_work work = {rows, queries, metric, costs, squares, PIECE_SIZE / (rows->n_cols * 8 + 1) + 1};
    fe_pool_run(costs_piece, &work, fe_n_pieces(rows->n_rows, work.rows_per_piece), NULL);
}

typedef struct {
    const fe_table *table;
    const fe_batch *batch;
    char *dots;
    int64_t items_per_piece;
} dots_work;

static fe_status dots_piece(const void *of_job, int64_t piece)
{
    const dots_work *work = of_job;
    const fe_range range = fe_piece_items(work->batch->n_items, work->items_per_piece, piece);
    fe_dispatch()->dots[fe_arithmetic(work->table->dtype)](work->table, work->batch, work->dots, range.first, range.end);
    return (fe_status){.code = FE_OK};
}

void fe_dots(const fe_table *table, const fe_batch *batch, char *dots)
{
    enum { PIECE_SIZE = 1 << 17 }; /* bytes of rows */
    const dots_work work = {table, batch, dots, PIECE_SIZE / (table->n_cols * 8 + 8) + 1};
    fe_pool_run(dots_piece, &work, fe_n_pieces(batch->n_items, work.items_per_piece), NULL);
}

int64_t fe_below(const fe_table *rows, const fe_lines *lines, const char *limits, int64_t *found)
{
    return fe_dispatch()->below[rows->dtype](rows, lines, limits, found);
}
