/* Reading rows of a shared table, which another process may be writing. */
#ifndef FE_SHARED_ROWS_H
#define FE_SHARED_ROWS_H

#include "kernels/kernels.h"

/* As `gather`, by that kernel, of at most FE_BLOCK rows of a shared table: each row is one that was
 * published as a whole. FE_REPLACED: the table is to be opened anew. */
fe_status fe_gather_shared(const fe_table *table, const int64_t *rows, int64_t row_size, fe_run out, fe_gather_kernel *gather);

#endif
