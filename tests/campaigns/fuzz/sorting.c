/* fe_sort_rows, fe_add_rows and fe_dots against plain loops. */
#include "input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input in = {data, size, .n_blocks = 0};
    choose_kernels(&in);
    static const int64_t SIZES[] = {1, 7, 2048, 2049, 1 << 22, (1 << 22) + 1, INT64_C(1) << 33, INT64_C(1) << 44};
    const int64_t n = pick(&in, 0, 7) < 7 ? pick(&in, 0, 70) : pick(&in, 0, 600), n_rows = SIZES[pick(&in, 0, 7)];
    int64_t *rows = (int64_t *)memory(&in, (size_t)n * 8, 0), *before = (int64_t *)memory(&in, (size_t)n * 8, 0);
    int64_t *sorted = (int64_t *)memory(&in, (size_t)n * 8, 0);
    int32_t *order = (int32_t *)memory(&in, (size_t)n * 4, 0), *scratch = (int32_t *)memory(&in, (size_t)n * 4, 0);
    for (int64_t i = 0; i < n; i++) {
        uint64_t x = 0;
        take(&in, &x, pick(&in, 0, 3) ? 1 : 6);
        before[i] = rows[i] = (int64_t)(x % (uint64_t)n_rows);
    }
    fe_sort_rows(rows, n, n_rows, sorted, order, scratch);
    for (int64_t i = 0; i < n; i++) {
        REQUIRE(order[i] >= 0 && order[i] < n && sorted[i] == before[order[i]]);
        REQUIRE(i == 0 || sorted[i - 1] < sorted[i] || (sorted[i - 1] == sorted[i] && order[i - 1] < order[i]));
    }

    const fe_dtype dtype = (fe_dtype)pick(&in, FE_F32, FE_F64);
    const int64_t n_cols = pick(&in, 0, 40), unit = (int64_t)size_of(dtype), n_sums = 8;
    const fe_table sums = table_of(&in, dtype, n_sums, n_cols, true, false), like = copied(&in, &sums);
    const int64_t stride = n_cols * unit + pick(&in, 0, 3);
    fe_array grads;
    fe_array_init(&grads, memory(&in, n > 0 ? (size_t)(stride * (n - 1) + n_cols * unit) : 0, 1), 1, &n, &stride);
    grads.dtype = dtype;
    double *factors = (double *)memory(&in, (size_t)n * 8, 0);
    for (int64_t i = 0; i < n; i++) {
        sorted[i] = i * n_sums / (n + 1);
        factors[i] = (double)pick(&in, -8, 8) / 4;
        fill(&in, item_of(&grads, i), n_cols, dtype, false);
    }
    fe_batch batch = {sorted, pick(&in, 0, 1) ? order : NULL, pick(&in, 0, 1) ? factors : NULL, pick(&in, 0, 1), n, &grads};
    fe_add_rows(&sums, &batch);
    int64_t counts[8] = {0};
    for (int64_t i = 0; i < n; i++)
        counts[sorted[i]]++;
    for (int64_t i = 0; i < n; i++) {
        const char *gradient = item_of(&grads, batch.order != NULL ? order[i] : i);
        for (int64_t d = 0; d < n_cols; d++) {
            char *at = row_of(&like, sorted[i]) + d * unit, term[8];
            double x = get(gradient + d * unit, dtype);
            put(term, dtype, batch.factors != NULL ? x * factors[i] : x);
            if (batch.by_frequency)
                put(term, dtype, get(term, dtype) / (double)counts[sorted[i]]);
            put(at, dtype, get(at, dtype) + get(term, dtype));
        }
    }
    require_same_tables(&sums, &like);

    char *dots = memory(&in, (size_t)(n * unit), 0);
    batch.order = order;
    batch.factors = NULL;
    batch.by_frequency = false;
    for (int64_t i = 0; i < n; i++)
        if (pick(&in, 0, 7) == 0)
            sorted[i] = -1;
    fe_dots(&sums, &batch, dots);
    for (int64_t i = 0; i < n; i++)
        REQUIRE(sorted[i] >= 0 || get(dots + i * unit, dtype) == 0);
    free_all(&in);
    return 0;
}
