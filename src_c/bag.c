/* Entry points of bags: ids are resolved a block at a time, and a kernel gets a bag's part of a
 * block. */
#include <math.h>
#include <stdlib.h>

#include "array.h"
#include "dispatch.h"
#include "ids.h"
#include "pool.h"

typedef struct {
    const fe_kernels *kernels;
    const fe_table *table;
    const fe_ids *ids;
    fe_bounds bounds;
    const fe_bags *bags;
    const fe_array *out;
    int64_t *winners;
    char *sums; /* a row of float32 for each piece, where results are halves; or NULL */
    int64_t n_pieces;
} bag_work;

/* The rows of items first .. end - 1. */
typedef struct {
    int64_t first, end;
    int64_t rows[FE_BLOCK];
} bag_block;

/* How many pieces of bags there are: each of so many bytes of rows, about 50 us, since the first
 * rows of a piece are not prefetched. */
static int64_t n_pieces_of(const fe_bags *bags, int64_t row_size)
{
    enum { PIECE_SIZE = 1 << 19 };
    const int64_t n_pieces = fe_n_pieces(bags->offsets[bags->n_bags] + bags->n_bags, PIECE_SIZE / (row_size + 8) + 1);
    return n_pieces < bags->n_bags ? n_pieces : bags->n_bags;
}

/* The first bag of a piece: pieces have about the same number of items and bags together. */
static int64_t first_bag(const fe_bags *bags, int64_t n_pieces, int64_t piece)
{
    const int64_t *offsets = bags->offsets, n_bags = bags->n_bags;
    const double goal = (double)(offsets[n_bags] + n_bags) * (double)piece / (double)n_pieces;
    int64_t low = 0, high = n_bags;
    while (low < high) {
        const int64_t bag = low + (high - low) / 2;
        if ((double)(offsets[bag] + bag) < goal)
            low = bag + 1;
        else
            high = bag;
    }
    return piece == n_pieces ? n_bags : low;
}

/* Makes the block begin at `item` if it does not hold it, or if the second half of the block has
 * too few items after the bag's for their rows to be prefetched. The piece ends at `last`. */
static fe_status need_item(const bag_work *work, bag_block *block, int64_t item, int64_t end_of_bag, int64_t last)
{
    const bool is_outside = item >= block->end; /* items ascend */
    const bool is_short = end_of_bag + FE_BAG_PREFETCH_DISTANCE > block->end && block->end < last;
    if (item >= end_of_bag || !(is_outside || (is_short && item > block->first + FE_BLOCK / 2)))
        return (fe_status){.code = FE_OK};
    const int64_t n_ids = last - item < FE_BLOCK ? last - item : FE_BLOCK, padding_row = work->bags->padding_row;
    block->first = item;
    block->end = item + n_ids;
    const fe_status status = fe_ids_read(work->ids, item, n_ids, work->table->n_rows, work->bounds, block->rows);
    for (int64_t i = 0; i < n_ids && padding_row >= 0; i++)
        if (block->rows[i] == padding_row)
            block->rows[i] = -1;
    return status;
}

/* How many items have a row. Where all have one they are not counted: for a packed bag counting
 * takes 3 per cent of the time. */
static int64_t count_kept(const bag_work *work, const int64_t *rows, int64_t n_items)
{
    if (work->bounds != FE_ZERO && work->bags->padding_row < 0)
        return n_items;
    int64_t n_kept = 0;
    for (int64_t i = 0; i < n_items; i++)
        n_kept += rows[i] >= 0;
    return n_kept;
}

/* What the sum of n_kept rows is divided by. */
static double divisor_of(fe_bag_mode mode, int64_t n_kept)
{
    if (mode == FE_BAG_SUM || mode == FE_BAG_MAX || n_kept == 0)
        return 1;
    return mode == FE_BAG_MEAN ? (double)n_kept : sqrt((double)n_kept);
}

/* One bag, which may begin in one block and end in a later one, into `out` in the dtype of
 * arithmetic. */
