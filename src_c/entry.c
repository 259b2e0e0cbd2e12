/* The entry points: check every id, cut the work into pieces, and hand each block of a piece to a kernel. */
#include "fastembed.h"

#include <stdlib.h>

#include "array.h"
#include "dispatch.h"
#include "ids.h"
#include "pool.h"

/* of an element of a result */
static const int64_t item_size[FE_N_READ_DTYPES] = {
    [FE_F32] = sizeof(float), [FE_F64] = sizeof(double), [FE_Q8] = sizeof(float), [FE_Q4] = sizeof(float)};

static int64_t n_pieces_of(int64_t n_items, int64_t items_per_piece)
{
    return n_items / items_per_piece + (n_items % items_per_piece != 0);
}

enum {
    PIECE_SIZE = 1 << 19,  /* bytes: about 50 microseconds; few rows are then the first of a piece, which no prefetch has asked for */
    SERIAL_SIZE = 1 << 18, /* bytes for which a thread is not worth its wake-up */
};

/* Items of one piece: several pieces for each thread, so that they end together, but none too small; one where there is little to do. */
static int64_t items_per_piece(int64_t n_items, int64_t row_size)
{
    const int64_t size = n_items * (row_size + 8), share = size / (4 * fe_get_num_threads());
    const int64_t piece_size = share > PIECE_SIZE ? PIECE_SIZE : share < SERIAL_SIZE / 4 ? SERIAL_SIZE / 4 : share;
    return size < SERIAL_SIZE ? n_items + 1 : piece_size / (row_size + 8) + 1;
}

static fe_status of_operand(fe_status status, int32_t operand)
{
    status.operand = operand;
    return status;
}

/* ---- ids ---- */

typedef struct {
    const fe_ids *ids;
    int64_t n_ids, n_rows;
    fe_bounds bounds;
    int64_t *rows; /* or NULL: only check */
} ids_work;

enum { IDS_PER_PIECE = 64 * FE_BLOCK };

static fe_status resolve_piece(const void *of_job, int64_t piece)
{
    const ids_work *work = of_job;
    int64_t unkept[FE_BLOCK];
    const int64_t end = (piece + 1) * IDS_PER_PIECE < work->n_ids ? (piece + 1) * IDS_PER_PIECE : work->n_ids;
    for (int64_t first = piece * IDS_PER_PIECE; first < end; first += FE_BLOCK) {
        const int64_t n_block = end - first < FE_BLOCK ? end - first : FE_BLOCK;
        int64_t *rows = work->rows == NULL ? unkept : work->rows + first;
        const fe_status status = fe_ids_read(work->ids, first, n_block, work->n_rows, work->bounds, rows);
        if (status.code != FE_OK)
            return status;
    }
    return (fe_status){.code = FE_OK};
}

fe_status fe_resolve_ids(const fe_ids *ids, int64_t n_rows, fe_bounds bounds, int64_t *rows, fe_stop stop)
{
    int64_t n_ids = ids->array.n_items;
    if (rows == NULL && ids->type == FE_ARANGE && n_ids > ids->period)
        n_ids = ids->period; /* the rest repeats it */
    const ids_work work = {ids, n_ids, n_rows, bounds, rows};
    return fe_pool_run(resolve_piece, &work, n_pieces_of(n_ids, IDS_PER_PIECE), stop);
}

/* ---- reading ops: a piece is a range of items ---- */

enum {
    /* Bytes from which results go past the cache: they would not stay there until they are read, and a line that is written
     * in the usual way is fetched first. At 6 MB that loses more, when the result is read next, than it gains; at 12 MB it gains. */
    STREAM_SIZE = 1 << 23,
    STREAM_ROW_SIZE = 512, /* a shorter row has too few whole lines */

    /* Bytes of position rows that do not stay in a second-level cache from one document to the next, and of those that do. */
    TILED_SIZE = 1 << 20,
    TILE_SIZE = 3 << 16,
    DOCUMENTS_PER_TILE = 8,
};

