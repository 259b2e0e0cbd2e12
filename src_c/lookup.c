/* Entry points of look-ups: ids are checked, items are cut into pieces, and a kernel gets one block
 * of a piece at a time. */
#include "array.h"
#include "dispatch.h"
#include "float_env.h"
#include "formats.h"
#include "ids.h"
#include "lookup.h"
#include "pool.h"
#include "shared_rows.h"

enum {
    /* Bytes of a piece, about 50 us: the first rows of a piece have not been prefetched. */
    PIECE_SIZE = 1 << 19,

    /* Bytes of results up to which waking a thread costs more than it saves. */
    SERIAL_SIZE = 1 << 18,

    /* Bytes of results from which stores bypass the cache: the results would not stay there until
     * they are read, and an ordinary store reads its cache line first. When the result is read
     * next, that loses at 6 MB and gains at 12 MB. */
    STREAM_SIZE = 1 << 23,
    STREAM_ROW_SIZE = 512, /* bytes: a shorter row has too few whole cache lines */

    /* Bytes of position rows that no longer stay in the L2 cache from one document to the next; and
     * bytes of those that do, and so make a tile. */
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
} lookup_work;

int64_t fe_row_size(const fe_table *table, const fe_array *out)
{
    return table->n_cols * fe_item_size(out->dtype);
}

int64_t fe_items_per_piece(int64_t n_items, int64_t item_size)
{
    const int64_t size = n_items * (item_size + 8), share = size / (4 * fe_get_num_threads());
    const int64_t piece_size = share > PIECE_SIZE ? PIECE_SIZE : share < SERIAL_SIZE / 4 ? SERIAL_SIZE / 4 : share;
    return size < SERIAL_SIZE ? n_items + 1 : piece_size / (item_size + 8) + 1;
}

static bool is_streamed(int64_t n_items, int64_t row_size)
{
    return row_size >= STREAM_ROW_SIZE && n_items > STREAM_SIZE / row_size;
}

static fe_status with_operand(fe_status status, int32_t operand)
{
    status.operand = operand;
    return status;
}

/* A block of rows that are decoded, to which position rows are added. */
static fe_status lookup_decoded(const lookup_work *work, const int64_t *token_rows, int64_t first, fe_run out)
{
    const fe_kernels *kernels = work->kernels;
    int64_t position_rows[FE_BLOCK];
    fe_status status = {.code = FE_OK};
    if (work->wpe != NULL)
        status = fe_ids_read(work->position_ids, first, out.n_items, work->wpe->n_rows, work->bounds, position_rows);
    if (status.code == FE_OK)
        kernels->decode(work->wte, token_rows, out, work->out->dtype, work->stream);
    for (int64_t i = 0; i < out.n_items && work->wpe != NULL && status.code == FE_OK; i++, out.data += out.stride) {
        const fe_bag_part sum = {FE_BAG_SUM, .is_first = true, .n_items = 1, .divisor = 1};
        if (position_rows[i] >= 0)
            kernels->add_row[FE_F32](out.data, out.data, fe_row(work->wpe, position_rows[i]), work->wte->n_cols);
        else /* a missing row counts as +0.0, and so does the first operand of a sum */
            kernels->bag[work->wte->dtype](work->wte, token_rows + i, &sum, out.data);
    }
    return with_operand(status, 1);
}

static fe_status lookup_block(const lookup_work *work, int64_t first, fe_run out)
{
    const fe_kernels *kernels = work->kernels;
    const fe_dtype dtype = work->wte->dtype;
    int64_t token_rows[FE_BLOCK], position_rows[FE_BLOCK];
    fe_status status = fe_ids_read(work->token_ids, first, out.n_items, work->wte->n_rows, work->bounds, token_rows);
    if (status.code != FE_OK)
        return status;
    const bool is_other_half = fe_is_half(dtype) && fe_is_half(work->out->dtype) && dtype != work->out->dtype;
    if ((dtype >= FE_Q8 && dtype < FE_N_READ_DTYPES) || is_other_half)
        return lookup_decoded(work, token_rows, first, out);
    if (work->wpe == NULL && dtype == work->out->dtype) {
        fe_gather_kernel *gather = work->stream ? kernels->gather_stream : kernels->gather;
        if (work->wte->shared != NULL)
            return fe_gather_shared(work->wte, token_rows, work->row_size, out, gather);
        gather(work->wte, token_rows, work->row_size, out);
        return status;
    }
    if (work->wpe != NULL)
        status = fe_ids_read(work->position_ids, first, out.n_items, work->wpe->n_rows, work->bounds, position_rows);
    if (status.code == FE_OK && fe_is_half(dtype))
        kernels->gather_halves(work->wte, token_rows, work->wpe, position_rows, out, work->out->dtype, work->stream);
    else if (status.code == FE_OK)
        (work->stream ? kernels->gather_add_stream : kernels->gather_add)[dtype](work->wte, token_rows, work->wpe, position_rows,
                                                                                 out);
    return with_operand(status, 1);
}

static fe_status lookup_items(const lookup_work *work, int64_t first, int64_t end)
{
    while (first < end) {
        const fe_run out = fe_array_run(work->out, first, end - first < FE_BLOCK ? end - first : FE_BLOCK);
        const fe_status status = lookup_block(work, first, out);
        if (status.code != FE_OK)
            return status;
        first += out.n_items;
    }
    return (fe_status){.code = FE_OK};
}

