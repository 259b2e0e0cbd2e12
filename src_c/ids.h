/* Reading ids of any integer type, layout and byte order: each is loaded once, checked, and handed
 * on as the int64 number of a row. */
#ifndef FE_IDS_H
#define FE_IDS_H

#include "fastembed.h"

#define FE_BLOCK 1024 /* most ids of one read: 8 KiB, a quarter of the smallest L1 cache in use */

/* Resolves ids first .. first + n_ids - 1 into rows[0 .. n_ids - 1]; -1 stands for no row
 * (FE_ZERO). On FE_BAD_ID rows is undefined. */
fe_status fe_ids_read(const fe_ids *ids, int64_t first, int64_t n_ids, int64_t n_rows, fe_bounds bounds, int64_t *rows);

#endif
