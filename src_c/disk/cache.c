#include "cache.h"

#include <stdlib.h>

static uint64_t mask_of(const fe_cache *cache)
{
    return UINT64_MAX >> cache->shift;
}

static uint64_t home_of(const fe_cache *cache, int64_t row)
{
    return ((uint64_t)row * 0x9E3779B97F4A7C15u) >> cache->shift; /* 2^64 / the golden ratio */
}

/* At least two places for each slot, so that runs of taken ones are short. */
static int32_t shift_of(int64_t n_slots)
{
    int32_t shift = 63;
    while ((UINT64_MAX >> shift) + 1 < (uint64_t)n_slots * 2)
        shift--;
    return shift;
}

bool fe_cache_init(fe_cache *cache, int64_t n_slots)
{
    *cache = (fe_cache){.n_slots = n_slots, .shift = shift_of(n_slots)};
    cache->slots = calloc((size_t)n_slots, sizeof *cache->slots);
    cache->places = calloc((size_t)mask_of(cache) + 1, sizeof *cache->places);
    if (cache->slots != NULL && cache->places != NULL)
        return true;
    fe_cache_free(cache);
    return false;
}

void fe_cache_free(fe_cache *cache)
{
    free(cache->slots);
    free(cache->places);
}

int64_t fe_cache_slot_size(void)
{
    return (int64_t)sizeof(fe_slot) + 4 * (int64_t)sizeof(int32_t); /* up to four places */
}

int32_t fe_cache_find(const fe_cache *cache, int64_t row)
{
    for (uint64_t place = home_of(cache, row);; place = (place + 1) & mask_of(cache)) {
        const int32_t slot = cache->places[place] - 1;
        if (slot < 0 || cache->slots[slot].row == row)
            return slot;
    }
}

void fe_cache_expect(const fe_cache *cache, int64_t row)
{
    __builtin_prefetch(&cache->places[home_of(cache, row)]);
}

static uint64_t place_of(const fe_cache *cache, int32_t slot)
{
    uint64_t place = home_of(cache, cache->slots[slot].row);
    while (cache->places[place] != slot + 1)
        place = (place + 1) & mask_of(cache);
    return place;
}

/* Moves what follows in the run of taken places, so that every row is found from its home on. */
void fe_cache_remove(fe_cache *cache, int32_t slot)
{
    uint64_t gap = place_of(cache, slot), place = gap;
    const uint64_t mask = mask_of(cache);
    for (;;) {
        place = (place + 1) & mask;
        const int32_t other = cache->places[place] - 1;
        if (other < 0)
            break;
        if (((place - home_of(cache, cache->slots[other].row)) & mask) >= ((place - gap) & mask)) {
            cache->places[gap] = other + 1;
            gap = place;
        }
    }
    cache->places[gap] = 0;
    cache->slots[slot] = (fe_slot){.state = FE_SLOT_EMPTY};
}

/* Two rounds find a slot if there is one: the first makes all of them cold. */
static int32_t free_slot(fe_cache *cache)
{
    for (int64_t k = 0; k < 2 * cache->n_slots; k++) {
        const int32_t slot = (int32_t)cache->hand;
        fe_slot *found = &cache->slots[slot];
        cache->hand = cache->hand + 1 < cache->n_slots ? cache->hand + 1 : 0;
        if (found->state == FE_SLOT_EMPTY)
            return slot;
        if (found->state != FE_SLOT_READY || found->n_holders > 0)
            continue;
        if (found->heat == FE_COLD)
            return slot;
        found->heat = FE_COLD;
    }
    return -1;
}

int32_t fe_cache_add(fe_cache *cache, int64_t row, bool *was_evicted)
{
    const int32_t slot = free_slot(cache);
    if (slot < 0)
        return -1;
    *was_evicted = cache->slots[slot].state != FE_SLOT_EMPTY;
    if (*was_evicted)
        fe_cache_remove(cache, slot);
    uint64_t place = home_of(cache, row);
    while (cache->places[place] != 0)
        place = (place + 1) & mask_of(cache);
    cache->places[place] = slot + 1;
    cache->slots[slot].row = row;
    return slot;
}
