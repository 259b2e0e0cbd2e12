/* The thread pool: a job is cut into pieces, which the caller and the workers take in turn. It
 * knows nothing of embeddings. */
#ifndef FE_POOL_H
#define FE_POOL_H

#include "fastembed.h"

/* One piece of a job, on whichever thread takes it. */
typedef fe_status (*fe_piece)(const void *work, int64_t piece);

/* Runs pieces 0 .. n_pieces - 1, each at most once. They start in this order, run in parallel, and
 * none is running when this returns. Once a piece fails no other one starts; the status is that of
 * the failed piece with the lowest number. `stop` (or NULL) is called by the caller's thread
 * between two of its pieces, at most every 50 ms.
 *
 * The caller works too, and waits only for pieces that a worker has started: where there are no
 * workers, because they are busy, could not be created or were lost in a fork, it does all of the
 * work itself. */
fe_status fe_pool_run(fe_piece run, const void *work, int64_t n_pieces, fe_stop stop);

enum { FE_MAX_STRIPS = 64 };

/* Runs pieces block * n_strips + strip, of which those of one strip run one after the other, from
 * block 0 on. n_strips is at most FE_MAX_STRIPS. */
fe_status fe_pool_run_strips(fe_piece run, const void *work, int64_t n_blocks, int32_t n_strips);

/* How many pieces n_items items make, items_per_piece in each but the last. */
static inline int64_t fe_n_pieces(int64_t n_items, int64_t items_per_piece)
{
    return n_items / items_per_piece + (n_items % items_per_piece != 0);
}

/* Items first .. end - 1. */
typedef struct {
    int64_t first, end;
} fe_range;

/* The items of one of these pieces. */
static inline fe_range fe_piece_items(int64_t n_items, int64_t items_per_piece, int64_t piece)
{
    const int64_t first = piece * items_per_piece, n_left = n_items - first;
    return (fe_range){first, first + (n_left < items_per_piece ? n_left : items_per_piece)};
}

#endif
