/* fe_scatter_add and fe_gather_add_backward against plain loops. */
#include "input.h"

static void add(const fe_table *table, int64_t row, const char *values)
{
    const int64_t unit = (int64_t)size_of(table->dtype);
    for (int64_t d = 0; d < table->n_cols && row >= 0; d++) {
        char *at = row_of(table, row) + d * unit;
        put(at, table->dtype, get(at, table->dtype) + get(values + d * unit, table->dtype));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input in = {data, size, .n_blocks = 0};
    choose_kernels(&in);
    const fe_dtype dtype = (fe_dtype)pick(&in, FE_F32, FE_F64);
    const fe_bounds bounds = (fe_bounds)pick(&in, FE_RAISE, FE_ZERO);
    const int64_t n_cols = pick(&in, 0, 1) ? pick(&in, 0, 9) : pick(&in, 10, 70), unit = (int64_t)size_of(dtype);
    const bool with_positions = pick(&in, 0, 1);
    const fe_table dwte = table_of(&in, dtype, pick(&in, 0, 9), n_cols, true, true);
    const fe_table dwpe = table_of(&in, dtype, pick(&in, 0, 9), n_cols, true, true);
    const fe_table like_wte = copied(&in, &dwte), like_wpe = copied(&in, &dwpe);
    int64_t n, n_values;
    const fe_ids token_ids = ids_of(&in, &n, dwte.n_rows);
    fe_ids position_ids = {.type = FE_ARANGE, .start = pick(&in, -2, 4), .period = pick(&in, 1, 9)};
    position_ids.array.n_items = n;
    fe_array values = array_of(&in, &n_values, (size_t)(n_cols * unit), 1, false);
    if (n_values != n) { /* broadcast one item to all */
        const int64_t stride = 0;
        fe_array_init(&values, memory(&in, (size_t)(n_cols * unit), 3), 1, &n, &stride);
    }
    values.dtype = dtype;
    for (int64_t i = 0; i < n; i++)
        fill(&in, item_of(&values, i), n_cols, dtype, false);

    const fe_status status = with_positions ? fe_gather_add_backward(&values, &dwte, &token_ids, &dwpe, &position_ids, bounds)
                                            : fe_scatter_add(&dwte, &token_ids, bounds, &values);
    int64_t bad_token, bad_position;
    const int64_t *rows = all_resolved(&in, &token_ids, n, dwte.n_rows, bounds, &bad_token);
    const int64_t *positions = all_resolved(&in, &position_ids, n, dwpe.n_rows, bounds, &bad_position);
    const bool are_valid = bad_token == n && (!with_positions || bad_position == n);
    REQUIRE(status.code == (are_valid ? FE_OK : FE_BAD_ID));
    for (int64_t i = 0; i < n && are_valid; i++) {
        add(&like_wte, rows[i], item_of(&values, i));
        if (with_positions)
            add(&like_wpe, positions[i], item_of(&values, i));
    }
    require_same_tables(&dwte, &like_wte); /* nothing is written on an error */
    require_same_tables(&dwpe, &like_wpe);
    free_all(&in);
    return 0;
}
