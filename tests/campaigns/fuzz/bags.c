/* fe_embedding_bag, winners of maxima too, against a plain loop. */
#include "input.h"

static double larger(double x, double y)
{
    return x > y ? x : y;
}

static double rounded(double x, fe_dtype dtype)
{
    return dtype == FE_F64 ? x : (float)x;
}

/* The elements of one bag, and how many of its items have a row. */
static int64_t expected_bag(const fe_table *table, const int64_t *rows, const fe_bags *bags, int64_t b, int64_t d, double *x)
{
    const int64_t unit = (int64_t)size_of(table->dtype);
    int64_t n_kept = 0;
    *x = 0;
    for (int64_t i = bags->offsets[b]; i < bags->offsets[b + 1]; i++) {
        const int64_t row = rows[i];
        if (row < 0 || row == bags->padding_row)
            continue;
        double y = get(row_of(table, row) + d * unit, table->dtype);
        if (bags->factors != NULL)
            y = rounded(y * get(bags->factors + i * unit, table->dtype), table->dtype);
        if (bags->mode == FE_BAG_MAX)
            *x = n_kept == 0 ? y : larger(y, *x);
        else
            *x = rounded(*x + y, table->dtype);
        n_kept++;
    }
    return n_kept;
}

static void check_bags(const fe_table *table, const int64_t *rows, const fe_bags *bags, const char *out)
{
    const int64_t unit = (int64_t)size_of(table->dtype);
    for (int64_t b = 0; b < bags->n_bags; b++)
        for (int64_t d = 0; d < table->n_cols; d++) {
            double x;
            char expected[8];
            const int64_t n_kept = expected_bag(table, rows, bags, b, d, &x);
            if (n_kept > 0 && bags->mode == FE_BAG_MEAN)
                x /= (double)n_kept;
            if (n_kept > 0 && bags->mode == FE_BAG_SQRTN)
                x /= rounded(sqrt((double)n_kept), table->dtype);
            put(expected, table->dtype, x);
            REQUIRE(same(out + (b * table->n_cols + d) * unit, expected, table->dtype));
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input in = {data, size, .n_blocks = 0};
    choose_kernels(&in);
    const fe_dtype dtype = (fe_dtype)pick(&in, FE_F32, FE_F64);
    const fe_bounds bounds = (fe_bounds)pick(&in, FE_RAISE, FE_ZERO);
    const int64_t n_cols = pick(&in, 0, 1) ? pick(&in, 0, 9) : pick(&in, 10, 140), unit = (int64_t)size_of(dtype);
    const fe_table table = table_of(&in, dtype, pick(&in, 0, 9), n_cols, false, false);
    int64_t n;
    const fe_ids ids = ids_of(&in, &n, table.n_rows);
    fe_bags bags = {.n_bags = pick(&in, 0, 6), .mode = (fe_bag_mode)pick(&in, FE_BAG_SUM, FE_BAG_MAX)};
    bags.padding_row = pick(&in, -1, table.n_rows - 1);
    int64_t *offsets = (int64_t *)memory(&in, (size_t)(bags.n_bags + 1) * 8, 0);
    for (int64_t b = 1; b <= bags.n_bags; b++)
        offsets[b] = pick(&in, offsets[b - 1], n);
    bags.offsets = offsets;
    if (bags.mode != FE_BAG_MAX && pick(&in, 0, 1)) {
        char *factors = memory(&in, (size_t)(n * unit), 0);
        fill(&in, factors, n, dtype, false);
        bags.factors = factors;
    }
    char *data_out = memory(&in, (size_t)(bags.n_bags * n_cols * unit), 0);
    const int64_t stride = n_cols * unit;
    fe_array out;
    fe_array_init(&out, data_out, 1, &bags.n_bags, &stride);
    out.dtype = dtype;
    int64_t first_bad;
    const int64_t *rows = all_resolved(&in, &ids, n, table.n_rows, bounds, &first_bad);
    const bool is_valid = first_bad == n;

    const bool is_new = pick(&in, 0, 1);
    REQUIRE((fe_embedding_bag(&table, &ids, bounds, &bags, &out, NULL, is_new, NULL).code == FE_OK) == is_valid);
    if (is_valid)
        check_bags(&table, rows, &bags, data_out);
    if (is_valid && bags.mode == FE_BAG_MAX) {
        int64_t *winners = (int64_t *)memory(&in, (size_t)(bags.n_bags * n_cols) * 8, 0);
        memset(winners, 0xFF, (size_t)(bags.n_bags * n_cols) * 8);
        REQUIRE(fe_embedding_bag(&table, &ids, bounds, &bags, &out, winners, false, NULL).code == FE_OK);
        for (int64_t k = 0; k < bags.n_bags * n_cols; k++) {
            const int64_t b = k / n_cols, winner = winners[k];
            REQUIRE(winner == -1 || (winner >= offsets[b] && winner < offsets[b + 1]));
            if (winner >= 0)
                REQUIRE(get(row_of(&table, rows[winner]) + k % n_cols * unit, dtype) == get(data_out + k * unit, dtype));
        }
    }
    free_all(&in);
    return 0;
}
