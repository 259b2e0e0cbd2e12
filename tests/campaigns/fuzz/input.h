/* What all harnesses share: values from the fuzzer's bytes, arrays that end where their memory
 * does, and comparisons that abort. */
#ifndef FUZZ_INPUT_H
#define FUZZ_INPUT_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fastembed.h"

#define REQUIRE(condition) ((condition) ? (void)0 : failed(__FILE__, __LINE__, #condition))

static inline void failed(const char *file, int line, const char *condition)
{
    fprintf(stderr, "%s:%d: %s\n", file, line, condition);
    abort();
}

enum { MOST_BLOCKS = 64 };

/* The bytes that are left, and the memory to free at the end. */
typedef struct {
    const uint8_t *data;
    size_t size;
    void *blocks[MOST_BLOCKS];
    int n_blocks;
} input;

static inline void take(input *in, void *to, size_t n)
{
    const size_t there = n < in->size ? n : in->size;
    memset(to, 0, n);
    if (there > 0)
        memcpy(to, in->data, there);
    in->data += there;
    in->size -= there;
}

static inline uint8_t take_byte(input *in)
{
    if (in->size == 0)
        return 0;
    in->size--;
    return *in->data++;
}

/* An integer from low to high. */
static inline int64_t pick(input *in, int64_t low, int64_t high)
{
    uint32_t x = take_byte(in);
    if (high - low >= 256)
        x |= (uint32_t)take_byte(in) << 8;
    return low + x % (uint32_t)(high - low + 1);
}

/* Memory of exactly n bytes, with `offset` bytes before them. */
static inline char *memory(input *in, size_t n, size_t offset)
{
    char *block = malloc(n + offset > 0 ? n + offset : 1);
    REQUIRE(block != NULL && in->n_blocks < MOST_BLOCKS);
    in->blocks[in->n_blocks++] = block;
    memset(block, 0, n + offset);
    return block + offset;
}

static inline void free_all(input *in)
{
    for (int k = 0; k < in->n_blocks; k++)
        free(in->blocks[k]);
}

static inline size_t size_of(fe_dtype dtype)
{
    return dtype == FE_F64 ? 8 : 4;
}

/* Copies of constant sizes here: the compiler makes moves of them, and calls of all others. */
static inline void put(char *to, fe_dtype dtype, double x)
{
    const float narrow = (float)x;
    if (dtype == FE_F64)
        memcpy(to, &x, 8);
    else
        memcpy(to, &narrow, 4);
}

static inline double get(const char *from, fe_dtype dtype)
{
    double wide;
    float narrow;
    if (dtype == FE_F64)
        memcpy(&wide, from, 8);
    else
        memcpy(&narrow, from, 4);
    return dtype == FE_F64 ? wide : narrow;
}

/* Elements: small integers, or bits of any kind; zeros when no bytes are left. */
static inline void fill(input *in, char *to, int64_t n, fe_dtype dtype, bool is_any)
{
    memset(to, 0, (size_t)n * size_of(dtype));
    for (int64_t i = 0; i < n && in->size > 0; i++) {
        if (is_any)
            take(in, to + i * size_of(dtype), size_of(dtype));
        else
            put(to + i * size_of(dtype), dtype, (int8_t)take_byte(in) / 4.0);
    }
}

/* A table whose last row ends where its memory does; unaligned if it may be, and only read. */
static inline fe_table table_of(input *in, fe_dtype dtype, int64_t n_rows, int64_t n_cols, bool is_written, bool is_any)
{
    const int64_t unit = is_written ? (int64_t)size_of(dtype) : 1, width = n_cols * (int64_t)size_of(dtype);
    const int64_t stride = width + unit * pick(in, 0, 3);
    const size_t size = n_rows > 0 ? (size_t)(stride * (n_rows - 1) + width) : 0;
    fe_table table = {.n_rows = n_rows, .n_cols = n_cols, .row_stride = stride, .dtype = dtype};
    table.data = memory(in, size, is_written ? 0 : (size_t)pick(in, 0, 8));
    for (int64_t i = 0; i < n_rows; i++)
        fill(in, table.data + i * stride, n_cols, dtype, is_any);
    if (n_rows > 1 && pick(in, 0, 3) == 0) { /* from the last row to the first */
        table.data += (n_rows - 1) * stride;
        table.row_stride = -stride;
    }
    return table;
}

static inline char *row_of(const fe_table *table, int64_t row)
{
    return table->data + row * table->row_stride;
}

/* A copy of a table in memory of its own, of the same layout. */
static inline fe_table copied(input *in, const fe_table *table)
{
    const int64_t width = table->n_cols * (int64_t)size_of(table->dtype), stride = llabs(table->row_stride);
    fe_table copy = *table;
    copy.row_stride = stride;
    copy.data = memory(in, table->n_rows > 0 ? (size_t)(stride * (table->n_rows - 1) + width) : 0, 0);
    for (int64_t i = 0; i < table->n_rows; i++)
        memcpy(row_of(&copy, i), row_of(table, i), (size_t)width);
    return copy;
}

/* Whether two elements have the same bits, or are both NaN. */
static inline bool same(const char *a, const char *b, fe_dtype dtype)
{
    const bool are_equal = dtype == FE_F64 ? memcmp(a, b, 8) == 0 : memcmp(a, b, 4) == 0;
    return are_equal || (isnan(get(a, dtype)) && isnan(get(b, dtype)));
}

static inline void require_same_rows(const char *a, const char *b, int64_t n, fe_dtype dtype)
{
    for (int64_t d = 0; d < n; d++)
        REQUIRE(same(a + d * (int64_t)size_of(dtype), b + d * (int64_t)size_of(dtype), dtype));
}

