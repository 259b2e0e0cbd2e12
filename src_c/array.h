/* Walking an fe_array: where item i lies, and how many items follow it at one stride. */
#ifndef FE_ARRAY_H
#define FE_ARRAY_H

#include "fastembed.h"

/* n_items items at data, data + stride, ... */
typedef struct {
    char *data;
    int64_t n_items, stride;
} fe_run;

/* The run that begins at item `first` (0 <= first < array->n_items), at most max_items long. */
static inline fe_run fe_array_run(const fe_array *array, int64_t first, int64_t max_items)
{
    const int32_t last = array->n_dims - 1;
    int64_t outer = last == 0 ? 0 : first / array->shape[last]; /* no division for a single axis */
    const int64_t inner = first - outer * array->shape[last];
    fe_run run = {array->data + inner * array->strides[last], array->shape[last] - inner, array->strides[last]};
    for (int32_t k = last - 1; outer > 0; k--) {
        run.data += outer % array->shape[k] * array->strides[k];
        outer /= array->shape[k];
    }
    if (run.n_items > max_items)
        run.n_items = max_items;
    return run;
}

#endif
