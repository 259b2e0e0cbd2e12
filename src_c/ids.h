/* Reading ids of any integer type, layout and byte order: each id is loaded once, checked, and handed on as int64. */
#ifndef FE_IDS_H
#define FE_IDS_H

#include "fastembed.h"

#define FE_BLOCK 1024 /* ids that one read resolves: 8 KiB, a quarter of the smallest first-level cache in use */

/* Resolves ids first .. first + n_ids - 1 into rows[0 .. n_ids - 1]; -1 stands for no row (FE_ZERO).
 * On FE_BAD_ID, rows holds nothing of use. */
fe_status fe_ids_read(const fe_ids *ids, int64_t first, int64_t n_ids, int64_t n_rows, fe_bounds bounds, int64_t *rows);

#endif