typedef struct {
    const fe_kernels *kernels;
    const fe_table *wte, *wpe; /* wpe is NULL for gather */
    const fe_ids *token_ids, *position_ids;
    fe_bounds bounds;
    const fe_array *out;
    int64_t row_size, items_per_piece;
    bool stream;
} gather_work;

/* A block of a packed table's rows: each is a bag of one item, and its position row is added to that. */
static fe_status gather_packed(const gather_work *work, const int64_t *token_rows, int64_t first, fe_run out)
{
    int64_t position_rows[FE_BLOCK];
    fe_status status = {.code = FE_OK};
    if (work->wpe != NULL)
        status = fe_ids_read(work->position_ids, first, out.n_items, work->wpe->n_rows, work->bounds, position_rows);
    for (int64_t i = 0; i < out.n_items && status.code == FE_OK; i++) {
        char *out_i = out.data + i * out.stride;
        /* the maximum of one row is that row; its sum has +0.0 added, as a position row that is missing would */
        const bool is_missing = work->wpe != NULL && position_rows[i] < 0;
        fe_bag_part part = {is_missing ? FE_BAG_SUM : FE_BAG_MAX, .is_first = true, .n_items = 1, .divisor = 1};
        part.n_coming = out.n_items - i - 1;
        work->kernels->bag[work->wte->dtype](work->wte, token_rows + i, &part, out_i);
        if (work->wpe != NULL && !is_missing)
            work->kernels->add_row[FE_F32](out_i, out_i, fe_row(work->wpe, position_rows[i]), work->wte->n_cols);
    }
    return of_operand(status, 1);
}

static fe_status gather_block(const gather_work *work, int64_t first, fe_run out)
{
    int64_t token_rows[FE_BLOCK], position_rows[FE_BLOCK];
    fe_status status = fe_ids_read(work->token_ids, first, out.n_items, work->wte->n_rows, work->bounds, token_rows);
    if (status.code != FE_OK)
        return status;
    if (work->wte->dtype >= FE_N_DTYPES)
        return gather_packed(work, token_rows, first, out);
    if (work->wpe == NULL) {
        work->kernels->gather[work->stream](work->wte, token_rows, work->row_size, out);
        return status;
    }
    status = fe_ids_read(work->position_ids, first, out.n_items, work->wpe->n_rows, work->bounds, position_rows);
    if (status.code == FE_OK)
        work->kernels->gather_add[work->stream][work->wte->dtype](work->wte, token_rows, work->wpe, position_rows, out);
    return of_operand(status, 1);
}

static fe_status gather_items(const gather_work *work, int64_t first, int64_t n_items)
{
    while (n_items > 0) {
        const fe_run out = fe_array_run(work->out, first, n_items < FE_BLOCK ? n_items : FE_BLOCK);
        const fe_status status = gather_block(work, first, out);
        if (status.code != FE_OK)
            return status;
        first += out.n_items;
        n_items -= out.n_items;
    }
    return (fe_status){.code = FE_OK};
}

static fe_status gather_piece(const void *of_job, int64_t piece)
{
    const gather_work *work = of_job;
    const int64_t first = piece * work->items_per_piece, n_left = work->out->n_items - first;
    return gather_items(work, first, n_left < work->items_per_piece ? n_left : work->items_per_piece);
}

/* A batch of documents whose positions count from the same start: a piece is some positions of some documents, so that the rows of
 * those positions are fetched once for all of them. */
static fe_status gather_tile(const void *of_job, int64_t piece)
{
    const gather_work *work = of_job;
    const int64_t n_positions = work->position_ids->period, n_documents = work->out->n_items / n_positions;
    const int64_t n_groups = n_pieces_of(n_documents, DOCUMENTS_PER_TILE);
    const int64_t position = piece / n_groups * work->items_per_piece, n_left = n_positions - position;
    const int64_t document = piece % n_groups * DOCUMENTS_PER_TILE;
    for (int64_t d = document; d < document + DOCUMENTS_PER_TILE && d < n_documents; d++) {
        const int64_t first = d * n_positions + position;
        const fe_status status = gather_items(work, first, n_left < work->items_per_piece ? n_left : work->items_per_piece);
        if (status.code != FE_OK)
            return status;
    }
    return (fe_status){.code = FE_OK};
}

