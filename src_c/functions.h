/* The entry points as one table of pointers. A single extension module is linked with the C, which
 * has state: the thread pool and the instruction set in use. All others call it by the table. */
#ifndef FE_FUNCTIONS_H
#define FE_FUNCTIONS_H

#include "disk/disk.h"
#include "fastembed.h"
#include "ngram.h"
#include "shared.h"

/* clang-format off */
#define FE_FUNCTIONS(F) \
    F(isa_available) F(select_isa) F(isa) F(compiler) F(get_num_threads) F(set_num_threads) \
    F(array_init) F(packed_size) F(resolve_ids) F(gather) F(gather_add) F(gather_add_few) F(scatter_add) F(gather_add_backward) \
    F(embedding_bag) F(embedding_bags) F(hash_parts) F(hash_rows) F(ngram_mix) F(ngram_gather) \
    F(norm_rows) F(dropout) F(logistic) F(cross_entropy) F(dots) F(costs) F(sum_powers) F(below) F(code_bounds) \
    F(apply_pending) F(apply_step) F(add_rows) F(sort_rows) \
    F(any_nonresident) F(prefetch_pages) F(release_pages) F(xla_handler) \
    F(publish_rows) F(read_at_once) F(is_replaced) F(set_replaced) \
    F(map_file) F(unmap_file) F(use_large_pages) F(discard_pages) \
    F(disk_slot_size) F(disk_open) F(disk_prefetch) F(disk_hold) F(disk_release) F(disk_count) F(disk_close) F(disk_free)
/* clang-format on */

#define FE_MEMBER(name) __typeof__(fe_##name) *name;
#define FE_ADDRESS(name) .name = fe_##name,

typedef struct {
    FE_FUNCTIONS(FE_MEMBER)
} fe_functions;

#endif
