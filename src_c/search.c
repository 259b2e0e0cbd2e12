/* The entry point of products for a search: rows shared out between threads. */
#include "dispatch.h"
#include "pool.h"

typedef struct {
    const fe_table *rows, *queries;
    char *products, *squares;
    int64_t rows_per_piece;
} search_work;

static fe_status search_piece(const void *of_job, int64_t piece)
{
    const search_work *work = of_job;
    const int64_t first = piece * work->rows_per_piece, n_left = work->rows->n_rows - first;
    const int64_t end = first + (n_left < work->rows_per_piece ? n_left : work->rows_per_piece);
    fe_dispatch()->products[work->rows->dtype](work->rows, work->queries, work->products, work->squares, first, end);
    return (fe_status){.code = FE_OK};
}

void fe_products(const fe_table *rows, const fe_table *queries, char *products, char *squares)
{
    enum { PIECE_SIZE = 1 << 18 }; /* bytes */
    const search_work work = {rows, queries, products, squares, PIECE_SIZE / (rows->n_cols * 8 + 1) + 1};
    fe_pool_run(search_piece, &work, (rows->n_rows + work.rows_per_piece - 1) / work.rows_per_piece, NULL);
}
