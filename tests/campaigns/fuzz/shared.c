/* fe_publish_rows beside fe_gather and fe_read_at_once, in threads: rows that are read are whole and
 * never older than those read before, and those of one moment are of one publication. */
#include "input.h"

#include <pthread.h>

#include "shared.h"

enum { MOST_ROWS = 24, FEW_PUBLICATIONS = 40, MOST_PUBLICATIONS = 400, MOST_COLS = 70 };

/* What the threads share. Row r as of publication p has p * MOST_ROWS + r in all columns. */
typedef struct {
    fe_table table, source;
    int64_t n_publications;
    uint32_t published[MOST_PUBLICATIONS]; /* bit r: whether it has row r; as 8 before */
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

static void publish(scene *s)
{
    for (int64_t p = 1; p < s->n_publications; p++) {
        int64_t rows[MOST_ROWS], n = 0;
        for (int64_t r = 0; r < s->table.n_rows; r++)
            if (s->published[p] >> r & 1) {
                write_row(&s->source, r, p);
                rows[n++] = r;
            }
        fe_publish_rows(&s->table, &s->source, rows, n);
    }
}

static void look_up(scene *s)
{
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
    for (int64_t k = 0; k < s->n_publications; k++) { /* as often as the writer writes */
        REQUIRE(fe_gather(&s->table, &given, FE_RAISE, &rows, false, NULL).code == FE_OK);
        for (int64_t i = 0; i < n; i++) {
            const int64_t found = publication_of(out + i * width, &s->table, ids[i]);
            REQUIRE(found >= last[ids[i]] && (found == 0 || s->published[found] >> ids[i] & 1));
            last[ids[i]] = found;
        }
    }
}

static void read_at_once(scene *s)
{
    const int64_t width = s->table.n_cols * (int64_t)size_of(s->table.dtype);
    char out[MOST_ROWS * MOST_COLS * 8];
    for (int64_t k = 0; k < s->n_publications; k++) {
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
}

/* The readers: threads that are started once, since starting them for each input took most of the
 * time, and that wait for the next scene. */
static void (*const READERS[])(scene *) = {look_up, read_at_once, look_up};
enum { N_READERS = sizeof READERS / sizeof *READERS };
static pthread_barrier_t scene_begins, scene_ends;
static scene *current;

static void *read_scenes(void *reader)
{
    for (;;) {
        pthread_barrier_wait(&scene_begins);
        (*(void (*const *)(scene *))reader)(current);
        pthread_barrier_wait(&scene_ends);
    }
    return NULL;
}

static void start_readers(void)
{
    REQUIRE(pthread_barrier_init(&scene_begins, NULL, N_READERS + 1) == 0);
    REQUIRE(pthread_barrier_init(&scene_ends, NULL, N_READERS + 1) == 0);
    for (int k = 0; k < N_READERS; k++) {
        pthread_t thread;
        REQUIRE(pthread_create(&thread, NULL, read_scenes, (void *)&READERS[k]) == 0);
    }
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
    scene s = {.n_publications = pick(&in, 1, pick(&in, 0, 7) == 0 ? MOST_PUBLICATIONS : FEW_PUBLICATIONS)};
    s.table = s.source = (fe_table){.n_rows = n_rows, .n_cols = n_cols, .row_stride = width, .dtype = dtype};
    s.table.data = memory(&in, (size_t)(n_rows * width), 0);
    s.table.shared = &shared;
    s.source.data = memory(&in, (size_t)(n_rows * width), 0);
    for (int64_t r = 0; r < n_rows; r++) {
        write_row(&s.table, r, 0);
        write_row(&s.source, r, 0);
    }
    for (int64_t p = 1; p < s.n_publications; p++)
        if (p <= 8)
            take(&in, &s.published[p], 4);
        else
            s.published[p] = s.published[p - 8];

    if (current == NULL)
        start_readers();
    current = &s;
    pthread_barrier_wait(&scene_begins);
    publish(&s);
    pthread_barrier_wait(&scene_ends);
    REQUIRE(*shared.sequence % 4 == 0);
    for (int64_t r = 0; r < n_rows; r++)
        require_same_rows(row_of(&s.table, r), row_of(&s.source, r), n_cols, dtype);
    free_all(&in);
    return 0;
}
