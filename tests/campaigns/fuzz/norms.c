/* fe_costs, fe_sum_powers, fe_norm_rows, fe_dropout and fe_hash_rows: the widest instruction set
 * and the baseline give the same bits; sums are those of 16 parts. */
#include "input.h"

static double part_sum(const char *a, const char *b, int64_t n, fe_dtype dtype, fe_dtype arithmetic)
{
    double parts[16] = {0};
    for (int64_t d = 0; d < n; d++) {
        const int64_t unit = (int64_t)size_of(dtype);
        const double product = get(a + d * unit, dtype) * get(b + d * unit, dtype);
        const bool is_f32 = arithmetic == FE_F32;
        const double sum = parts[d % 16] + (is_f32 ? (double)(float)product : product);
        parts[d % 16] = is_f32 ? (double)(float)sum : sum;
    }
    for (int width = 8; width > 0; width /= 2)
        for (int j = 0; j < width; j++) {
            const double sum = parts[j] + parts[j + width];
            parts[j] = arithmetic == FE_F32 ? (double)(float)sum : sum;
        }
    return parts[0];
}

/* What fe_costs finds of a row: its square, and the cost for a query whose product with it is given. */
static double square_of(const char *row, int64_t n, fe_dtype dtype, const fe_metric *metric)
{
    const double square = part_sum(row, row, n, dtype, dtype);
    if (square >= metric->smallest && square <= metric->largest)
        return square;
    for (int64_t d = 0; d < n; d++)
        if (!(get(row + d * (int64_t)size_of(dtype), dtype) == 0))
            return NAN;
    return square;
}

static double cost_of(double product, double square, fe_dtype dtype, fe_metric_kind kind)
{
    if (isnan(square))
        return NAN;
    if (kind == FE_L2)
        return dtype == FE_F32 ? (float)product + (float)square : product + square;
    if (kind == FE_DOT)
        return product;
    if (square == 0)
        return product * 0;
    return dtype == FE_F32 ? (float)product * (1 / sqrtf((float)square)) : product * (1 / sqrt(square));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input in = {data, size, .n_blocks = 0};
    choose_kernels(&in);
    const fe_dtype dtype = (fe_dtype)pick(&in, FE_F32, FE_F64);
    const int64_t n_rows = pick(&in, 0, 6), n_queries = pick(&in, 0, 5), unit = (int64_t)size_of(dtype);
    const int64_t n_cols = pick(&in, 0, 1) ? pick(&in, 0, 9) : pick(&in, 10, 140);
    const bool is_any = pick(&in, 0, 1), is_layer = pick(&in, 0, 1);
    fe_table rows = {.n_rows = n_rows, .n_cols = n_cols, .row_stride = n_cols * unit, .dtype = dtype}, queries = rows;
    queries.n_rows = n_queries;
    rows.data = memory(&in, (size_t)(n_rows * n_cols * unit), 0);
    queries.data = memory(&in, (size_t)(n_queries * n_cols * unit), 0);
    fill(&in, rows.data, n_rows * n_cols, dtype, is_any);
    fill(&in, queries.data, n_queries * n_cols, dtype, is_any);
    char *costs = memory(&in, (size_t)(n_rows * n_queries * unit), 0), *squares = memory(&in, (size_t)(n_rows * unit), 0);
    double *sums = (double *)memory(&in, (size_t)n_rows * 8, 0);
    const fe_metric metric = {(fe_metric_kind)pick(&in, FE_DOT, FE_L2), pick(&in, 0, 3) / 4.0, pick(&in, 0, 1) ? 1e9 : INFINITY};
    fe_costs(&rows, &queries, &metric, costs, squares);
    fe_sum_powers(&rows, 2, sums);
    for (int64_t i = 0; i < n_rows; i++) {
        char expected[8];
        const double of_row = square_of(row_of(&rows, i), n_cols, dtype, &metric);
        put(expected, dtype, of_row);
        REQUIRE(same(squares + i * unit, expected, dtype));
        const double square = part_sum(row_of(&rows, i), row_of(&rows, i), n_cols, dtype, FE_F64);
        REQUIRE(sums[i] == square || (isnan(sums[i]) && isnan(square)));
        for (int64_t q = 0; q < n_queries; q++) {
            const double product = part_sum(row_of(&rows, i), row_of(&queries, q), n_cols, dtype, dtype);
            put(expected, dtype, cost_of(product, of_row, dtype, metric.kind));
            REQUIRE(get(costs + (q * n_rows + i) * unit, dtype) == get(expected, dtype) ||
                    same(costs + (q * n_rows + i) * unit, expected, dtype));
        }
    }
    static const double POWERS[] = {1, INFINITY, 3, 0.5};
    fe_sum_powers(&rows, POWERS[pick(&in, 0, 3)], sums);

    const uint64_t seed = (uint64_t)pick(&in, 0, 9);
    fe_table other = copied(&in, &rows), grads = table_of(&in, dtype, n_rows, n_cols, true, false);
    const fe_table other_grads = copied(&in, &grads);
    const bool with_grads = pick(&in, 0, 1);
    fe_norm_rows(&rows, with_grads ? &grads : NULL, is_layer, 1e-5);
    fe_dropout(&rows, 0.4, seed, 3);
    choose_kernels(&in);
    fe_norm_rows(&other, with_grads ? &other_grads : NULL, is_layer, 1e-5);
    fe_dropout(&other, 0.4, seed, 3);
    require_same_tables(&rows, &other);
    require_same_tables(&grads, &other_grads);

    uint64_t keys[5];
    int64_t hashes[20];
    take(&in, keys, sizeof keys);
    const uint32_t n_hashed = (uint32_t)pick(&in, 1, 60000);
    fe_hash_rows(keys, 5, (uint32_t)seed, n_hashed, hashes);
    for (int k = 0; k < 20; k++)
        REQUIRE(hashes[k] >= 0 && hashes[k] < n_hashed);
    free_all(&in);
    return 0;
}