static bool is_tiled(const gather_work *work)
{
    return work->wpe != NULL && work->position_ids->type == FE_ARANGE && work->out->n_items > work->position_ids->period &&
           work->position_ids->period > TILED_SIZE / work->row_size;
}

bool fe_gather_add_few(const fe_table *wte, const int64_t *token_ids, int64_t n_ids, const fe_table *wpe, int64_t start, char *out)
{
    const fe_kernels *kernels = fe_dispatch();
    const int64_t row_size = wte->n_cols * item_size[wte->dtype];
    if (row_size == 0 || start < 0 || start > wpe->n_rows - n_ids)
        return false;
    for (int64_t i = 0; i < n_ids; i++) {
        const int64_t token_id = token_ids[i];
        if ((uint64_t)token_id >= (uint64_t)wte->n_rows)
            return false;
        kernels->add_row[wte->dtype](out + i * row_size, fe_row(wte, token_id), fe_row(wpe, start + i), wte->n_cols);
    }
    return true;
}

fe_status fe_gather(const fe_table *table, const fe_ids *ids, fe_bounds bounds, const fe_array *out, bool is_new, fe_stop stop)
{
    return fe_gather_add(table, ids, NULL, NULL, bounds, out, is_new, stop);
}

fe_status fe_gather_add(const fe_table *wte, const fe_ids *token_ids, const fe_table *wpe, const fe_ids *position_ids, fe_bounds bounds,
                        const fe_array *out, bool is_new, fe_stop stop)
{
    const int64_t row_size = wte->n_cols * item_size[wte->dtype];
    gather_work work = {fe_dispatch(), wte, wpe, token_ids, position_ids, bounds, out, row_size, 0, false};
    if (out->n_items <= FE_BLOCK && out->n_items * row_size < SERIAL_SIZE && out->n_dims == 1 && out->n_items > 0 && row_size > 0)
        /* one block checks its ids itself, and cutting it up costs more than it brings */
        return gather_block(&work, 0, (fe_run){out->data, out->n_items, out->strides[0]});
    fe_status status = {.code = FE_OK};
    if (!is_new || row_size == 0)
        status = fe_resolve_ids(token_ids, wte->n_rows, bounds, NULL, stop);
    if (status.code == FE_OK && wpe != NULL && (!is_new || row_size == 0))
        status = of_operand(fe_resolve_ids(position_ids, wpe->n_rows, bounds, NULL, stop), 1);
    if (status.code != FE_OK || row_size == 0) /* the strides of an empty table may be anything */
        return status;
    work.stream = out->n_items > STREAM_SIZE / row_size && row_size >= STREAM_ROW_SIZE;
    if (is_tiled(&work)) {
        const int64_t n_positions = position_ids->period, n_groups = n_pieces_of(out->n_items / n_positions, DOCUMENTS_PER_TILE);
        work.items_per_piece = TILE_SIZE / row_size + 1;
        return fe_pool_run(gather_tile, &work, n_pieces_of(n_positions, work.items_per_piece) * n_groups, stop);
    }
    work.items_per_piece = items_per_piece(out->n_items, row_size);
    return fe_pool_run(gather_piece, &work, n_pieces_of(out->n_items, work.items_per_piece), stop);
}

/* ---- writing ops: a piece is a strip of columns, so that every element is summed in order whatever the number of threads ---- */

typedef struct {
    const fe_kernels *kernels;
    const fe_table *dwte, *dwpe; /* dwpe is NULL for scatter_add */
    const int64_t *token_rows, *position_rows;
    const fe_array *dout;
    int64_t cols_per_piece;
} scatter_work;

