/* Entry point of dense gradients: a piece is some rows, which are set to zeros and get their sums
 * while they are in the cache. */
#include <string.h>

#include "dispatch.h"
#include "pool.h"

typedef struct {
    const fe_kernels *kernels;
    const fe_table *sums;
    const fe_batch *batch;
    int64_t rows_per_piece;
} dense_work;

/* The first item whose row is not below that one. */
static int64_t first_item(const fe_batch *batch, int64_t row)
{
    int64_t low = 0, high = batch->n_items;
    while (low < high) {
        const int64_t item = low + (high - low) / 2;
        if (batch->rows[item] < row)
            low = item + 1;
        else
            high = item;
    }
    return low;
}

static fe_status dense_piece(const void *of_job, int64_t piece)
{
    const dense_work *work = of_job;
    const fe_table *sums = work->sums;
    const fe_range rows = fe_piece_items(sums->n_rows, work->rows_per_piece, piece);
    memset(fe_row(sums, rows.first), 0, (size_t)((rows.end - rows.first) * sums->row_stride));
    work->kernels->add_rows[sums->dtype](sums, work->batch, first_item(work->batch, rows.first),
                                         first_item(work->batch, rows.end));
    return (fe_status){.code = FE_OK};
}

void fe_sum_rows(const fe_table *sums, const fe_batch *batch)
{
    enum { PIECE_SIZE = 1 << 21 }; /* bytes: of a large page, which two threads would fill twice */
    if (sums->n_rows == 0 || sums->n_cols == 0)
        return;
    const dense_work work = {fe_dispatch(), sums, batch, PIECE_SIZE / sums->row_stride + 1};
    fe_pool_run(dense_piece, &work, fe_n_pieces(sums->n_rows, work.rows_per_piece), NULL);
}
