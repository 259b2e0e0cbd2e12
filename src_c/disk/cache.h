/* Which row is in which slot. Knows nothing of files and threads; the caller locks. */
#ifndef FE_DISK_CACHE_H
#define FE_DISK_CACHE_H

#include <stdbool.h>
#include <stdint.h>

typedef enum { FE_SLOT_EMPTY, FE_SLOT_READING, FE_SLOT_READY, FE_SLOT_FAILED } fe_slot_state;

/* What keeps a row when room is needed: it has been asked for again, or is still to be used. */
typedef enum { FE_COLD, FE_HOT, FE_AWAITED } fe_heat;

typedef struct {
    int64_t row;
    int32_t n_holders; /* calls that use the row, counted for each item */
    int32_t error;     /* of FE_SLOT_FAILED: an errno, 0 for a file that is too short */
    int32_t n_left;    /* parts that are still to be read */
    uint8_t state, heat;
    bool is_ahead; /* asked for by a prefetch, and being read */
} fe_slot;

/* `places` is a hash table of slots, plus one; 0 is an empty place. */
typedef struct {
    fe_slot *slots;
    int32_t *places;
    int64_t n_slots, hand;
    int32_t shift;
} fe_cache;

bool fe_cache_init(fe_cache *cache, int64_t n_slots);
void fe_cache_free(fe_cache *cache);

/* Bytes of memory for each slot. */
int64_t fe_cache_slot_size(void);

/* The slot of a row; -1 if it has none. */
int32_t fe_cache_find(const fe_cache *cache, int64_t row);

/* Begins to load what a later fe_cache_find of that row needs. */
void fe_cache_expect(const fe_cache *cache, int64_t row);

/* A slot for a row that has none, in place of a row that nobody holds, cold ones first (by the
 * clock algorithm); -1 if there is none. *was_evicted says whether it held another row. */
int32_t fe_cache_add(fe_cache *cache, int64_t row, bool *was_evicted);

void fe_cache_remove(fe_cache *cache, int32_t slot);

#endif