/* Columns of one piece: a thread's share, in whole lines. Narrower strips would keep more of the tables in the cache, but take
 * each row in parts that no prefetcher follows: measured 15 to 30 per cent slower. All columns where there is little to do. */
static int64_t cols_per_piece(const fe_table *table, int64_t n_ids)
{
    enum { LITTLE = 1 << 18, LINE = 64, NARROW = 2 * LINE }; /* bytes */
    const int64_t size = item_size[table->dtype], row_size = table->n_cols * size;
    const int64_t share = (n_pieces_of(row_size, fe_get_num_threads()) + LINE - 1) / LINE * LINE;
    return n_ids * row_size < LITTLE ? table->n_cols : (share < NARROW ? NARROW : share) / size;
}

static fe_table strip_of(const fe_table *table, int64_t first_col, int64_t n_cols)
{
    fe_table strip = *table;
    strip.data += first_col * item_size[table->dtype];
    strip.n_cols = n_cols;
    return strip;
}

static fe_status scatter_piece(const void *of_job, int64_t piece)
{
    const scatter_work *work = of_job;
    const int64_t first_col = piece * work->cols_per_piece, n_left = work->dwte->n_cols - first_col;
    const int64_t n_cols = n_left < work->cols_per_piece ? n_left : work->cols_per_piece;
    const fe_dtype dtype = work->dwte->dtype;
    const fe_table dwte = strip_of(work->dwte, first_col, n_cols);
    for (int64_t first = 0; first < work->dout->n_items;) {
        fe_run dout = fe_array_run(work->dout, first, work->dout->n_items - first);
        dout.data += first_col * item_size[dtype];
        if (work->dwpe == NULL) {
            work->kernels->scatter_add[dtype](&dwte, work->token_rows + first, dout);
        } else {
            const fe_table dwpe = strip_of(work->dwpe, first_col, n_cols);
            work->kernels->scatter_add_pair[dtype](&dwte, work->token_rows + first, &dwpe, work->position_rows + first, dout);
        }
        first += dout.n_items;
    }
    return (fe_status){.code = FE_OK};
}

/* Room for all ids of n_operands, resolved; NULL when there is none to be had. */
static int64_t *id_workspace(int64_t n_ids, int64_t n_operands)
{
    if ((uint64_t)n_ids > SIZE_MAX / sizeof(int64_t) / (size_t)n_operands)
        return NULL;
    return malloc((size_t)(n_ids > 0 ? n_ids : 1) * (size_t)n_operands * sizeof(int64_t));
}

fe_status fe_scatter_add(const fe_table *table, const fe_ids *ids, fe_bounds bounds, const fe_array *values)
{
    return fe_gather_add_backward(values, table, ids, NULL, NULL, bounds);
}

fe_status fe_gather_add_backward(const fe_array *dout, const fe_table *dwte, const fe_ids *token_ids, const fe_table *dwpe,
                                 const fe_ids *position_ids, fe_bounds bounds)
{
    const int64_t n_ids = token_ids->array.n_items;
    int64_t *rows = id_workspace(n_ids, dwpe == NULL ? 1 : 2);
    if (rows == NULL)
        return (fe_status){.code = FE_NO_MEMORY};
    fe_status status = fe_resolve_ids(token_ids, dwte->n_rows, bounds, rows, NULL);
    if (status.code == FE_OK && dwpe != NULL)
        status = of_operand(fe_resolve_ids(position_ids, dwpe->n_rows, bounds, rows + n_ids, NULL), 1);
    if (status.code == FE_OK && n_ids > 0) {
        const int64_t per_piece = cols_per_piece(dwte, n_ids);
        const scatter_work work = {fe_dispatch(), dwte, dwpe, rows, rows + n_ids, dout, per_piece};
        if (per_piece > 0)
            status = fe_pool_run(scatter_piece, &work, n_pieces_of(dwte->n_cols, per_piece), NULL);
    }
    free(rows);
    return status;
}
