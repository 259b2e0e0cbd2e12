/* src_c/shared.c in steps: each atomic access, and each half of a copy, is one. Its functions have
 * other names here, so that the library can be linked beside them. */
#ifndef SHARED_STEPS_H
#define SHARED_STEPS_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Called between two steps. */
static void at_point(void);

static void copy_in_steps(void *to, const void *from, size_t n)
{
    at_point();
    memcpy(to, from, n / 2);
    at_point();
    memcpy((char *)to + n / 2, (const char *)from + n / 2, n - n / 2);
    at_point();
}

#define __atomic_load_n(pointer, order) (at_point(), __atomic_load_n(pointer, order))
#define __atomic_store_n(pointer, value, order) (__atomic_store_n(pointer, value, order), at_point())
#define memcpy copy_in_steps
#define fe_publish_rows publish_in_steps
#define fe_read_at_once read_at_once_in_steps
#define fe_gather_shared gather_in_steps
#define fe_is_replaced is_replaced_in_steps
#define fe_set_replaced set_replaced_in_steps
#include "shared.c"
#undef memcpy

/* A kernel of gathers, for gather_in_steps. */
static void copy_rows_in_steps(const fe_table *table, const int64_t *rows, int64_t row_size, fe_run out)
{
    for (int64_t i = 0; i < out.n_items; i++)
        if (rows[i] >= 0)
            copy_in_steps(out.data + i * out.stride, fe_row(table, rows[i]), (size_t)row_size);
}
#endif
