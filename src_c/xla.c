/* The custom calls of XLA: arguments become structs, an entry point is called. A result is a new
 * array, which XLA drops on an error. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "huge.h"
#include "kernels/kernels.h"
#include "xla_call.h"

/* ---- memory, and what several calls share ---- */

/* Memory for n items of `size` bytes; records an error and returns NULL if there is none. */
static void *allocate(fe_xla_frame *frame, int64_t n, int64_t size)
{
    void *memory = (uint64_t)n > SIZE_MAX / 2 / (size_t)size ? NULL : malloc((size_t)(n > 0 ? n : 1) * (size_t)size);
    if (memory == NULL)
        fe_xla_fail(frame, FE_XLA_RESOURCE_EXHAUSTED, "no memory for %" PRId64 " numbers of %" PRId64 " bytes", n, size);
    return memory;
}

static fe_bounds bounds_of(fe_xla_frame *frame)
{
    return (fe_bounds)fe_xla_attr(frame, "bounds");
}

/* Rows side by side, as an array of items. */
static fe_array rows_of(const fe_table *table)
{
    fe_array array;
    fe_array_init(&array, table->data, 1, &table->n_rows, &table->row_stride);
    array.dtype = table->dtype;
    return array;
}

/* rows[i] = the row of each id; -1 for none, which the padding row is too. */
static bool resolve(fe_xla_frame *frame, const fe_xla_buffer *buffer, int64_t n_rows, int64_t *rows)
{
    fe_ids ids;
    const int64_t padding = fe_xla_attr(frame, "padding");
    const fe_bounds bounds = bounds_of(frame);
    if (!fe_xla_ids(frame, buffer, &ids) ||
        !fe_xla_check(frame, fe_resolve_ids(&ids, n_rows, bounds, rows, NULL), buffer, n_rows))
        return false;
    for (int64_t i = 0; i < ids.array.n_items && padding >= 0; i++)
        if (rows[i] == padding)
            rows[i] = -1;
    return true;
}

/* ---- bags ---- */

/* Whether offsets begin at 0, do not decrease, and lie within n_ids ids. */
static bool check_offsets(fe_xla_frame *frame, const fe_xla_buffer *buffer, int64_t n_ids, int64_t *offsets)
{
    fe_ids c_offsets;
    if (!fe_xla_ids(frame, buffer, &c_offsets))
        return false;
    const int64_t n = c_offsets.array.n_items;
    const fe_status status = fe_resolve_ids(&c_offsets, n_ids + 1, FE_RAISE, offsets, NULL);
    if (status.code != FE_OK)
        return fe_xla_fail(frame, FE_XLA_INVALID_ARGUMENT,
                           "offsets must lie within the %" PRId64 " ids, got %" PRId64 " at position %" PRId64, n_ids, status.id,
                           status.index);
    if (n > 0 ? offsets[0] != 0 : n_ids > 0)
        return fe_xla_fail(frame, FE_XLA_INVALID_ARGUMENT, "offsets must start at 0, got %" PRId64, n > 0 ? offsets[0] : n_ids);
    for (int64_t b = 1; b < n; b++)
        if (offsets[b] < offsets[b - 1])
            return fe_xla_fail(frame, FE_XLA_INVALID_ARGUMENT,
                               "offsets must not decrease, got %" PRId64 " at position %" PRId64 " after %" PRId64, offsets[b], b,
                               offsets[b - 1]);
    return true;
}

/* Where each bag begins, and where the last one ends, in new memory: by an array of offsets, or
 * without one by the last axis of the ids. NULL on an error. */
static int64_t *offsets_of(fe_xla_frame *frame, const fe_xla_buffer *ids, const fe_xla_buffer *buffer, int64_t *n_bags)
{
    const int64_t n_ids = fe_xla_n_items(ids, ids->n_dims);
    *n_bags = buffer != NULL ? fe_xla_n_items(buffer, buffer->n_dims) : fe_xla_n_items(ids, ids->n_dims - 1);
    int64_t *offsets = allocate(frame, *n_bags + 1, sizeof *offsets);
    if (offsets == NULL)
        return NULL;
    for (int64_t b = 0; b < *n_bags && buffer == NULL; b++)
        offsets[b] = b * ids->dims[ids->n_dims - 1];
    offsets[*n_bags] = n_ids;
    if (buffer == NULL || check_offsets(frame, buffer, n_ids, offsets))
        return offsets;
    free(offsets);
    return NULL;
}

