/* A reader of a shared table (src_c/shared.c) beside a writer, in every order of their steps in
 * which the writer goes on at most twice while the reader waits. The writer runs once, and its
 * memory is kept after each step: to go on is to put a later state in place. */
#include <stdio.h>
#include <stdlib.h>

#include "shared_steps.h"

enum { N_ROWS = 2, N_COLS = 2, ROW_SIZE = N_COLS * 8, N_PUBLICATIONS = 3, MOST_STEPS = 256, N_SWITCHES = 2 };

typedef struct {
    uint64_t sequence, replaced;
    int64_t journal_size, position, journal_rows[N_ROWS];
    uint32_t versions[N_ROWS];
    double journal[N_ROWS * N_COLS], rows[N_ROWS * N_COLS];
} memory;

static memory now, states[MOST_STEPS];
static int n_states, n_points;
static bool is_writing;
static struct {
    int point, state;
} switches[N_SWITCHES];

static void at_point(void)
{
    if (is_writing) {
        if (n_states == MOST_STEPS)
            abort();
        states[n_states++] = now;
        return;
    }
    for (int k = 0; k < N_SWITCHES; k++)
        if (switches[k].point == n_points)
            now = states[switches[k].state];
    n_points++;
}

static double number_of(int64_t row, int publication)
{
    return publication * N_ROWS + (double)row;
}

static void set_rows(double *rows, int publication)
{
    for (int i = 0; i < N_ROWS * N_COLS; i++)
        rows[i] = number_of(i / N_COLS, publication);
}

/* All states of the memory while publications are written, the last of one row alone. */
static void write_all(fe_table *table)
{
    double source_rows[N_ROWS * N_COLS];
    const fe_table source = {
        .data = (char *)source_rows, .n_rows = N_ROWS, .n_cols = N_COLS, .row_stride = ROW_SIZE, .dtype = FE_F64};
    const int64_t both[] = {0, 1};
    memset(&now, 0, sizeof now);
    set_rows(now.rows, 0);
    n_states = 0;
    is_writing = true;
    at_point();
    for (int publication = 1; publication <= N_PUBLICATIONS; publication++) {
        set_rows(source_rows, publication);
        publish_in_steps(table, &source, publication == N_PUBLICATIONS ? both + 1 : both, publication == N_PUBLICATIONS ? 1 : 2);
    }
    is_writing = false;
}

static void require(bool is_right, const char *what, int first)
{
    if (is_right)
        return;
    fprintf(stderr, "%s: the writer at %d; at points %d and %d at %d and %d\n", what, first, switches[0].point, switches[1].point,
            switches[0].state, switches[1].state);
    exit(1);
}

/* Which publication each row is of. */
static void look_up(const fe_table *table, int first, int *found)
{
    static const int64_t ROWS[N_ROWS] = {1, 0};
    double out[N_ROWS * N_COLS];
    require(gather_in_steps(table, ROWS, ROW_SIZE, (fe_run){(char *)out, N_ROWS, ROW_SIZE}, copy_rows_in_steps).code == FE_OK, "status",
            first);
    for (int i = 0; i < N_ROWS; i++) {
        require(out[i * N_COLS] == out[i * N_COLS + 1], "a torn row", first);
        found[ROWS[i]] = (int)(out[i * N_COLS] - (double)ROWS[i]) / N_ROWS;
    }
}

static void read_both(const fe_table *table, int first)
{
    double out[N_ROWS * N_COLS], expected[N_ROWS * N_COLS];
    if (!read_at_once_in_steps(table, NULL, N_ROWS, (char *)out))
        return;
    const int publication = (int)(out[N_ROWS * N_COLS - 1] - (N_ROWS - 1)) / N_ROWS;
    set_rows(expected, publication);
    if (publication == N_PUBLICATIONS)
        expected[0] = expected[1] = number_of(0, publication - 1);
    require(memcmp(out, expected, sizeof out) == 0, "rows of two moments", first);
}

/* One order of steps; how many points the reader passed. */
static int run(const fe_table *table, bool is_at_once, int first)
{
    now = states[first];
    n_points = 0;
    if (is_at_once) {
        read_both(table, first);
        return n_points;
    }
    int found[N_ROWS], later[N_ROWS];
    look_up(table, first, found);
    const int passed = n_points;
    look_up(table, first, later);
    for (int r = 0; r < N_ROWS; r++)
        require(later[r] >= found[r], "an older row", first);
    return passed;
}

int main(void)
{
    long n_runs = 0;
    for (int mode = 0; mode < 3; mode++) { /* look-ups with one version and with two; both rows at once */
        uint64_t shown = 0;
        fe_shared shared = {
            .sequence = &now.sequence,
            .replaced = &now.replaced,
            .versions = now.versions,
            .version_mask = mode & 1,
            .journal_size = &now.journal_size,
            .journal_rows = now.journal_rows,
            .journal = (char *)now.journal,
            .position = &now.position,
            .shown = &shown,
        };
        fe_table table = {.data = (char *)now.rows, .n_rows = N_ROWS, .n_cols = N_COLS, .row_stride = ROW_SIZE, .dtype = FE_F64};
        table.shared = &shared;
        write_all(&table);
        for (int first = 0; first < n_states; first++)
            for (switches[0].state = first; switches[0].state < n_states; switches[0].state++)
                for (switches[1].state = switches[0].state; switches[1].state < n_states; switches[1].state++)
                    for (switches[0].point = 0, n_points = 1; switches[0].point < n_points; switches[0].point++)
                        for (switches[1].point = switches[0].point + 1; switches[1].point <= n_points; switches[1].point++) {
                            n_points = run(&table, mode == 2, first);
                            n_runs++;
                        }
    }
    printf("%ld orders\n", n_runs);
    return 0;
}