static fe_status run_bag(const bag_work *work, bag_block *block, int64_t bag, int64_t last, char *out)
{
    const fe_bags *bags = work->bags;
    const fe_table *table = work->table;
    const int64_t end = bags->offsets[bag + 1];
    const fe_dtype arithmetic = fe_arithmetic(table->dtype);
    int64_t item = bags->offsets[bag], n_kept = 0;
    do {
        const fe_status status = need_item(work, block, item, end, last);
        if (status.code != FE_OK)
            return status;
        const int64_t stop = end < block->end || item == end ? end : block->end;
        const int64_t *rows = stop > item ? block->rows + (item - block->first) : block->rows;
        const int64_t n_kept_here = count_kept(work, rows, stop - item);
        fe_bag_part part = {bags->mode, .n_items = stop - item, .n_following = stop < block->end ? block->end - stop : 0};
        part.is_first = n_kept == 0;
        part.all_kept = n_kept_here == part.n_items;
        n_kept += n_kept_here;
        part.divisor = stop < end ? 1 : divisor_of(bags->mode, n_kept);
        part.factors = bags->factors == NULL ? NULL : bags->factors + item * fe_item_size(arithmetic);
        if (work->winners == NULL)
            work->kernels->bag[table->dtype](table, rows, &part, out);
        else
            work->kernels->bag_winners[arithmetic](table, rows, &part, item, out, work->winners + bag * table->n_cols);
        item = stop;
    } while (item < end);
    return (fe_status){.code = FE_OK};
}

/* Sums bags of one item each, from the first one on: as many as follow one another in one block.
 * Where the block is not the last, rows after them are in it too, to be prefetched. `n_bags` is 0
 * if there is no such bag. */
static fe_status run_bags_of_one(const bag_work *work, bag_block *block, int64_t first, int64_t last, fe_run out, int64_t *n_bags)
{
    const int64_t *offsets = work->bags->offsets, item = offsets[first];
    const fe_status status = need_item(work, block, item, item + 1, last);
    const int64_t n_ready = (block->end < last ? block->end - FE_BAG_PREFETCH_DISTANCE : last) - item;
    const int64_t most = n_ready < out.n_items ? n_ready : out.n_items;
    int64_t n = 0;
    while (status.code == FE_OK && n < most && offsets[first + n + 1] == item + n + 1)
        n++;
    if (n > 0)
        work->kernels->bags_of_one[work->table->dtype](work->table, block->rows + (item - block->first), block->end - item, n,
                                                       out.data, out.stride);
    *n_bags = n;
    return status;
}

/* Bags from the first one on into the rows of `out`. `sums` is a row of float32 where these are
 * halves, or NULL. The items of the piece end at `last`. */
static fe_status run_bags(const bag_work *work, int64_t first, int64_t last, fe_run out, char *sums)
{
    const fe_bags *bags = work->bags;
    bag_block block;
    block.first = block.end = 0;
    const bool has_kernel = sums == NULL && work->table->dtype < FE_N_DTYPES;
    const bool sums_rows = has_kernel && bags->mode != FE_BAG_MAX && bags->factors == NULL;
    fe_status status = {.code = FE_OK};
    while (out.n_items > 0 && status.code == FE_OK) {
        int64_t n = 0;
        if (sums_rows && bags->offsets[first + 1] - bags->offsets[first] == 1)
            status = run_bags_of_one(work, &block, first, last, out, &n);
        if (n == 0 && status.code == FE_OK) {
            n = 1;
            status = run_bag(work, &block, first, last, sums == NULL ? out.data : sums);
            if (sums != NULL && status.code == FE_OK)
                work->kernels->round_row(out.data, work->out->dtype, sums, work->table->n_cols);
        }
        first += n;
        out.data += n * out.stride;
        out.n_items -= n;
    }
    return status;
}

static fe_status bag_piece(const void *of_job, int64_t piece)
{
    const bag_work *work = of_job;
    const int64_t end = first_bag(work->bags, work->n_pieces, piece + 1), last = work->bags->offsets[end];
    char *sums = work->sums == NULL ? NULL : work->sums + piece * work->table->n_cols * (int64_t)sizeof(float);
    const int64_t first = first_bag(work->bags, work->n_pieces, piece);
    return run_bags(work, first, last, fe_array_run(work->out, first, end - first), sums);
}

