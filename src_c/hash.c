/* Hashed ids: MurmurHash3 (x64, 128 bits, by Austin Appleby) of the 8 bytes of an id. */
#include "fastembed.h"

static uint64_t finish(uint64_t h)
{
    h = (h ^ h >> 33) * 0xff51afd7ed558ccdULL;
    h = (h ^ h >> 33) * 0xc4ceb9fe1a85ec53ULL;
    return h ^ h >> 33;
}

static inline void hash_id(uint64_t id, uint32_t seed, uint32_t parts[4])
{
    const uint64_t start = seed ^ 8;
    uint64_t low = id * 0x87c37b91114253d5ULL, high = start;
    low = ((low << 31 | low >> 33) * 0x4cf5ad432745937fULL ^ start) + high;
    high = finish(high + low);
    low = finish(low) + high;
    high += low;
    parts[0] = (uint32_t)low, parts[1] = (uint32_t)(low >> 32);
    parts[2] = (uint32_t)high, parts[3] = (uint32_t)(high >> 32);
}

void fe_hash_parts(const uint64_t *ids, int64_t n_ids, uint32_t seed, uint32_t *parts)
{
    for (int64_t i = 0; i < n_ids; i++)
        hash_id(ids[i], seed, parts + i * 4);
}

void fe_hash_rows(const uint64_t *ids, int64_t n_ids, uint32_t seed, uint32_t n_rows, int64_t *rows)
{
    for (int64_t i = 0; i < n_ids; i++) {
        uint32_t parts[4];
        hash_id(ids[i], seed, parts);
        /* Measured: a remainder by two multiplications takes a third longer. */
        for (int k = 0; k < 4; k++)
            rows[i * 4 + k] = parts[k] % n_rows;
    }
}
