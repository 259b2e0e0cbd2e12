/* Threads: a job is cut into pieces, which the caller and the workers take one after the other. Knows nothing of embeddings. */
#ifndef FE_POOL_H
#define FE_POOL_H

#include "fastembed.h"

/* One piece of a job, on whichever thread takes it. */
typedef fe_status (*fe_piece)(const void *work, int64_t piece);

/* Runs pieces 0 .. n_pieces - 1, each at most once, in the order of their numbers but side by side, and returns when none is running.
 * Once a piece fails no further one is begun; the status is that of the failed piece with the lowest number. `stop` (or NULL) is
 * asked by the caller's thread between two of its pieces, not more often than every 50 ms.
 *
 * The caller works too, and waits only for pieces that a worker has begun: where there are no workers, because they are
 * busy, not to be had, or lost in a fork, it does all of the work. */
fe_status fe_pool_run(fe_piece run, const void *work, int64_t n_pieces, fe_stop stop);

/* Where a piece begins if n_items are shared out evenly; without the product of both, which may be too large. */
static inline int64_t fe_first_of_piece(int64_t n_items, int64_t n_pieces, int64_t piece)
{
    return n_items / n_pieces * piece + n_items % n_pieces * piece / n_pieces;
}

#endif
