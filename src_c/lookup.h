/* Parts of look-ups: for entry points that compute ids while their rows are looked up. */
#ifndef FE_LOOKUP_H
#define FE_LOOKUP_H

#include "fastembed.h"

/* Bytes of a row of results. */
int64_t fe_row_size(const fe_table *table, const fe_array *out);

/* How many items a piece has where each needs that many bytes: several pieces for each thread, so
 * that all end at about the same time, but none too small. */
int64_t fe_items_per_piece(int64_t n_items, int64_t item_size);

/* for i = first .. end - 1: out[i] = row(ids[i]); the size of a row is not 0. */
fe_status fe_look_up_items(const fe_table *table, const fe_ids *ids, const fe_array *out, int64_t first, int64_t end);

#endif