fe_status fe_embedding_bag(const fe_table *table, const fe_ids *ids, fe_bounds bounds, const fe_bags *bags, const fe_array *out,
                           int64_t *winners, bool is_new, fe_stop stop)
{
    const int64_t n_pieces = n_pieces_of(bags, table->n_cols * fe_item_size(table->dtype));
    bag_work work = {fe_dispatch(), table, ids, bounds, bags, out, winners, NULL, n_pieces};
    const bool checks_all = bags->n_bags > 0 && bags->offsets[0] == 0 && bags->offsets[bags->n_bags] == ids->array.n_items;
    fe_status status = {.code = FE_OK};
    if (!is_new || !checks_all)
        status = fe_resolve_ids(ids, table->n_rows, bounds, NULL, stop);
    if (status.code != FE_OK || bags->n_bags == 0)
        return status;
    if (fe_is_half(out->dtype)) {
        work.sums = malloc((size_t)work.n_pieces * ((size_t)table->n_cols * sizeof(float) + 1));
        if (work.sums == NULL)
            return (fe_status){.code = FE_NO_MEMORY};
    }
    status = fe_pool_run(bag_piece, &work, work.n_pieces, stop);
    free(work.sums);
    if (status.code == FE_BAD_ID) { /* of all threads' bad ids the first, if it is still there */
        const fe_status first = fe_resolve_ids(ids, table->n_rows, bounds, NULL, stop);
        return first.code == FE_OK ? status : first;
    }
    return status;
}

/* ---- bags of many tables ---- */

typedef struct {
    const fe_kernels *kernels;
    const fe_feature *features;
    const fe_ids *ids;
    fe_bounds bounds;
    const fe_bags *bags; /* of all features, one after the other */
    int64_t n_bags;      /* of each feature */
    char *out;
    int64_t out_stride, n_pieces;
    bool only_checks;
} features_work;

/* Checks the ids of items first .. end - 1 of one feature. */
static fe_status check_items(const features_work *work, const fe_feature *feature, int64_t first, int64_t end)
{
    int64_t discarded[FE_BLOCK];
    fe_status status = {.code = FE_OK};
    for (int64_t n; first < end && status.code == FE_OK; first += n) {
        n = end - first < FE_BLOCK ? end - first : FE_BLOCK;
        status = fe_ids_read(work->ids, first, n, feature->table.n_rows, work->bounds, discarded);
    }
    return status;
}

/* Bags first .. end - 1, which are all of one feature, whose first bag in a row of `out` is that of
 * number `start`. */
static fe_status run_feature(const features_work *work, const fe_feature *feature, int64_t start, int64_t first, int64_t end)
{
    const bag_work of_feature = {
        .kernels = work->kernels, .table = &feature->table, .ids = work->ids, .bounds = work->bounds, .bags = work->bags};
    char *out = work->out + (first - start) * work->out_stride + feature->out_offset;
    const fe_run rows = {out, end - first, work->out_stride};
    return run_bags(&of_feature, first, work->bags->offsets[end], rows, NULL);
}

static fe_status features_piece(const void *of_job, int64_t piece)
{
    const features_work *work = of_job;
    const int64_t *offsets = work->bags->offsets, end = first_bag(work->bags, work->n_pieces, piece + 1);
    int64_t bag = first_bag(work->bags, work->n_pieces, piece);
    fe_status status = {.code = FE_OK};
    while (bag < end && status.code == FE_OK) {
        const int64_t k = bag / work->n_bags, start = k * work->n_bags;
        const int64_t stop = end - start < work->n_bags ? end : start + work->n_bags;
        const fe_feature *feature = &work->features[k];
        status = work->only_checks ? check_items(work, feature, offsets[bag], offsets[stop])
                                   : run_feature(work, feature, start, bag, stop);
        bag = stop;
    }
    return status;
}

fe_status fe_embedding_bags(const fe_feature *features, int64_t n_features, const fe_ids *ids, fe_bounds bounds,
                            const fe_bags *bags, char *out, int64_t out_stride, fe_stop stop)
{
    if (bags->n_bags == 0)
        return (fe_status){.code = FE_OK};
    int64_t row_size = 0; /* of a row of each table */
    for (int64_t k = 0; k < n_features; k++)
        row_size += features[k].table.n_cols * fe_item_size(features[k].table.dtype);
    const int64_t n_bags = bags->n_bags / n_features;
    features_work work = {fe_dispatch(), features, ids, bounds, bags, n_bags, out, out_stride, 1, .only_checks = true};
    work.n_pieces = n_pieces_of(bags, row_size / n_features);
    const fe_status status = fe_pool_run(features_piece, &work, work.n_pieces, stop);
    work.only_checks = false;
    return status.code == FE_OK ? fe_pool_run(features_piece, &work, work.n_pieces, stop) : status;
}
