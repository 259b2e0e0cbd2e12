/* The entry points of bags: ids are read a block at a time, and each bag's part of a block goes to a kernel. */
#include <math.h>

#include "array.h"
#include "dispatch.h"
#include "ids.h"
#include "pool.h"

enum {
    LITTLE = 1 << 17, /* bytes of rows for which a thread is not worth its wake-up */
    PIECES_PER_THREAD = 8,
};

typedef struct {
    const fe_kernels *kernels;
    const fe_table *table;
    const fe_ids *ids;
    fe_bounds bounds;
    const fe_bags *bags;
    const fe_array *out;
    int64_t *winners;
    int64_t n_pieces;
} bag_work;

/* Pieces hold as many items and bags, together, as each other. */
static int64_t first_bag(const bag_work *work, int64_t piece)
{
    const int64_t *offsets = work->bags->offsets, n_bags = work->bags->n_bags;
    const double goal = (double)(offsets[n_bags] + n_bags) * (double)piece / (double)work->n_pieces;
    int64_t low = 0, high = n_bags;
    while (low < high) {
        const int64_t bag = low + (high - low) / 2;
        if ((double)(offsets[bag] + bag) < goal)
            low = bag + 1;
        else
            high = bag;
    }
    return piece == work->n_pieces ? n_bags : low;
}

static fe_status read_rows(const bag_work *work, int64_t first, int64_t n_ids, int64_t *rows)
{
    const fe_status status = fe_ids_read(work->ids, first, n_ids, work->table->n_rows, work->bounds, rows);
    for (int64_t i = 0; i < n_ids && work->bags->padding_row >= 0; i++)
        if (rows[i] == work->bags->padding_row)
            rows[i] = -1;
    return status;
}

/* What the sum of a bag of n_kept rows is divided by. */
static double divisor_of(fe_bag_mode mode, int64_t n_kept)
{
    return mode == FE_BAG_SUM || mode == FE_BAG_MAX || n_kept == 0 ? 1 : mode == FE_BAG_MEAN ? (double)n_kept : sqrt((double)n_kept);
}

static fe_status bag_piece(const void *of_job, int64_t piece)
{
    const bag_work *work = of_job;
    const int64_t *offsets = work->bags->offsets, n_cols = work->table->n_cols, item_size = work->table->dtype == FE_F64 ? 8 : 4;
    const int64_t end = first_bag(work, piece + 1);
    const bool keeps_all = work->bounds != FE_ZERO && work->bags->padding_row < 0; /* to count takes 3 per cent of a packed bag */
    int64_t rows[FE_BLOCK], block = 0, block_end = 0; /* rows of items block .. block_end - 1 */
    for (int64_t bag = first_bag(work, piece); bag < end; bag++) {
        char *out = fe_array_run(work->out, bag, 1).data;
        int64_t item = offsets[bag], n_kept = 0;
        bool is_first = true;
        do {
            const bool is_short = offsets[bag + 1] + FE_BAG_AHEAD > block_end && block_end < offsets[end];
            if (item < offsets[bag + 1] && (item >= block_end || item < block || (is_short && item > block + FE_BLOCK / 2))) {
                block = item;
                block_end = offsets[end] - item < FE_BLOCK ? offsets[end] : item + FE_BLOCK;
                const fe_status status = read_rows(work, block, block_end - block, rows);
                if (status.code != FE_OK)
                    return status;
            }
            const int64_t stop = offsets[bag + 1] < block_end || item == offsets[bag + 1] ? offsets[bag + 1] : block_end;
            fe_bag_part part = {work->bags->mode, .n_items = stop - item, .n_coming = stop < block_end ? block_end - stop : 0};
            part.is_first = work->bags->mode == FE_BAG_MAX ? n_kept == 0 : is_first;
            const int64_t n_before = n_kept;
            n_kept += keeps_all ? part.n_items : 0;
            for (int64_t i = item; i < stop && !keeps_all; i++)
                n_kept += rows[i - block] >= 0;
            part.all_kept = n_kept - n_before == part.n_items;
            part.divisor = stop < offsets[bag + 1] ? 1 : divisor_of(work->bags->mode, n_kept);
            part.factors = work->bags->factors == NULL ? NULL : work->bags->factors + item * item_size;
            const int64_t *part_rows = part.n_items > 0 ? rows + (item - block) : rows;
            if (work->winners == NULL)
                work->kernels->bag[work->table->dtype](work->table, part_rows, &part, out);
            else
                work->kernels->bag_winners[work->table->dtype](work->table, part_rows, &part, item, out, work->winners + bag * n_cols);
            is_first = false;
            item = stop;
        } while (item < offsets[bag + 1]);
    }
    return (fe_status){.code = FE_OK};
}

fe_status fe_embedding_bag(const fe_table *table, const fe_ids *ids, fe_bounds bounds, const fe_bags *bags, const fe_array *out,
                           int64_t *winners, fe_stop stop)
{
    const int64_t n_items = bags->offsets[bags->n_bags] + bags->n_bags, item_size = table->dtype == FE_F64 ? 8 : 4;
    const int64_t n_pieces = PIECES_PER_THREAD * (int64_t)fe_get_num_threads();
    bag_work work = {fe_dispatch(), table, ids, bounds, bags, out, winners, 1};
    if (n_items > LITTLE / (table->n_cols * item_size + 8))
        work.n_pieces = n_pieces < bags->n_bags ? n_pieces : bags->n_bags;
    const fe_status status = fe_resolve_ids(ids, table->n_rows, bounds, NULL, stop);
    return status.code == FE_OK && bags->n_bags > 0 ? fe_pool_run(bag_piece, &work, work.n_pieces, stop) : status;
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
    const int64_t first = piece * work->items_per_piece, n_left = work->batch->n_items - first;
    const int64_t end = first + (n_left < work->items_per_piece ? n_left : work->items_per_piece);
    fe_dispatch()->dots[work->table->dtype](work->table, work->batch, work->dots, first, end);
    return (fe_status){.code = FE_OK};
}

void fe_dots(const fe_table *table, const fe_batch *batch, char *dots)
{
    const dots_work work = {table, batch, dots, LITTLE / (table->n_cols * 8 + 8) + 1};
    fe_pool_run(dots_piece, &work, (batch->n_items + work.items_per_piece - 1) / work.items_per_piece, NULL);
}