fe_status fe_look_up_items(const fe_table *table, const fe_ids *ids, const fe_array *out, int64_t first, int64_t end)
{
    const int64_t row_size = fe_row_size(table, out);
    const bool stream = is_streamed(out->n_items, row_size);
    const lookup_work work = {fe_dispatch(), table, NULL, ids, NULL, FE_RAISE, out, row_size, 0, stream};
    return lookup_items(&work, first, end);
}

static fe_status lookup_piece(const void *of_job, int64_t piece)
{
    const lookup_work *work = of_job;
    const fe_range items = fe_piece_items(work->out->n_items, work->items_per_piece, piece);
    return lookup_items(work, items.first, items.end);
}

/* For a batch of documents whose positions all start at the same one. A piece is some positions of
 * some documents, so that the rows of those positions come from memory once for all of them. */
static fe_status lookup_tile(const void *of_job, int64_t piece)
{
    const lookup_work *work = of_job;
    const int64_t n_positions = work->position_ids->period, n_documents = work->out->n_items / n_positions;
    const int64_t n_groups = fe_n_pieces(n_documents, DOCUMENTS_PER_TILE);
    const fe_range positions = fe_piece_items(n_positions, work->items_per_piece, piece / n_groups);
    const fe_range documents = fe_piece_items(n_documents, DOCUMENTS_PER_TILE, piece % n_groups);
    for (int64_t d = documents.first; d < documents.end; d++) {
        const fe_status status = lookup_items(work, d * n_positions + positions.first, d * n_positions + positions.end);
        if (status.code != FE_OK)
            return status;
    }
    return (fe_status){.code = FE_OK};
}

static bool is_tiled(const lookup_work *work)
{
    return work->wpe != NULL && work->position_ids->type == FE_ARANGE && work->out->n_items > work->position_ids->period &&
           work->position_ids->period > TILED_SIZE / work->row_size;
}

/* Cuts a look-up into pieces, and runs them. */
static fe_status lookup(lookup_work *work, fe_stop stop)
{
    const int64_t n_items = work->out->n_items, row_size = work->row_size;
    work->stream = is_streamed(n_items, row_size);
    if (is_tiled(work)) {
        const int64_t n_positions = work->position_ids->period, n_groups = fe_n_pieces(n_items / n_positions, DOCUMENTS_PER_TILE);
        work->items_per_piece = TILE_SIZE / row_size + 1;
        return fe_pool_run(lookup_tile, work, fe_n_pieces(n_positions, work->items_per_piece) * n_groups, stop);
    }
    work->items_per_piece = fe_items_per_piece(n_items, row_size);
    return fe_pool_run(lookup_piece, work, fe_n_pieces(n_items, work->items_per_piece), stop);
}

bool fe_gather_add_few(const fe_table *wte, const int64_t *token_ids, int64_t n_ids, const fe_table *wpe, int64_t start,
                       char *out)
{
    const fe_kernels *kernels = fe_dispatch();
    const int64_t row_size = wte->n_cols * fe_item_size(wte->dtype);
    bool are_in_range = row_size != 0 && start >= 0 && start <= wpe->n_rows - n_ids;
    const fe_float_env floats = fe_enter_default_floats();
    for (int64_t i = 0; i < n_ids && are_in_range; i++) {
        const int64_t token_id = token_ids[i];
        are_in_range = (uint64_t)token_id < (uint64_t)wte->n_rows;
        if (are_in_range)
            kernels->add_row[wte->dtype](out + i * row_size, fe_row(wte, token_id), fe_row(wpe, start + i), wte->n_cols);
    }
    fe_restore_floats(floats);
    return are_in_range;
}

int64_t fe_packed_size(const fe_table *table, bool of_scales)
{
    const fe_block_layout layout = fe_block_layouts[table->dtype];
    if (layout.n_cols > 1 && table->n_cols % layout.n_cols != 0)
        return -1;
    return of_scales ? fe_scales_size(table) : fe_elements_size(table);
}

fe_status fe_gather(const fe_table *table, const fe_ids *ids, fe_bounds bounds, const fe_array *out, bool is_new, fe_stop stop)
{
    return fe_gather_add(table, ids, NULL, NULL, bounds, out, is_new, stop);
}

fe_status fe_gather_add(const fe_table *wte, const fe_ids *token_ids, const fe_table *wpe, const fe_ids *position_ids,
                        fe_bounds bounds, const fe_array *out, bool is_new, fe_stop stop)
{
    const int64_t row_size = fe_row_size(wte, out);
    lookup_work work = {fe_dispatch(), wte, wpe, token_ids, position_ids, bounds, out, row_size, 0, false};
    if (out->n_items <= FE_BLOCK && out->n_items * row_size < SERIAL_SIZE && out->n_dims == 1 && out->n_items > 0 &&
        row_size > 0) {
        /* one block: all its ids are checked before it is written, and there is nothing to share */
        const fe_float_env floats = fe_enter_default_floats();
        const fe_status status = lookup_block(&work, 0, (fe_run){out->data, out->n_items, out->strides[0]});
        fe_restore_floats(floats);
        return status;
    }
    fe_status status = {.code = FE_OK};
    if (!is_new || row_size == 0)
        status = fe_resolve_ids(token_ids, wte->n_rows, bounds, NULL, stop);
    if (status.code == FE_OK && wpe != NULL && (!is_new || row_size == 0))
        status = with_operand(fe_resolve_ids(position_ids, wpe->n_rows, bounds, NULL, stop), 1);
    if (status.code != FE_OK || row_size == 0) /* the strides of an empty table may be anything */
        return status;
    return lookup(&work, stop);
}
