#include "array.h"

void fe_array_init(fe_array *array, char *data, int32_t n_dims, const int64_t *shape, const int64_t *strides)
{
    int32_t n = 0;
    array->data = data;
    array->n_items = 1;
    for (int32_t k = 0; k < n_dims; k++)
        array->n_items *= shape[k];
    /* the strides of an empty array may be anything */
    for (int32_t k = 0; k < n_dims && array->n_items > 0; k++) {
        if (shape[k] == 1)
            continue;
        if (n > 0 && array->strides[n - 1] == shape[k] * strides[k]) {
            array->shape[n - 1] *= shape[k];
            array->strides[n - 1] = strides[k];
        } else {
            array->shape[n] = shape[k];
            array->strides[n] = strides[k];
            n++;
        }
    }
    if (n == 0) {
        array->shape[0] = 1;
        array->strides[0] = 0;
        n = 1;
    }
    array->n_dims = n;
}
