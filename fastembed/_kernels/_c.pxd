# Mirror of src_c/fastembed.h and ngram.h, where the meaning of each function is written. The
# functions are members of the table of src_c/functions.h, without their prefix.
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint32_t, uint64_t


cdef extern from "functions.h":
    ctypedef enum fe_dtype:
        FE_F32
        FE_F64
        FE_F16
        FE_BF16
        FE_Q8
        FE_Q4
        FE_E4M3
        FE_E5M2
        FE_Q8_0
        FE_Q4_0
        FE_Q2_K
        FE_Q3_K
        FE_Q4_K
        FE_Q5_K
        FE_Q6_K
        FE_BYTES

    ctypedef enum fe_bounds:
        FE_RAISE
        FE_WRAP
        FE_CLIP
        FE_ZERO

    ctypedef enum fe_id_type:
        FE_I8
        FE_I16
        FE_I32
        FE_I64
        FE_ARANGE
        FE_NGRAM

    ctypedef enum fe_code:
        FE_OK
        FE_BAD_ID
        FE_NO_MEMORY
        FE_STOPPED
        FE_REPLACED

    ctypedef struct fe_status:
        fe_code code
        int32_t operand
        int64_t index
        int64_t id

    ctypedef struct fe_shared:
        uint64_t *sequence
        uint64_t *replaced
        uint64_t replaced_seen
        uint32_t *versions
        int64_t version_mask
        int64_t *journal_size
        int64_t *journal_rows
        char *journal
        int64_t *position
        uint64_t *shown

    ctypedef struct fe_table:
        char *data
        int64_t n_rows
        int64_t n_cols
        int64_t row_stride
        fe_dtype dtype
        bint has_float_scales
        int64_t block_size
        const char *scales
        int64_t scales_stride
        const fe_shared *shared

    ctypedef struct fe_array:
        int64_t n_items
        fe_dtype dtype

    ctypedef struct fe_ngram_head:
        uint64_t size
        uint64_t reciprocal
        uint64_t offset

    ctypedef struct fe_ngram_rows:
        const uint64_t *mixes
        const fe_ngram_head *heads
        int64_t n_heads
        int64_t n_mixes
        int64_t first_token

    ctypedef struct fe_ids:
        fe_array array
        fe_id_type type
        bint swapped
        int64_t start
        int64_t period
        const fe_ngram_rows *ngrams

    ctypedef struct fe_ngram_hash:
        int64_t n
        const uint64_t *multipliers
        const int64_t *token_map
        int64_t n_tokens
        int64_t fill
        const int64_t *cuts
        int64_t n_cuts
        bint cuts_itself

    ctypedef struct fe_ngram_tokens:
        const fe_ids *tokens
        const int64_t *starts
        int64_t n_sequences

    ctypedef struct fe_ngram_layer:
        fe_ngram_hash hash
        const fe_ngram_head *heads
        int64_t n_heads
        fe_table table
        fe_array out
        const int64_t *history

    ctypedef int (*fe_stop)() noexcept nogil

    ctypedef enum fe_bag_mode:
        FE_BAG_SUM
        FE_BAG_MEAN
        FE_BAG_SQRTN
        FE_BAG_MAX

    ctypedef struct fe_bags:
        const int64_t *offsets
        int64_t n_bags
        fe_bag_mode mode
        const char *factors
        int64_t padding_row

    ctypedef struct fe_feature:
        fe_table table
        int64_t out_offset

    ctypedef struct fe_mapped_rows:
        char *data
        int64_t n_rows
        int64_t row_size

    ctypedef enum fe_rule:
        FE_SGD
        FE_ADAGRAD
        FE_ROWWISE_ADAGRAD
        FE_ADAM
        FE_SPARSE_ADAM

    ctypedef struct fe_step:
        pass

    ctypedef struct fe_lazy_table:
        fe_rule rule
        fe_table table
        bint is_stochastic
        uint64_t seed
        uint64_t stream
        fe_table master
        fe_table state[2]
        int32_t *n_applied
        const double *multipliers
        fe_step *steps
        int32_t n_steps

    ctypedef struct fe_batch:
        const int64_t *rows
        const int32_t *order
        const double *factors
        bint by_frequency
        int64_t n_items
        const fe_array *grads

    ctypedef enum fe_metric_kind:
        FE_DOT
        FE_COSINE
        FE_L2

    ctypedef struct fe_metric:
        fe_metric_kind kind
        double smallest
        double largest

    ctypedef struct fe_lines:
        const char *factors
        const char *offsets

    ctypedef struct fe_codes:
        const int8_t *codes
        int64_t n_rows
        int64_t row_size
        const float *scales
        const float *errors
        const float *lengths
        const float *offsets

    ctypedef struct fe_code_query:
        const int16_t *numbers
        float scale
        float of_errors
        float of_lengths
        float of_offsets

    ctypedef struct fe_disk_segment:
        int file
        int64_t start
        int64_t first_row
        int64_t n_rows

    ctypedef struct fe_disk_part:
        const fe_disk_segment *segments
        int64_t n_segments
        int64_t size

    ctypedef struct fe_disk_options:
        const fe_disk_part *parts
        int32_t n_parts
        int32_t depth
        char *data
        int64_t n_slots
        bint may_use_uring

    ctypedef struct fe_disk:
        pass

    ctypedef enum fe_disk_code:
        FE_DISK_OK
        FE_DISK_FAILED
        FE_DISK_SHORT
        FE_DISK_NO_MEMORY
        FE_DISK_STOPPED
        FE_DISK_CLOSED

    ctypedef struct fe_disk_status:
        fe_disk_code code
        int32_t error
        int64_t index

    ctypedef struct fe_disk_statistics:
        int64_t n_hits
        int64_t n_misses
        int64_t n_prefetched
        int64_t n_skipped
        int64_t n_evicted
        int64_t n_reads
        int64_t n_bytes
        int64_t n_failed
        bint uses_uring

    ctypedef struct fe_functions:
        void (*array_init)(fe_array *array, char *data, int32_t n_dims, const int64_t *shape,
                           const int64_t *strides) noexcept nogil
        int64_t (*packed_size)(const fe_table *table, bint of_scales) noexcept nogil
        fe_status (*resolve_ids)(const fe_ids *ids, int64_t n_rows, fe_bounds bounds, int64_t *rows, fe_stop stop) noexcept nogil
        fe_status (*gather)(const fe_table *table, const fe_ids *ids, fe_bounds bounds, const fe_array *out, bint is_new,
                            fe_stop stop) noexcept nogil
        fe_status (*gather_add)(const fe_table *wte, const fe_ids *token_ids, const fe_table *wpe, const fe_ids *position_ids,
                                fe_bounds bounds, const fe_array *out, bint is_new, fe_stop stop) noexcept nogil
        bint (*gather_add_few)(const fe_table *wte, const int64_t *token_ids, int64_t n_ids, const fe_table *wpe, int64_t start,
                               char *out) noexcept nogil
        fe_status (*scatter_add)(const fe_table *table, const fe_ids *ids, fe_bounds bounds,
                                 const fe_array *values) noexcept nogil
        fe_status (*gather_add_backward)(const fe_array *dout, const fe_table *dwte, const fe_ids *token_ids,
                                         const fe_table *dwpe, const fe_ids *position_ids, fe_bounds bounds) noexcept nogil
        fe_status (*embedding_bag)(const fe_table *table, const fe_ids *ids, fe_bounds bounds, const fe_bags *bags,
                                   const fe_array *out, int64_t *winners, bint is_new, fe_stop stop) noexcept nogil
        fe_status (*embedding_bags)(const fe_feature *features, int64_t n_features, const fe_ids *ids, fe_bounds bounds,
                                    const fe_bags *bags, char *out, int64_t out_stride, fe_stop stop) noexcept nogil
        void (*hash_parts)(const uint64_t *ids, int64_t n_ids, uint32_t seed, uint32_t *parts) noexcept nogil
        void (*hash_rows)(const uint64_t *ids, int64_t n_ids, uint32_t seed, uint32_t n_rows, int64_t *rows) noexcept nogil
        fe_status (*ngram_mix)(const fe_ngram_hash *hash, const fe_ngram_tokens *tokens, const int64_t *history,
                               uint64_t *mixes, fe_stop stop) noexcept nogil
        fe_status (*ngram_gather)(const fe_ngram_layer *layers, int32_t n_layers, const fe_ngram_tokens *tokens,
                                  fe_stop stop) noexcept nogil
        bint (*any_nonresident)(const fe_mapped_rows *mapped, const int64_t *rows, int64_t n_rows) noexcept nogil
        void (*prefetch_pages)(const fe_mapped_rows *mapped, const int64_t *rows, int64_t n_rows) noexcept nogil
        void (*release_pages)(const fe_mapped_rows *mapped, const int64_t *rows, int64_t n_rows) noexcept nogil
        void (*publish_rows)(const fe_table *table, const fe_table *source, const int64_t *rows, int64_t n_rows) noexcept nogil
        bint (*read_at_once)(const fe_table *table, const int64_t *rows, int64_t n_rows, char *out) noexcept nogil
        bint (*is_replaced)(const fe_shared *shared) noexcept nogil
        void (*set_replaced)(const fe_shared *shared, bint is_done) noexcept nogil
        char *(*map_file)(int file, int64_t size, bint is_writable) noexcept nogil
        void (*unmap_file)(char *memory, int64_t size) noexcept nogil
        bint (*use_large_pages)(char *memory, int64_t size) noexcept nogil
        void (*discard_pages)(char *memory, int64_t size) noexcept nogil
        void (*norm_rows)(const fe_table *rows, const fe_table *grads, bint is_layer, double eps) noexcept nogil
        void (*dropout)(const fe_table *rows, double p, uint64_t seed, uint64_t call) noexcept nogil
        void (*logistic)(fe_dtype dtype, const char *logits, const char *targets, int64_t n_items, double divisor,
                         char *gradients, double *losses) noexcept nogil
        void (*cross_entropy)(const fe_table *logits, const int64_t *targets, double divisor, const fe_table *gradients,
                              double *losses) noexcept nogil
        void (*apply_pending)(const fe_lazy_table *lazy, const int64_t *rows, int64_t n_rows) noexcept nogil
        void (*apply_step)(const fe_lazy_table *lazy, const fe_step *now, bint is_recorded, const fe_batch *batch) noexcept nogil
        void (*add_rows)(const fe_table *sums, const fe_batch *batch) noexcept nogil
        void (*dots)(const fe_table *table, const fe_batch *batch, char *dots) noexcept nogil
        void (*sort_rows)(int64_t *rows, int64_t n, int64_t n_rows, int64_t *sorted, int32_t *order,
                          int32_t *scratch) noexcept nogil
        void (*sum_powers)(const fe_table *rows, double p, double *sums) noexcept nogil
        void (*costs)(const fe_table *rows, const fe_table *queries, const fe_metric *metric, char *costs,
                      char *squares) noexcept nogil
        int64_t (*below)(const fe_table *rows, const fe_lines *lines, const char *limits, int64_t *found) noexcept nogil
        void (*code_bounds)(const fe_codes *codes, const fe_code_query *query, float *lower, float *upper) noexcept nogil
        int64_t (*disk_slot_size)(int32_t n_parts) noexcept nogil
        fe_disk *(*disk_open)(const fe_disk_options *options) noexcept nogil
        void (*disk_prefetch)(fe_disk *disk, const int64_t *rows, int64_t n_rows) noexcept nogil
        fe_disk_status (*disk_hold)(fe_disk *disk, const int64_t *rows, int64_t n_rows, int32_t *slots,
                                    fe_stop stop) noexcept nogil
        void (*disk_release)(fe_disk *disk, const int32_t *slots, int64_t n_rows) noexcept nogil
        fe_disk_statistics (*disk_count)(fe_disk *disk) noexcept nogil
        void (*disk_close)(fe_disk *disk) noexcept nogil
        void (*disk_free)(fe_disk *disk) noexcept nogil
        void *(*xla_handler)(int32_t k, const char **name) noexcept nogil
        const char *(*isa_available)(int32_t k) noexcept nogil
        bint (*select_isa)(const char *isa) noexcept nogil
        const char *(*isa)() noexcept nogil
        const char *(*compiler)() noexcept nogil
        int32_t (*get_num_threads)() noexcept nogil
        void (*set_num_threads)(int32_t n) noexcept nogil
