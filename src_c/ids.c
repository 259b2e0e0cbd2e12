#include "ids.h"

#include <string.h>

#include "array.h"
#include "dispatch.h"
#include "ngram.h"
#include "pool.h"

static inline uint8_t swap8(uint8_t x)
{
    return x;
}

static inline uint16_t swap16(uint16_t x)
{
    return (uint16_t)(x << 8 | x >> 8);
}

static inline uint32_t swap32(uint32_t x)
{
    return (uint32_t)swap16((uint16_t)x) << 16 | swap16((uint16_t)(x >> 16));
}

static inline uint64_t swap64(uint64_t x)
{
    return (uint64_t)swap32((uint32_t)x) << 32 | swap32((uint32_t)(x >> 32));
}

/* The row that an id outside 0 <= id < n_rows means. is_negative tells int64 -1 from uint64
 * 2^64 - 1. */
static int64_t resolve_outside(int64_t id, bool is_negative, int64_t n_rows, fe_bounds bounds)
{
    if (bounds == FE_ZERO)
        return -1;
    if (bounds == FE_CLIP)
        return is_negative ? 0 : n_rows - 1;
    if (!is_negative)
        return (int64_t)((uint64_t)id % (uint64_t)n_rows);
    const int64_t remainder = id % n_rows;
    return remainder < 0 ? remainder + n_rows : remainder;
}

/* load_<type>: n_ids of that type, at one stride and any alignment, widened to int64 (uint64 keeps
 * its 64 bits). */
#define DEFINE_LOAD(type, bits)                                                                                                  \
    static void load_##type(const char *data, int64_t stride, bool swapped, int64_t n_ids, int64_t *ids)                         \
    {                                                                                                                            \
        for (int64_t i = 0; i < n_ids; i++) {                                                                                    \
            uint##bits##_t raw;                                                                                                  \
            memcpy(&raw, data + i * stride, sizeof raw);                                                                         \
            ids[i] = (int64_t)(type##_t)(swapped ? swap##bits(raw) : raw);                                                       \
        }                                                                                                                        \
    }
DEFINE_LOAD(int8, 8)
DEFINE_LOAD(uint8, 8)
DEFINE_LOAD(int16, 16)
DEFINE_LOAD(uint16, 16)
DEFINE_LOAD(int32, 32)
DEFINE_LOAD(uint32, 32)
DEFINE_LOAD(int64, 64)
DEFINE_LOAD(uint64, 64)

static void (*const load_run[])(const char *, int64_t, bool, int64_t, int64_t *) = {
    [FE_I8] = load_int8,   [FE_U8] = load_uint8,   [FE_I16] = load_int16, [FE_U16] = load_uint16,
    [FE_I32] = load_int32, [FE_U32] = load_uint32, [FE_I64] = load_int64, [FE_U64] = load_uint64,
};

/* start + i % period for i from `first` on. The first whole period is then copied, doubling what is
 * there each time. */
static void load_arange(const fe_ids *ids, int64_t first, int64_t n_ids, int64_t *loaded)
{
    const int64_t offset = first < ids->period ? first : first % ids->period, to_end = ids->period - offset;
    int64_t n_loaded = n_ids < to_end ? n_ids : to_end;
    fe_dispatch()->count_ids(loaded, n_loaded, ids->start + offset);
    if (n_loaded == n_ids)
        return;
    loaded += n_loaded;
    n_ids -= n_loaded;
    n_loaded = n_ids < ids->period ? n_ids : ids->period;
    fe_dispatch()->count_ids(loaded, n_loaded, ids->start);
    for (int64_t n; n_loaded < n_ids; n_loaded += n) {
        n = n_ids - n_loaded < n_loaded ? n_ids - n_loaded : n_loaded;
        memcpy(loaded + n_loaded, loaded, (size_t)n * sizeof *loaded);
    }
}

/* Loads ids; whether all are in range. */
static bool load(const fe_ids *ids, int64_t first, int64_t n_ids, int64_t n_rows, int64_t *loaded)
{
    const fe_kernels *kernels = fe_dispatch();
    bool in_range = true;
    if (ids->type == FE_ARANGE) {
        load_arange(ids, first, n_ids, loaded);
        if (ids->start >= 0 && ids->start <= n_rows - ids->period)
            return true;
        return kernels->copy_ids(loaded, (const char *)loaded, n_ids, n_rows);
    }
    if (ids->type == FE_NGRAM) {
        fe_ngram_load(ids->ngrams, first, n_ids, loaded);
        return kernels->copy_ids(loaded, (const char *)loaded, n_ids, n_rows);
    }
    while (n_ids > 0) {
        const fe_run run = fe_array_run(&ids->array, first, n_ids);
        const bool is_plain = ids->type == FE_I64 && run.stride == sizeof(int64_t) && !ids->swapped;
        if (!is_plain)
            load_run[ids->type](run.data, run.stride, ids->swapped, run.n_items, loaded);
        in_range &= kernels->copy_ids(loaded, is_plain ? run.data : (const char *)loaded, run.n_items, n_rows);
        first += run.n_items;
        loaded += run.n_items;
        n_ids -= run.n_items;
    }
    return in_range;
}

fe_status fe_ids_read(const fe_ids *ids, int64_t first, int64_t n_ids, int64_t n_rows, fe_bounds bounds, int64_t *rows)
{
    if (load(ids, first, n_ids, n_rows, rows))
        return (fe_status){.code = FE_OK};
    for (int64_t i = 0; i < n_ids; i++) {
        const int64_t id = rows[i];
        if ((uint64_t)id < (uint64_t)n_rows)
            continue;
        if (bounds == FE_RAISE || (n_rows == 0 && bounds != FE_ZERO))
            return (fe_status){.code = FE_BAD_ID, .index = first + i, .id = id};
        rows[i] = resolve_outside(id, id < 0 && ids->type != FE_U64, n_rows, bounds);
    }
    return (fe_status){.code = FE_OK};
}

/* ---- all ids of an array ---- */

typedef struct {
    const fe_ids *ids;
    int64_t n_ids, n_rows;
    fe_bounds bounds;
    int64_t *rows; /* NULL: only check */
} resolve_work;

enum { IDS_PER_PIECE = 64 * FE_BLOCK };

static fe_status resolve_piece(const void *of_job, int64_t piece)
{
    const resolve_work *work = of_job;
    int64_t discarded[FE_BLOCK];
    const fe_range range = fe_piece_items(work->n_ids, IDS_PER_PIECE, piece);
    for (int64_t first = range.first; first < range.end; first += FE_BLOCK) {
        const int64_t n_block = range.end - first < FE_BLOCK ? range.end - first : FE_BLOCK;
        int64_t *rows = work->rows == NULL ? discarded : work->rows + first;
        const fe_status status = fe_ids_read(work->ids, first, n_block, work->n_rows, work->bounds, rows);
        if (status.code != FE_OK)
            return status;
    }
    return (fe_status){.code = FE_OK};
}

fe_status fe_resolve_ids(const fe_ids *ids, int64_t n_rows, fe_bounds bounds, int64_t *rows, fe_stop stop)
{
    int64_t n_ids = ids->array.n_items;
    if (rows == NULL && ids->type == FE_ARANGE && n_ids > ids->period)
        n_ids = ids->period; /* the rest repeats it */
    const resolve_work work = {ids, n_ids, n_rows, bounds, rows};
    return fe_pool_run(resolve_piece, &work, fe_n_pieces(n_ids, IDS_PER_PIECE), stop);
}