/* Bags of the ids, or with `winners` the items that have the maxima in `out`. */
static void run_bags(fe_xla_frame *frame, const fe_xla_buffer *offsets, const fe_xla_buffer *out, int64_t *winners)
{
    const fe_xla_buffer *id_buffer = fe_xla_arg(frame, 1);
    fe_table table, c_out;
    fe_ids ids;
    fe_bags bags = {.mode = (fe_bag_mode)fe_xla_attr(frame, "mode"), .padding_row = fe_xla_attr(frame, "padding")};
    const fe_bounds bounds = bounds_of(frame);
    if (!fe_xla_floats(frame, fe_xla_arg(frame, 0), &table) || !fe_xla_ids(frame, id_buffer, &ids) ||
        !fe_xla_floats(frame, out, &c_out))
        return;
    int64_t *c_offsets = offsets_of(frame, id_buffer, offsets, &bags.n_bags);
    if (c_offsets == NULL)
        return;
    bags.offsets = c_offsets;
    const fe_array rows = rows_of(&c_out);
    fe_xla_check(frame, fe_embedding_bag(&table, &ids, bounds, &bags, &rows, winners, false, NULL), id_buffer, table.n_rows);
    free(c_offsets);
}

/* bag(table, ids[, offsets]; bounds, mode, padding) */
static void bag(fe_xla_frame *frame)
{
    run_bags(frame, fe_xla_arg(frame, 2), fe_xla_result(frame), NULL);
}

/* winners(table, ids, maxima[, offsets]; bounds, mode, padding): the first item that has each
 * maximum, as int32; -1 for none */
static void winners(fe_xla_frame *frame)
{
    const fe_xla_buffer *maxima = fe_xla_arg(frame, 2), *result = fe_xla_result(frame);
    const int64_t n = fe_xla_n_items(maxima, maxima->n_dims);
    int64_t *items = allocate(frame, n, sizeof *items);
    if (items == NULL)
        return;
    memset(items, -1, (size_t)n * sizeof *items);
    run_bags(frame, fe_xla_arg(frame, 3), maxima, items);
    for (int64_t i = 0; i < n; i++)
        ((int32_t *)result->data)[i] = (int32_t)items[i];
    free(items);
}

/* ---- look-ups ---- */

/* take(table, ids; bounds) */
static void take(fe_xla_frame *frame)
{
    const fe_xla_buffer *id_buffer = fe_xla_arg(frame, 1);
    fe_table table, out;
    fe_ids ids;
    const fe_bounds bounds = bounds_of(frame);
    if (!fe_xla_bytes(frame, fe_xla_arg(frame, 0), &table) || !fe_xla_ids(frame, id_buffer, &ids) ||
        !fe_xla_bytes(frame, fe_xla_result(frame), &out))
        return;
    const fe_array rows = rows_of(&out);
    fe_advise_huge(out.data, out.n_rows * out.row_stride);
    fe_xla_check(frame, fe_gather(&table, &ids, bounds, &rows, true, NULL), id_buffer, table.n_rows);
}

/* rows(ids; bounds, padding, n_rows): the row of each id, as int32; -1 for none */
static void rows(fe_xla_frame *frame)
{
    const fe_xla_buffer *ids = fe_xla_arg(frame, 0);
    const int64_t n = fe_xla_n_items(ids, ids->n_dims);
    int64_t *resolved = allocate(frame, n, sizeof *resolved);
    if (resolved == NULL)
        return;
    if (resolve(frame, ids, fe_xla_attr(frame, "n_rows"), resolved))
        for (int64_t i = 0; i < n; i++)
            ((int32_t *)fe_xla_result(frame)->data)[i] = (int32_t)resolved[i];
    free(resolved);
}

/* ---- gradients ---- */

/* What is kept of each id while gradients are summed. */
typedef struct {
    int64_t *rows, *sorted;
    int32_t *order, *bags, *scratch;
} id_numbers;

enum { SIZE_OF_NUMBERS = 2 * sizeof(int64_t) + 3 * sizeof(int32_t) };

static id_numbers numbers_in(int64_t *memory, int64_t n_ids)
{
    int32_t *shorter = (int32_t *)(memory + 2 * n_ids);
    return (id_numbers){memory, memory + n_ids, shorter, shorter + n_ids, shorter + 2 * n_ids};
}

/* Divides a bag's gradient by the number of its n rows, or by the square root of it. */
static void divide(char *grad, const fe_table *grads, fe_bag_mode mode, int64_t n)
{
    const double divisor = n == 0 || mode == FE_BAG_SUM ? 1 : mode == FE_BAG_MEAN ? (double)n : sqrt((double)n);
    for (int64_t d = 0; d < grads->n_cols && divisor != 1; d++)
        if (grads->dtype == FE_F32)
            ((float *)grad)[d] /= (float)divisor;
        else
            ((double *)grad)[d] /= divisor;
}

/* The gradients of the bags become those of the sums of their rows, and ids.bags the bag of each
 * id. */
