/* fe_apply_step and fe_apply_pending: every instruction set gives the same bits; a row that takes
 * its steps late gets what it gets from taking each at once. */
#include "input.h"

enum { MOST_STEPS = 12 };

static fe_step step_of(input *in, fe_rule rule, int number)
{
    static const double RATES[] = {0, 1e-3, 0.1, 1, 1e30}, EPS[] = {1e-38, 1e-10, 1e-3};
    fe_step step = {.lr = RATES[pick(in, 0, 4)], .beta2 = 1, .correction = 1, .eps = 1, .number = number};
    step.beta1 = rule == FE_SGD || rule == FE_ADAM ? (double)pick(in, 0, 9) / 10 : 0;
    step.alpha1 = rule == FE_SPARSE_ADAM || rule == FE_SGD ? (double)pick(in, 1, 10) / 10 : rule == FE_ADAM ? 1 - step.beta1 : 0;
    if (rule == FE_ADAM)
        step.beta2 = (double)pick(in, 0, 999) / 1000;
    step.alpha2 = rule == FE_ADAM ? 1 - step.beta2 : rule == FE_SPARSE_ADAM ? (double)pick(in, 1, 10) / 10 : 0;
    step.correction = rule == FE_ADAM ? (double)pick(in, 10, 40) / 10 : 1;
    step.eps = rule == FE_SGD ? 1 : EPS[pick(in, 0, 2)];
    step.l2 = rule != FE_SPARSE_ADAM && pick(in, 0, 3) == 0 ? 0.1 : 0;
    step.decay = step.l2 == 0 && (rule == FE_ADAM || rule == FE_ROWWISE_ADAGRAD) && pick(in, 0, 3) == 0 ? 0.01 : 0;
    step.nesterov = rule == FE_SGD && step.beta1 != 0 ? (double)pick(in, 0, 1) : 0;
    return step;
}

/* As the optimisers say which steps are recorded: other rows than the batch's stay as they are. */
static bool moves_without_gradient(fe_rule rule, const fe_step *step)
{
    return rule == FE_ADAM || (rule == FE_SGD && step->beta1 != 0) || ((rule == FE_SGD || rule == FE_ADAGRAD) && step->l2 != 0);
}

static fe_lazy_table lazy_of(input *in, fe_rule rule, fe_dtype dtype, int64_t n_rows, int64_t n_cols, fe_step *steps)
{
    fe_lazy_table lazy = {.rule = rule, .steps = steps};
    lazy.table = table_of(in, dtype, n_rows, n_cols, true, pick(in, 0, 3) == 0);
    for (int k = 0; k < 2; k++) {
        lazy.state[k] = table_of(in, dtype, n_rows, rule == FE_ROWWISE_ADAGRAD ? 1 : n_cols, true, false);
        for (int64_t i = 0; i < n_rows; i++) /* second moments and sums of squares are not negative */
            for (int64_t d = 0; d < lazy.state[k].n_cols; d++) {
                char *at = row_of(&lazy.state[k], i) + d * (int64_t)size_of(dtype);
                put(at, dtype, fabs(get(at, dtype)));
            }
    }
    lazy.n_applied = (int32_t *)memory(in, (size_t)n_rows * 4, 0);
    return lazy;
}

static fe_lazy_table copy_of(input *in, const fe_lazy_table *lazy, fe_step *steps)
{
    fe_lazy_table copy = *lazy;
    copy.table = copied(in, &lazy->table);
    for (int k = 0; k < 2; k++)
        copy.state[k] = copied(in, &lazy->state[k]);
    copy.n_applied = (int32_t *)memory(in, (size_t)lazy->table.n_rows * 4, 0);
    copy.steps = steps;
    return copy;
}

static void take_step(fe_lazy_table *lazy, const fe_step *now, bool is_recorded, const fe_batch *batch, bool at_once)
{
    fe_apply_step(lazy, now, is_recorded, batch);
    if (is_recorded)
        lazy->steps[lazy->n_steps++] = *now;
    if (at_once)
        fe_apply_pending(lazy, NULL, 0);
}

static void require_same_state(const fe_lazy_table *a, const fe_lazy_table *b)
{
    require_same_tables(&a->table, &b->table);
    for (int k = 0; k < 2; k++)
        require_same_tables(&a->state[k], &b->state[k]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input in = {data, size, .n_blocks = 0};
    const fe_dtype dtype = (fe_dtype)pick(&in, FE_F32, FE_F64);
    const fe_rule rule = (fe_rule)pick(&in, 0, FE_N_RULES - 1);
    const int64_t n_rows = pick(&in, 1, 5), n_cols = pick(&in, 0, 1) ? pick(&in, 0, 9) : pick(&in, 10, 70);
    fe_step late_steps[MOST_STEPS], early_steps[MOST_STEPS];
    fe_lazy_table late = lazy_of(&in, rule, dtype, n_rows, n_cols, late_steps);
    fe_lazy_table early = copy_of(&in, &late, early_steps);
    const int n_steps = (int)pick(&in, 1, MOST_STEPS);
    for (int t = 1; t <= n_steps; t++) {
        const fe_step now = step_of(&in, rule, t);
        const bool is_recorded = moves_without_gradient(rule, &now);
        const int64_t n = pick(&in, 0, 4), stride = n_cols * (int64_t)size_of(dtype);
        int64_t rows[4];
        fe_array grads;
        char gradients[4 * 70 * 8];
        fe_array_init(&grads, gradients, 1, &n, &stride);
        grads.dtype = dtype;
        for (int64_t i = 0; i < n; i++)
            rows[i] = i == 0 ? pick(&in, 0, n_rows - 1) : pick(&in, rows[i - 1], n_rows - 1);
        fill(&in, gradients, n * n_cols, dtype, false);
        const fe_batch batch = {rows, NULL, NULL, false, n, &grads};
        choose_kernels(&in);
        take_step(&late, &now, is_recorded, &batch, false);
        choose_kernels(&in);
        take_step(&early, &now, is_recorded, &batch, true);
    }
    fe_apply_pending(&late, NULL, 0);
    require_same_state(&late, &early);
    free_all(&in);
    return 0;
}
