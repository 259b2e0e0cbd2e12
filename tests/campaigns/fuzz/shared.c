/* A reader of a shared table beside a writer (src_c/shared.c). The writer publishes once, and its
 * memory is kept after each of its steps; the input says at which steps of the reader it goes on, and
 * how far. As readers write nothing, that is any order of the steps of the two. Rows that are read
 * are whole, of no older publication than those before, and those of one moment of one. */
#include "input.h"

#include "../../kernels/shared_steps.h"

enum { MOST_ROWS = 8, MOST_COLS = 5, MOST_PUBLICATIONS = 8, MOST_STEPS = MOST_PUBLICATIONS * (10 * MOST_ROWS + 5) + 1 };

/* What the processes share. Row r as of publication p has p * MOST_ROWS + r in all columns. */
typedef struct {
    uint64_t sequence, replaced;
    int64_t journal_size, position, journal_rows[MOST_ROWS];
    uint32_t versions[MOST_ROWS];
    char journal[MOST_ROWS * MOST_COLS * 8], rows[MOST_ROWS * MOST_COLS * 8];
} shared_memory;

static shared_memory now, states[MOST_STEPS];
static int n_states, state;
static bool is_writing;
static input *schedule;
static uint8_t published[MOST_PUBLICATIONS + 1]; /* bit r: whether the publication has row r */

static void at_point(void)
{
    if (is_writing) {
        REQUIRE(n_states < MOST_STEPS);
        states[n_states++] = now;
        return;
    }
    const int steps = take_byte(schedule) - 191; /* in three of four cases none */
    if (steps > 0) {
        state = state + steps < n_states ? state + steps : n_states - 1;
        now = states[state];
    }
}

/* How many publications have ended, and how many have begun. */
static int64_t n_ended(void)
{
    return (int64_t)(now.sequence / NEXT);
}

static int64_t n_begun(void)
{
    return (int64_t)((now.sequence + PHASE) / NEXT);
}

/* The last publication of a row up to one of all. */
static int64_t last_of_row(int64_t row, int64_t publication)
{
    while (publication > 0 && !(published[publication] >> row & 1))
        publication--;
    return publication;
}

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
    REQUIRE(found % MOST_ROWS == 0 && last_of_row(row, found / MOST_ROWS) == found / MOST_ROWS);
    return found / MOST_ROWS;
}

static void publish(const fe_table *table, int64_t n_publications)
{
    char rows_of_source[MOST_ROWS * MOST_COLS * 8];
    fe_table source = *table;
    source.data = rows_of_source;
    for (int64_t r = 0; r < table->n_rows; r++) {
        write_row(table, r, 0);
        write_row(&source, r, 0);
    }
    n_states = 0;
    is_writing = true;
    at_point();
    for (int64_t p = 1; p <= n_publications; p++) {
        int64_t rows[2 * MOST_ROWS], n = 0;
        for (int64_t r = 0; r < table->n_rows; r++)
            if (published[p] >> r & 1) {
                write_row(&source, r, p);
                rows[n++] = r;
                if (p % 2 == 0) /* rows may recur, and -1 is none */
                    rows[n++] = r % 2 == 0 ? r : -1;
            }
        publish_in_steps(table, &source, rows, n);
    }
    is_writing = false;
    REQUIRE(n_ended() == n_publications && now.sequence % NEXT == 0);
    require_same_tables(table, &source);
}

static void look_up(const fe_table *table, input *in, int64_t *last)
{
    const int64_t n = pick(in, 1, MOST_ROWS), width = table->row_stride, ended_before = n_ended();
    int64_t ids[MOST_ROWS];
    char out[MOST_ROWS * MOST_COLS * 8];
    for (int64_t i = 0; i < n; i++)
        ids[i] = pick(in, 0, 15) == 15 ? -1 : pick(in, 0, table->n_rows - 1);
    REQUIRE(gather_in_steps(table, ids, width, (fe_run){out, n, width}, copy_rows_in_steps).code == FE_OK);
    for (int64_t i = 0; i < n; i++) {
        if (ids[i] < 0)
            continue;
        const int64_t found = publication_of(out + i * width, table, ids[i]);
        REQUIRE(found >= last_of_row(ids[i], ended_before) && found <= n_begun());
        REQUIRE(found >= last[ids[i]]);
    }
    for (int64_t i = 0; i < n; i++)
        if (ids[i] >= 0) {
            const int64_t found = publication_of(out + i * width, table, ids[i]);
            last[ids[i]] = found > last[ids[i]] ? found : last[ids[i]];
        }
}

static void read_at_once(const fe_table *table, input *in, int64_t *last)
{
    const int64_t width = table->row_stride, ended_before = n_ended();
    const bool are_all = pick(in, 0, 1) == 0;
    const int64_t n = are_all ? table->n_rows : pick(in, 1, MOST_ROWS);
    const int state_before = state;
    int64_t ids[MOST_ROWS];
    char out[MOST_ROWS * MOST_COLS * 8];
    for (int64_t i = 0; i < n; i++)
        ids[i] = are_all ? i : pick(in, 0, table->n_rows - 1);
    if (!read_at_once_in_steps(table, are_all ? NULL : ids, n, out)) {
        REQUIRE(state != state_before);
        return;
    }
    int64_t moment = 0;
    for (int64_t i = 0; i < n; i++) {
        const int64_t found = publication_of(out + i * width, table, ids[i]);
        moment = found > moment ? found : moment;
    }
    moment = moment > ended_before ? moment : ended_before;
    REQUIRE(moment <= n_begun());
    for (int64_t i = 0; i < n; i++) {
        const int64_t found = publication_of(out + i * width, table, ids[i]);
        REQUIRE(found == last_of_row(ids[i], moment) && found >= last[ids[i]]);
        last[ids[i]] = found;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input in = {data, size, .n_blocks = 0};
    const fe_dtype dtype = (fe_dtype)pick(&in, FE_F32, FE_F64);
    const int64_t n_rows = pick(&in, 1, MOST_ROWS), n_cols = pick(&in, 1, MOST_COLS), n_publications = pick(&in, 1, MOST_PUBLICATIONS);
    uint64_t shown = 0;
    fe_shared shared = {
        .sequence = &now.sequence,
        .replaced = &now.replaced,
        .versions = now.versions,
        .version_mask = (INT64_C(1) << pick(&in, 0, 3)) - 1,
        .journal_size = &now.journal_size,
        .journal_rows = now.journal_rows,
        .journal = now.journal,
        .position = &now.position,
        .shown = &shown,
    };
    fe_table table = {.data = now.rows, .n_rows = n_rows, .n_cols = n_cols, .dtype = dtype, .shared = &shared};
    table.row_stride = n_cols * (int64_t)size_of(dtype);
    take(&in, published + 1, (size_t)n_publications);
    memset(&now, 0, sizeof now);
    publish(&table, n_publications);

    schedule = &in;
    state = (int)pick(&in, 0, n_states - 1);
    now = states[state];
    int64_t last[MOST_ROWS] = {0};
    for (int calls = 0; calls < 2 || in.size > 0; calls++)
        if (pick(&in, 0, 2) > 0)
            look_up(&table, &in, last);
        else
            read_at_once(&table, &in, last);
    return 0;
}