static inline void require_same_tables(const fe_table *a, const fe_table *b)
{
    for (int64_t i = 0; i < a->n_rows; i++)
        require_same_rows(row_of(a, i), row_of(b, i), a->n_cols, a->dtype);
}

/* Items in up to four axes of any strides, of which no two overlap if they are written; the memory
 * ends where the last item does. Few items mostly, and now and then more than a block. */
static inline fe_array array_of(input *in, int64_t *n_items, size_t item_size, size_t unit, bool is_written)
{
    int64_t shape[4], strides[4], span = (int64_t)item_size, back = 0;
    const int n_dims = (int)pick(in, 0, 4), first = (int)pick(in, 0, 3), most = pick(in, 0, 31) == 31 ? 6 : 3;
    *n_items = 1;
    for (int k = 0; k < n_dims; k++)
        *n_items *= shape[k] = pick(in, 0, most);
    for (int k = 0; k < n_dims; k++) { /* from one axis on, each beyond the span of those before */
        const int axis = (k + first) % n_dims;
        const bool is_broadcast = !is_written && pick(in, 0, 7) == 0;
        const int64_t stride = is_broadcast ? 0 : span + (int64_t)unit * pick(in, 0, 2);
        const int64_t extent = shape[axis] > 0 ? stride * (shape[axis] - 1) : 0;
        span += extent;
        strides[axis] = pick(in, 0, 3) == 0 ? -stride : stride;
        back += strides[axis] < 0 ? extent : 0;
    }
    fe_array array;
    char *data = memory(in, *n_items > 0 ? (size_t)span : 0, is_written ? 0 : (size_t)pick(in, 0, 8));
    fe_array_init(&array, *n_items > 0 ? data + back : data, n_dims, shape, strides);
    REQUIRE(array.n_items == *n_items);
    return array;
}

/* Where item i of an array is. */
static inline char *item_of(const fe_array *array, int64_t i)
{
    char *at = array->data;
    for (int k = array->n_dims - 1; k >= 0; k--) {
        at += i % array->shape[k] * array->strides[k];
        i /= array->shape[k];
    }
    return at;
}

static const size_t ID_SIZES[] = {1, 1, 2, 2, 4, 4, 8, 8};

/* The value of an id in its 64 bits. */
static inline int64_t id_at(const fe_ids *ids, int64_t i)
{
    if (ids->type == FE_ARANGE)
        return ids->start + i % ids->period;
    const size_t size = ID_SIZES[ids->type];
    unsigned char bytes[8] = {0};
    const char *from = item_of(&ids->array, i);
    for (size_t k = 0; k < size; k++)
        bytes[k] = (unsigned char)from[ids->swapped ? size - 1 - k : k];
    uint64_t x;
    memcpy(&x, bytes, 8);
    const bool is_signed = ids->type % 2 == 0;
    if (is_signed && size < 8 && x >> (8 * size - 1) & 1)
        x |= ~UINT64_C(0) << 8 * size;
    return (int64_t)x;
}

static inline bool is_unsigned_64(const fe_ids *ids)
{
    return ids->type == FE_U64;
}

/* n ids, most of them of a table of n_rows rows. */
static inline fe_ids ids_of(input *in, int64_t *n, int64_t n_rows)
{
    fe_ids ids = {.type = (fe_id_type)pick(in, FE_I8, FE_U64), .swapped = pick(in, 0, 3) == 0};
    const size_t size = ID_SIZES[ids.type];
    ids.array = array_of(in, n, size, 1, true);
    for (int64_t i = 0; i < *n; i++) {
        uint64_t x = n_rows > 0 ? (uint64_t)pick(in, 0, n_rows - 1) : 0;
        if (pick(in, 0, 15) == 0)
            take(in, &x, 8);
        for (size_t k = 0; k < size; k++)
            item_of(&ids.array, i)[ids.swapped ? size - 1 - k : k] = (char)(x >> 8 * k);
    }
    return ids;
}

/* The row that an id means, -1 for none, -2 for an error. */
static inline int64_t resolved(const fe_ids *ids, int64_t i, int64_t n_rows, fe_bounds bounds)
{
    const int64_t id = id_at(ids, i);
    const bool is_huge = is_unsigned_64(ids) && id < 0;
    if (!is_huge && id >= 0 && id < n_rows)
        return id;
    if (bounds == FE_ZERO)
        return -1;
    if (bounds == FE_RAISE || n_rows == 0)
        return -2;
    if (bounds == FE_CLIP)
        return !is_huge && id < 0 ? 0 : n_rows - 1;
    return is_huge ? (int64_t)((uint64_t)id % (uint64_t)n_rows) : ((id % n_rows) + n_rows) % n_rows;
}

/* What each id means, as `resolved`; `first_bad` is that of the first error, n if there is none. */
static inline int64_t *all_resolved(input *in, const fe_ids *ids, int64_t n, int64_t n_rows, fe_bounds bounds, int64_t *first_bad)
{
    int64_t *rows = (int64_t *)memory(in, (size_t)n * 8, 0);
    *first_bad = n;
    for (int64_t i = n - 1; i >= 0; i--) {
        rows[i] = resolved(ids, i, n_rows, bounds);
        *first_bad = rows[i] == -2 ? i : *first_bad;
    }
    return rows;
}

/* Chooses an instruction set and a number of threads. */
static inline void choose_kernels(input *in)
{
    int n = 0;
    while (fe_isa_available(n) != NULL)
        n++;
    REQUIRE(fe_select_isa(fe_isa_available((int32_t)pick(in, 0, n - 1))));
    fe_set_num_threads((int32_t)pick(in, 1, 3));
}
#endif
