# Mirror of src_c/fastembed.h: the meaning of each function is written there.
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t


cdef extern from "fastembed.h" nogil:
    ctypedef enum fe_dtype:
        FE_F32
        FE_F64
        FE_Q8
        FE_Q4

    ctypedef enum fe_bounds:
        FE_RAISE
        FE_WRAP
        FE_CLIP
        FE_ZERO

    ctypedef enum fe_id_type:
        FE_I64
        FE_ARANGE

    ctypedef enum fe_code:
        FE_OK
        FE_BAD_ID
        FE_NO_MEMORY
        FE_STOPPED

    ctypedef struct fe_status:
        fe_code code
        int32_t operand
        int64_t index
        int64_t id

    ctypedef struct fe_table:
        char *data
        int64_t n_rows
        int64_t n_cols
        int64_t row_stride
        fe_dtype dtype

    ctypedef struct fe_array:
        int64_t n_items

    ctypedef struct fe_ids:
        fe_array array
        fe_id_type type
        bint swapped
        int64_t start
        int64_t period

    ctypedef int (*fe_stop)() noexcept nogil

    void fe_array_init(fe_array *array, char *data, int32_t n_dims, const int64_t *shape, const int64_t *strides) noexcept
    fe_status fe_resolve_ids(const fe_ids *ids, int64_t n_rows, fe_bounds bounds, int64_t *rows, fe_stop stop) noexcept
    fe_status fe_gather(const fe_table *table, const fe_ids *ids, fe_bounds bounds, const fe_array *out, bint is_new,
                        fe_stop stop) noexcept
    fe_status fe_gather_add(const fe_table *wte, const fe_ids *token_ids, const fe_table *wpe, const fe_ids *position_ids,
                            fe_bounds bounds, const fe_array *out, bint is_new, fe_stop stop) noexcept
    bint fe_gather_add_few(const fe_table *wte, const int64_t *token_ids, int64_t n_ids, const fe_table *wpe, int64_t start,
                           char *out) noexcept
    fe_status fe_scatter_add(const fe_table *table, const fe_ids *ids, fe_bounds bounds, const fe_array *values) noexcept
    fe_status fe_gather_add_backward(const fe_array *dout, const fe_table *dwte, const fe_ids *token_ids, const fe_table *dwpe,
                                     const fe_ids *position_ids, fe_bounds bounds) noexcept

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

    fe_status fe_embedding_bag(const fe_table *table, const fe_ids *ids, fe_bounds bounds, const fe_bags *bags, const fe_array *out,
                               int64_t *winners, fe_stop stop) noexcept

    ctypedef struct fe_mapped_rows:
        char *data
        int64_t n_rows
        int64_t row_size

    bint fe_any_nonresident(const fe_mapped_rows *mapped, const int64_t *rows, int64_t n_rows) noexcept
    void fe_prefetch_pages(const fe_mapped_rows *mapped, const int64_t *rows, int64_t n_rows) noexcept
    void fe_release_pages(const fe_mapped_rows *mapped, const int64_t *rows, int64_t n_rows) noexcept

    ctypedef enum fe_rule:
        FE_SGD
        FE_ADAGRAD
        FE_ROWWISE_ADAGRAD
        FE_ADAM
        FE_SPARSE_ADAM

    ctypedef struct fe_step:
        double lr

    ctypedef enum fe_storage:
        FE_AS_DTYPE
        FE_F16
        FE_BF16

    ctypedef struct fe_lazy_table:
        fe_rule rule
        fe_table table
        fe_storage storage
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

    void fe_apply_pending(const fe_lazy_table *lazy, const int64_t *rows, int64_t n_rows) noexcept
    void fe_apply_step(const fe_lazy_table *lazy, const fe_step *now, bint is_recorded, const fe_batch *batch) noexcept
    void fe_add_rows(const fe_table *sums, const fe_batch *batch) noexcept
    void fe_sort_rows(int64_t *rows, int64_t n, int64_t n_rows, int64_t *sorted, int32_t *order, int32_t *scratch) noexcept
    void fe_hash_rows(const uint64_t *ids, int64_t n_ids, uint32_t seed, uint32_t n_rows, int64_t *rows) noexcept
    void fe_norm_rows(const fe_table *rows, const fe_table *grads, bint is_layer, double eps) noexcept
    void fe_dropout(const fe_table *rows, double p, uint64_t seed, uint64_t call) noexcept
    void fe_dots(const fe_table *table, const fe_batch *batch, char *dots) noexcept
    void fe_products(const fe_table *rows, const fe_table *queries, char *products, char *squares) noexcept
    void fe_sum_powers(const fe_table *rows, double p, double *sums) noexcept

    const char *fe_isa_available(int32_t k) noexcept
    bint fe_select_isa(const char *isa) noexcept
    const char *fe_isa() noexcept
    const char *fe_compiler() noexcept
    int32_t fe_get_num_threads() noexcept
    void fe_set_num_threads(int32_t n) noexcept