static void open_bags(const fe_table *grads, const int64_t *offsets, fe_bag_mode mode, id_numbers ids)
{
    for (int64_t b = 0; b < grads->n_rows; b++) {
        int64_t n_kept = 0;
        for (int64_t i = offsets[b]; i < offsets[b + 1]; i++) {
            n_kept += ids.rows[i] >= 0;
            ids.bags[i] = (int32_t)b;
        }
        divide(fe_row(grads, b), grads, mode, n_kept);
    }
}

/* sums row r = the sum of grads[i], or with `is_in_bags` grads[ids.bags[i]], over the ids of row
 * r */
static void sum_rows(const fe_table *sums, int64_t n_ids, id_numbers ids, bool is_in_bags, const fe_table *grads)
{
    int64_t n_items = 0;
    for (int64_t i = 0; i < n_ids; i++) {
        n_items += ids.rows[i] >= 0;
        if (ids.rows[i] < 0)
            ids.rows[i] = sums->n_rows; /* after all others */
    }
    fe_sort_rows(ids.rows, n_ids, sums->n_rows + 1, ids.sorted, ids.order, ids.scratch);
    for (int64_t i = 0; i < n_items && is_in_bags; i++)
        ids.order[i] = ids.bags[ids.order[i]];
    const fe_array rows = rows_of(grads);
    fe_advise_huge(sums->data, sums->n_rows * sums->row_stride);
    fe_sum_rows(sums, &(fe_batch){.rows = ids.sorted, .order = ids.order, .n_items = n_items, .grads = &rows});
}

/* The same for bags: their gradients are divided in a copy. */
static void sum_rows_of_bags(fe_xla_frame *frame, const fe_table *sums, const fe_xla_buffer *id_buffer, id_numbers ids,
                             const fe_table *grads, fe_bag_mode mode)
{
    int64_t n_bags, *offsets = offsets_of(frame, id_buffer, fe_xla_arg(frame, 2), &n_bags);
    fe_table copy = *grads;
    copy.data = allocate(frame, grads->n_rows, grads->row_stride);
    if (frame->error == NULL && n_bags != grads->n_rows)
        fe_xla_fail(frame, FE_XLA_INVALID_ARGUMENT, "%" PRId64 " gradients, and %" PRId64 " bags", grads->n_rows, n_bags);
    if (frame->error == NULL) {
        memcpy(copy.data, grads->data, (size_t)(grads->n_rows * grads->row_stride));
        open_bags(&copy, offsets, mode, ids);
        sum_rows(sums, fe_xla_n_items(id_buffer, id_buffer->n_dims), ids, true, &copy);
    }
    free(copy.data);
    free(offsets);
}

/* add(grads, ids[, offsets]; bounds, mode, padding): the sum of the gradients of each row; mode -1:
 * one for each id, not for each bag */
static void add(fe_xla_frame *frame)
{
    const fe_xla_buffer *id_buffer = fe_xla_arg(frame, 1);
    const int64_t n_ids = fe_xla_n_items(id_buffer, id_buffer->n_dims), mode = fe_xla_attr(frame, "mode");
    fe_table grads, sums;
    if (!fe_xla_floats(frame, fe_xla_arg(frame, 0), &grads) || !fe_xla_floats(frame, fe_xla_result(frame), &sums))
        return;
    if (n_ids > INT32_MAX) {
        fe_xla_fail(frame, FE_XLA_INVALID_ARGUMENT, "a gradient of at most %d ids, got %" PRId64, INT32_MAX, n_ids);
        return;
    }
    int64_t *memory = allocate(frame, n_ids, SIZE_OF_NUMBERS);
    const id_numbers ids = numbers_in(memory, n_ids);
    if (memory != NULL && resolve(frame, id_buffer, sums.n_rows, ids.rows)) {
        if (mode < 0)
            sum_rows(&sums, n_ids, ids, false, &grads);
        else
            sum_rows_of_bags(frame, &sums, id_buffer, ids, &grads, (fe_bag_mode)mode);
    }
    free(memory);
}

/* ---- the handlers ---- */

#define DEFINE_HANDLER(name, n_args)                                                                                             \
    static fe_xla_error *handle_##name(fe_xla_call *call)                                                                        \
    {                                                                                                                            \
        return fe_xla_handle(call, n_args, name);                                                                                \
    }
DEFINE_HANDLER(take, 2)
DEFINE_HANDLER(bag, 2)
DEFINE_HANDLER(winners, 3)
DEFINE_HANDLER(rows, 1)
DEFINE_HANDLER(add, 2)

void *fe_xla_handler(int32_t k, const char **name)
{
    static const struct {
        const char *name;
        fe_xla_error *(*handle)(fe_xla_call *call);
    } handlers[] = {
        {"take", handle_take}, {"bag", handle_bag}, {"winners", handle_winners}, {"rows", handle_rows}, {"add", handle_add}};
    if (k >= (int32_t)(sizeof handlers / sizeof *handlers))
        return NULL;
    *name = handlers[k].name;
    return (void *)handlers[k].handle;
}
