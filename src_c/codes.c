/* Entry point of bounds from codes of 8 bits: rows are shared out between threads. */
#include "dispatch.h"
#include "pool.h"

typedef struct {
    const fe_codes *codes;
    const fe_code_query *query;
    float *lower, *upper;
    int64_t rows_per_piece;
} codes_work;

static fe_status codes_piece(const void *of_job, int64_t piece)
{
    const codes_work *work = of_job;
    const fe_range range = fe_piece_items(work->codes->n_rows, work->rows_per_piece, piece);
    fe_dispatch()->code_bounds(work->codes, work->query, work->lower, work->upper, range.first, range.end);
    return (fe_status){.code = FE_OK};
}

void fe_code_bounds(const fe_codes *codes, const fe_code_query *query, float *lower, float *upper)
{
    enum { PIECE_SIZE = 1 << 18 }; /* bytes of codes and of the numbers beside them */
    const codes_work work = {codes, query, lower, upper, PIECE_SIZE / (codes->row_size + 24) + 1};
    fe_pool_run(codes_piece, &work, fe_n_pieces(codes->n_rows, work.rows_per_piece), NULL);
}
