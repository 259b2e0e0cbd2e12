/* Sorting rows: a radix sort from the lowest bits on, which is stable. */
#include <string.h>

#include "fastembed.h"

enum { RADIX_BITS = 11, N_BUCKETS = 1 << RADIX_BITS };

/* An insertion sort. */
static void sort_few(const int64_t *rows, int64_t n, int64_t *sorted, int32_t *order)
{
    for (int64_t i = 0; i < n; i++) {
        const int64_t row = rows[i];
        int64_t k = i;
        for (; k > 0 && sorted[k - 1] > row; k--) {
            sorted[k] = sorted[k - 1];
            order[k] = order[k - 1];
        }
        sorted[k] = row;
        order[k] = (int32_t)i;
    }
}

/* A counting sort by RADIX_BITS bits. order NULL: 0, 1, ... */
static void sort_pass(const int64_t *rows, const int32_t *order, int64_t n, int shift, int64_t *to_rows, int32_t *to_order)
{
    int64_t next[N_BUCKETS] = {0}, sum = 0;
    for (int64_t i = 0; i < n; i++)
        next[rows[i] >> shift & (N_BUCKETS - 1)]++;
    for (int b = 0; b < N_BUCKETS; b++) {
        const int64_t count = next[b];
        next[b] = sum;
        sum += count;
    }
    for (int64_t i = 0; i < n; i++) {
        const int64_t to = next[rows[i] >> shift & (N_BUCKETS - 1)]++;
        to_rows[to] = rows[i];
        to_order[to] = order == NULL ? (int32_t)i : order[i];
    }
}

void fe_sort_rows(int64_t *rows, int64_t n, int64_t n_rows, int64_t *sorted, int32_t *order, int32_t *scratch)
{
    enum { FEW = 64 }; /* up to here the buckets of one pass take longer */
    if (n <= FEW) {
        sort_few(rows, n, sorted, order);
        return;
    }
    int n_passes = 1;
    while (n_passes * RADIX_BITS < 63 && n_rows > (int64_t)1 << n_passes * RADIX_BITS)
        n_passes++;
    sort_pass(rows, NULL, n, 0, sorted, order);
    for (int pass = 1; pass < n_passes; pass++)
        if (pass % 2 == 1)
            sort_pass(sorted, order, n, pass * RADIX_BITS, rows, scratch);
        else
            sort_pass(rows, scratch, n, pass * RADIX_BITS, sorted, order);
    if (n_passes % 2 == 0) {
        memcpy(sorted, rows, (size_t)n * sizeof *sorted);
        memcpy(order, scratch, (size_t)n * sizeof *order);
    }
}
