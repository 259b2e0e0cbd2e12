/* The entry points: check every id, cut the items into blocks, and hand each block to a kernel. */
#include "fastembed.h"

#include <stdlib.h>

#include "array.h"
#include "dispatch.h"
#include "ids.h"

static const int64_t item_size[FE_N_DTYPES] = {[FE_F32] = sizeof(float), [FE_F64] = sizeof(double)};


static fe_status of_operand(fe_status status, int32_t operand)
{
    status.operand = operand;
    return status;
}

fe_status fe_gather(const fe_table *table, const fe_ids *ids, fe_bounds bounds, const fe_array *out)
{
    const fe_kernels *kernels = fe_dispatch();
    const int64_t row_size = table->n_cols * item_size[table->dtype];
    int64_t rows[FE_BLOCK];
    fe_status status = fe_resolve_ids(ids, table->n_rows, bounds, NULL);
    for (int64_t first = 0; status.code == FE_OK && first < out->n_items;) {
        const fe_run out_run = fe_array_run(out, first, FE_BLOCK);
        status = fe_ids_read(ids, first, out_run.n_items, table->n_rows, bounds, rows);
        if (status.code == FE_OK)
            kernels->gather(table, rows, row_size, out_run);
        first += out_run.n_items;
    }
    return status;
}

fe_status fe_gather_add(const fe_table *wte, const fe_ids *token_ids, const fe_table *wpe, const fe_ids *position_ids, fe_bounds bounds,
                        const fe_array *out)
{
    const fe_kernels *kernels = fe_dispatch();
    int64_t token_rows[FE_BLOCK], position_rows[FE_BLOCK];
    fe_status status = fe_resolve_ids(token_ids, wte->n_rows, bounds, NULL);
    if (status.code == FE_OK)
        status = of_operand(fe_resolve_ids(position_ids, wpe->n_rows, bounds, NULL), 1);
    for (int64_t first = 0; status.code == FE_OK && first < out->n_items;) {
        const fe_run out_run = fe_array_run(out, first, FE_BLOCK);
        status = fe_ids_read(token_ids, first, out_run.n_items, wte->n_rows, bounds, token_rows);
        if (status.code == FE_OK)
            status = of_operand(fe_ids_read(position_ids, first, out_run.n_items, wpe->n_rows, bounds, position_rows), 1);
        if (status.code == FE_OK)
            kernels->gather_add[wte->dtype](wte, token_rows, wpe, position_rows, out_run);
        first += out_run.n_items;
    }
    return status;
}

static void scatter_resolved(const fe_table *table, const int64_t *rows, const fe_array *values)
{
    const fe_kernels *kernels = fe_dispatch();
    for (int64_t first = 0; first < values->n_items;) {
        const fe_run run = fe_array_run(values, first, values->n_items - first);
        kernels->scatter_add[table->dtype](table, rows + first, run);
        first += run.n_items;
    }
}

/* Room for all ids of n_operands, resolved; NULL when there is none to be had. */
static int64_t *id_workspace(int64_t n_ids, int64_t n_operands)
{
    const size_t limit = SIZE_MAX / sizeof(int64_t) / (size_t)n_operands;
    if ((uint64_t)n_ids > limit)
        return NULL;
    return malloc((size_t)(n_ids > 0 ? n_ids : 1) * (size_t)n_operands * sizeof(int64_t));
}

fe_status fe_scatter_add(const fe_table *table, const fe_ids *ids, fe_bounds bounds, const fe_array *values)
{
    int64_t *rows = id_workspace(ids->array.n_items, 1);
    if (rows == NULL)
        return (fe_status){.code = FE_NO_MEMORY};
    const fe_status status = fe_resolve_ids(ids, table->n_rows, bounds, rows);
    if (status.code == FE_OK)
        scatter_resolved(table, rows, values);
    free(rows);
    return status;
}

fe_status fe_gather_add_backward(const fe_array *dout, const fe_table *dwte, const fe_ids *token_ids, const fe_table *dwpe,
                                 const fe_ids *position_ids, fe_bounds bounds)
{
    const int64_t n_ids = token_ids->array.n_items;
    int64_t *token_rows = id_workspace(n_ids, 2);
    if (token_rows == NULL)
        return (fe_status){.code = FE_NO_MEMORY};
    int64_t *position_rows = token_rows + n_ids;
    fe_status status = fe_resolve_ids(token_ids, dwte->n_rows, bounds, token_rows);
    if (status.code == FE_OK)
        status = of_operand(fe_resolve_ids(position_ids, dwpe->n_rows, bounds, position_rows), 1);
    if (status.code == FE_OK) {
        scatter_resolved(dwte, token_rows, dout);
        scatter_resolved(dwpe, position_rows, dout);
    }
    free(token_rows);
    return status;
}
