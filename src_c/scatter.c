/* Entry points of scatter-add: all ids are resolved first; then the work is cut into strips of
 * columns, and a strip into blocks of items, which follow one another in whichever thread: every
 * element is summed in order, however many threads there are. */
#include <stdlib.h>

#include "array.h"
#include "dispatch.h"
#include "pool.h"

typedef struct {
    const fe_kernels *kernels;
    const fe_table *dwte, *dwpe; /* dwpe is NULL for scatter_add */
    const int64_t *token_rows, *position_rows;
    const fe_array *dout;
    int64_t cols_per_strip, n_strips, items_per_block;
} scatter_work;

/* Cuts the work into a strip for each thread, of whole cache lines; into one where there is little
 * to do. A thread that works alone goes through the strips of a block in turn: blocks so small that
 * their rows are still in the L2 cache then cost 3 per cent, strips from end to end 27. */
static void cut(scatter_work *work)
{
    enum { SERIAL_SIZE = 1 << 18, NARROWEST = 2 * FE_CACHE_LINE, PIECE_SIZE = 3 << 15 }; /* bytes */
    const int64_t n_ids = work->dout->n_items, n_cols = work->dwte->n_cols, size = fe_item_size(work->dwte->dtype);
    const int64_t n_threads = fe_get_num_threads(), n_shares = n_threads < FE_MAX_STRIPS ? n_threads : FE_MAX_STRIPS;
    const int64_t share = fe_n_pieces(fe_n_pieces(n_cols * size, n_shares), FE_CACHE_LINE) * FE_CACHE_LINE;
    work->cols_per_strip = n_ids * n_cols * size < SERIAL_SIZE ? n_cols : (share < NARROWEST ? NARROWEST : share) / size;
    work->n_strips = fe_n_pieces(n_cols, work->cols_per_strip);
    work->items_per_block = work->n_strips == 1 ? n_ids : PIECE_SIZE / (work->cols_per_strip * size) + 1;
}

static fe_table strip_of(const fe_table *table, fe_range cols)
{
    fe_table strip = *table;
    strip.data += cols.first * fe_item_size(table->dtype);
    strip.n_cols = cols.end - cols.first;
    return strip;
}

static fe_status scatter_piece(const void *of_job, int64_t piece)
{
    const scatter_work *work = of_job;
    const fe_dtype dtype = work->dwte->dtype;
    const fe_range cols = fe_piece_items(work->dwte->n_cols, work->cols_per_strip, piece % work->n_strips);
    const fe_range items = fe_piece_items(work->dout->n_items, work->items_per_block, piece / work->n_strips);
    const fe_table dwte = strip_of(work->dwte, cols);
    for (int64_t first = items.first, n_items; first < items.end; first += n_items) {
        fe_run dout = fe_array_run(work->dout, first, work->dout->n_items - first); /* what follows is prefetched */
        n_items = dout.n_items < items.end - first ? dout.n_items : items.end - first;
        dout.data += cols.first * fe_item_size(dtype);
        if (work->dwpe == NULL) {
            work->kernels->scatter_add[dtype](&dwte, work->token_rows + first, dout, n_items);
        } else {
            const fe_table dwpe = strip_of(work->dwpe, cols);
            work->kernels->scatter_add_pair[dtype](&dwte, work->token_rows + first, &dwpe, work->position_rows + first, dout,
                                                   n_items);
        }
    }
    return (fe_status){.code = FE_OK};
}

/* Memory for the rows of n_arrays arrays of ids; NULL if there is none. */
static int64_t *allocate_rows(int64_t n_ids, int64_t n_arrays)
{
    if ((uint64_t)n_ids > SIZE_MAX / sizeof(int64_t) / (size_t)n_arrays)
        return NULL;
    return malloc((size_t)(n_ids > 0 ? n_ids : 1) * (size_t)n_arrays * sizeof(int64_t));
}

fe_status fe_scatter_add(const fe_table *table, const fe_ids *ids, fe_bounds bounds, const fe_array *values)
{
    return fe_gather_add_backward(values, table, ids, NULL, NULL, bounds);
}

fe_status fe_gather_add_backward(const fe_array *dout, const fe_table *dwte, const fe_ids *token_ids, const fe_table *dwpe,
                                 const fe_ids *position_ids, fe_bounds bounds)
{
    const int64_t n_ids = token_ids->array.n_items;
    int64_t *rows = allocate_rows(n_ids, dwpe == NULL ? 1 : 2);
    if (rows == NULL)
        return (fe_status){.code = FE_NO_MEMORY};
    fe_status status = fe_resolve_ids(token_ids, dwte->n_rows, bounds, rows, NULL);
    if (status.code == FE_OK && dwpe != NULL) {
        status = fe_resolve_ids(position_ids, dwpe->n_rows, bounds, rows + n_ids, NULL);
        status.operand = 1;
    }
    if (status.code == FE_OK && n_ids > 0 && dwte->n_cols > 0) {
        scatter_work work = {fe_dispatch(), dwte, dwpe, rows, rows + n_ids, dout, .n_strips = 1};
        cut(&work);
        status = fe_pool_run_strips(scatter_piece, &work, fe_n_pieces(n_ids, work.items_per_block), (int32_t)work.n_strips);
    }
    free(rows);
    return status;
}
