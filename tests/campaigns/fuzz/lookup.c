/* fe_array_init, fe_resolve_ids, fe_gather, fe_gather_add and fe_gather_add_few against plain loops. */
#include "input.h"

/* Ids, what each of them means, and the first that is an error; n if there is none. */
typedef struct {
    const fe_ids *ids;
    const int64_t *rows;
    int64_t n, bad;
} meaning;

static meaning meaning_of(input *in, const fe_ids *ids, int64_t n, int64_t n_rows, fe_bounds bounds)
{
    meaning of = {.ids = ids, .n = n};
    of.rows = all_resolved(in, ids, n, n_rows, bounds, &of.bad);
    return of;
}

/* Whether the status names the first id that is an error, if there is one. */
static bool check_status(fe_status status, const meaning *of, int32_t operand, bool is_new)
{
    if (of->bad == of->n)
        return true;
    REQUIRE(status.code == FE_BAD_ID && status.operand == operand && status.index >= 0 && status.index < of->n);
    REQUIRE(of->rows[status.index] == -2 && status.id == id_at(of->ids, status.index));
    REQUIRE(is_new || status.index == of->bad);
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input in = {data, size, .n_blocks = 0};
    choose_kernels(&in);
    const fe_dtype dtype = (fe_dtype)pick(&in, FE_F32, FE_F64);
    const fe_bounds bounds = (fe_bounds)pick(&in, FE_RAISE, FE_ZERO);
    const int64_t n_cols = pick(&in, 0, 1) ? pick(&in, 0, 9) : pick(&in, 10, 70), unit = (int64_t)size_of(dtype);
    const bool is_new = pick(&in, 0, 1), with_positions = pick(&in, 0, 1);
    const fe_table wte = table_of(&in, dtype, pick(&in, 0, 9), n_cols, false, true);
    const fe_table wpe = table_of(&in, dtype, pick(&in, 0, 9), n_cols, false, true);
    int64_t n, n_out;
    const fe_ids token_ids = ids_of(&in, &n, wte.n_rows);
    fe_ids position_ids = {.type = FE_ARANGE, .start = pick(&in, -2, 4), .period = pick(&in, 1, 9)};
    position_ids.array.n_items = n;

    const meaning of_tokens = meaning_of(&in, &token_ids, n, wte.n_rows, bounds);
    const meaning of_positions = meaning_of(&in, &position_ids, n, wpe.n_rows, bounds);
    int64_t *rows = (int64_t *)memory(&in, (size_t)n * 8, 0);
    fe_status status = fe_resolve_ids(&token_ids, wte.n_rows, bounds, rows, NULL);
    if (check_status(status, &of_tokens, 0, false))
        REQUIRE(memcmp(rows, of_tokens.rows, (size_t)n * 8) == 0);

    fe_array out = array_of(&in, &n_out, (size_t)(n_cols * unit), (size_t)unit, true);
    if (n_out != n) { /* of the same number of items: one axis */
        const int64_t stride = n_cols * unit;
        fe_array_init(&out, memory(&in, (size_t)(n * stride), 0), 1, &n, &stride);
    }
    out.dtype = dtype;
    status = with_positions ? fe_gather_add(&wte, &token_ids, &wpe, &position_ids, bounds, &out, is_new, NULL)
                            : fe_gather(&wte, &token_ids, bounds, &out, is_new, NULL);
    bool is_valid = true;
    if (status.code == FE_OK || status.operand == 0)
        is_valid = check_status(status, &of_tokens, 0, is_new);
    if (with_positions && is_valid && (status.code == FE_OK || status.operand == 1))
        is_valid = check_status(status, &of_positions, 1, is_new);
    REQUIRE(is_valid == (status.code == FE_OK));
    for (int64_t i = 0; i < n && is_valid; i++) {
        const int64_t row = of_tokens.rows[i], position = with_positions ? of_positions.rows[i] : -1;
        const char *item = item_of(&out, i);
        for (int64_t d = 0; d < n_cols; d++) {
            double x = row < 0 ? 0 : get(row_of(&wte, row) + d * unit, dtype);
            char expected[8];
            if (with_positions)
                x += position < 0 ? 0 : get(row_of(&wpe, position) + d * unit, dtype);
            put(expected, dtype, x);
            REQUIRE(same(item + d * unit, expected, dtype));
        }
    }
    free_all(&in);
    return 0;
}
