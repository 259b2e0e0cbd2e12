/* fe_publish_rows beside fe_gather and fe_read_at_once, in threads: rows that are read are whole and
 * never older than those read before, and those of one moment are of one publication. */
#include "input.h"

#include <pthread.h>

#include "shared.h"

enum { MOST_ROWS = 24, MOST_PUBLICATIONS = 400, MOST_COLS = 70, N_READS = 400 };

/* What the threads share. Row r as of publication p has p * MOST_ROWS + r in all columns. */
typedef struct {
    fe_table table, source;
    int64_t n_publications;
    uint32_t published[MOST_PUBLICATIONS]; /* bit r: whether it has row r; as 8 before */
    pthread_barrier_t start;
} scene;

static void write_row(const fe_table *table, int64_t row, int64_t publication)
{
    for (int64_t d = 0; d < table->n_cols; d++)
        put(row_of(table, row) + d * (int64_t)size_of(table->dtype), table->dtype, (double)(publication * MOST_ROWS + row));
}

/* Of which publication a copy of a row is. */
static int64_t publication_of(const char *copy, const fe_table *table, int64_t row)
{
    const int64_t found = (int64_t)get(copy, table->dtype) - row;
    for (int64_t d = 0; d < table->n_cols; d++)
        REQUIRE((int64_t)get(copy + d * (int64_t)size_of(table->dtype), table->dtype) - row == found);
    REQUIRE(found % MOST_ROWS == 0);
    return found / MOST_ROWS;
}

static void *publish(void *argument)
{
    scene *s = argument;
    pthread_barrier_wait(&s->start);
    for (int64_t p = 1; p < s->n_publications; p++) {
        int64_t rows[MOST_ROWS], n = 0;
        for (int64_t r = 0; r < s->table.n_rows; r++)
            if (s->published[p] >> r & 1) {
                write_row(&s->source, r, p);
                rows[n++] = r;
            }
        fe_publish_rows(&s->table, &s->source, rows, n);
    }
    return NULL;
}

static void *look_up(void *argument)
{
    scene *s = argument;
    pthread_barrier_wait(&s->start);
    const int64_t n = s->table.n_rows, width = s->table.n_cols * (int64_t)size_of(s->table.dtype);
    int64_t ids[MOST_ROWS], last[MOST_ROWS] = {0}, stride = 8;
    char out[MOST_ROWS * MOST_COLS * 8];
    for (int64_t r = 0; r < n; r++)
        ids[r] = (r * 7 + 3) % n;
    fe_ids given = {.type = FE_I64};
    fe_array rows;
    fe_array_init(&given.array, (char *)ids, 1, &n, &stride);
    fe_array_init(&rows, out, 1, &n, &width);
    rows.dtype = s->table.dtype;
    for (int k = 0; k < N_READS; k++) {
        REQUIRE(fe_gather(&s->table, &given, FE_RAISE, &rows, false, NULL).code == FE_OK);
        for (int64_t i = 0; i < n; i++) {
            const int64_t found = publication_of(out + i * width, &s->table, ids[i]);
            REQUIRE(found >= last[ids[i]] && (found == 0 || s->published[found] >> ids[i] & 1));
            last[ids[i]] = found;
        }
    }
    return NULL;
}

static void *read_at_once(void *argument)
{
    scene *s = argument;
    pthread_barrier_wait(&s->start);
    const int64_t width = s->table.n_cols * (int64_t)size_of(s->table.dtype);
    char out[MOST_ROWS * MOST_COLS * 8];
    for (int k = 0; k < N_READS; k++) {
        if (!fe_read_at_once(&s->table, NULL, s->table.n_rows, out))
            continue;
        int64_t found[MOST_ROWS], newest = 0;
        for (int64_t r = 0; r < s->table.n_rows; r++) {
            found[r] = publication_of(out + r * width, &s->table, r);
            newest = found[r] > newest ? found[r] : newest;
        }
        for (int64_t r = 0; r < s->table.n_rows; r++) {
            int64_t expected = newest;
            while (expected > 0 && !(s->published[expected] >> r & 1))
                expected--;
            REQUIRE(found[r] == expected);
        }
    }
    return NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input in = {data, size, .n_blocks = 0};
    choose_kernels(&in);
    const fe_dtype dtype = (fe_dtype)pick(&in, FE_F32, FE_F64);
    const int64_t n_rows = pick(&in, 1, MOST_ROWS), n_cols = pick(&in, 1, MOST_COLS), n_versions = INT64_C(1) << pick(&in, 0, 5);
    const int64_t width = n_cols * (int64_t)size_of(dtype);
    char *numbers = memory(&in, 4 * 8, 0);
    fe_shared shared = {
        .sequence = (uint64_t *)numbers,
        .replaced = (uint64_t *)(numbers + 8),
        .versions = (uint32_t *)memory(&in, (size_t)n_versions * 4, 0),
        .version_mask = n_versions - 1,
        .journal_size = (int64_t *)(numbers + 16),
        .journal_rows = (int64_t *)memory(&in, (size_t)n_rows * 8, 0),
        .journal = memory(&in, (size_t)(n_rows * width), 0),
        .position = (int64_t *)(numbers + 24),
    };
    scene s = {.n_publications = pick(&in, 1, MOST_PUBLICATIONS)};
    s.table = (fe_table){memory(&in, (size_t)(n_rows * width), 0), n_rows, n_cols, width, dtype, .shared = &shared};
    s.source = (fe_table){memory(&in, (size_t)(n_rows * width), 0), n_rows, n_cols, width, dtype};
    for (int64_t r = 0; r < n_rows; r++) {
        write_row(&s.table, r, 0);
        write_row(&s.source, r, 0);
    }
    for (int64_t p = 1; p < s.n_publications; p++)
        if (p <= 8)
            take(&in, &s.published[p], 4);
        else
            s.published[p] = s.published[p - 8];

    REQUIRE(pthread_barrier_init(&s.start, NULL, 4) == 0);
    void *(*const work[])(void *) = {look_up, read_at_once, look_up, publish};
    pthread_t threads[4];
    for (int k = 0; k < 4; k++)
        REQUIRE(pthread_create(&threads[k], NULL, work[k], &s) == 0);
    for (int k = 0; k < 4; k++)
        pthread_join(threads[k], NULL);
    pthread_barrier_destroy(&s.start);
    REQUIRE(*shared.sequence % 4 == 0);
    for (int64_t r = 0; r < n_rows; r++)
        require_same_rows(row_of(&s.table, r), row_of(&s.source, r), n_cols, dtype);
    free_all(&in);
    return 0;
}
