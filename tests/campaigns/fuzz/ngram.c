/* fe_ngram_mix, and fe_resolve_ids and fe_gather of rows of n-grams, against plain loops. */
#include "input.h"
#include "ngram.h"

enum { MOST_N = 6, MOST_MIXES = 5, MOST_HEADS = 15 };

/* The code that n-grams see k tokens before token t of a sequence; is_over: behind an end. */
static int64_t look_back(const fe_ngram_hash *hash, const int64_t *tokens, int64_t t, const int64_t *history, int64_t k,
                         bool *is_over)
{
    const int64_t place = t - k, before = hash->n - 1;
    const bool is_missing = place < 0 && history == NULL;
    const int64_t token = is_missing ? 0 : place < 0 ? history[before + place] : tokens[place];
    for (int64_t i = 0; i < hash->n_cuts; i++)
        *is_over |= !is_missing && token == hash->cuts[i] && (k > 0 || hash->cuts_itself);
    *is_over |= is_missing;
    return *is_over ? hash->fill : hash->token_map != NULL ? hash->token_map[token] : token;
}

static fe_ngram_hash hash_of(input *in, int64_t *cuts)
{
    fe_ngram_hash hash = {.n = pick(in, 2, MOST_N), .n_tokens = pick(in, 1, 40), .fill = pick(in, 0, 40), .cuts = cuts};
    uint64_t *multipliers = (uint64_t *)memory(in, (size_t)hash.n * 8, 0);
    take(in, multipliers, (size_t)hash.n * 8);
    hash.multipliers = multipliers;
    hash.n_cuts = pick(in, 0, 2);
    cuts[0] = pick(in, 0, hash.n_tokens - 1), cuts[1] = pick(in, 0, hash.n_tokens - 1);
    hash.cuts_itself = pick(in, 0, 1);
    if (pick(in, 0, 1)) {
        int64_t *map = (int64_t *)memory(in, (size_t)hash.n_tokens * 8, 0);
        for (int64_t i = 0; i < hash.n_tokens; i++)
            map[i] = pick(in, 0, 300);
        hash.token_map = map;
    }
    return hash;
}

/* The rows of some mixes, resolved and looked up. */
static void require_rows(input *in, const uint64_t *mixes, int64_t n_tokens, int64_t n_mixes)
{
    fe_ngram_head heads[MOST_HEADS];
    const int64_t n_heads = n_mixes * pick(in, 1, MOST_HEADS / MOST_MIXES), n_items = n_tokens * n_heads;
    const bool are_large = pick(in, 0, 1);
    for (int64_t h = 0; h < n_heads; h++) {
        uint64_t size;
        take(in, &size, 8);
        heads[h].size = are_large ? size >> 1 >> pick(in, 0, 62) : size % 8;
        heads[h].size += heads[h].size == 0;
        heads[h].reciprocal = UINT64_MAX / heads[h].size;
        heads[h].offset = are_large ? 0 : (uint64_t)pick(in, 0, 8);
    }
    const fe_ngram_rows ngrams = {.mixes = mixes, .heads = heads, .n_heads = n_heads, .n_mixes = n_mixes};
    const fe_ids ids = {.array.n_items = n_items, .type = FE_NGRAM, .ngrams = &ngrams};
    int64_t *rows = (int64_t *)memory(in, (size_t)n_items * 8, 0);
    REQUIRE(fe_resolve_ids(&ids, INT64_MAX, FE_RAISE, rows, NULL).code == FE_OK);
    for (int64_t i = 0; i < n_items; i++) {
        const fe_ngram_head *head = heads + i % n_heads;
        const uint64_t mix = mixes[i / n_heads * n_mixes + i % n_heads / (n_heads / n_mixes)];
        REQUIRE((uint64_t)rows[i] == head->offset + mix % head->size);
    }
    const fe_table table = table_of(in, FE_F32, pick(in, 1, 16), pick(in, 1, 20), false, true);
    const int64_t stride = table.n_cols * 4;
    fe_array out;
    fe_array_init(&out, memory(in, (size_t)(n_items * stride), 0), 1, &n_items, &stride);
    out.dtype = FE_F32;
    const fe_status status = fe_gather(&table, &ids, FE_RAISE, &out, false, NULL);
    int64_t first = 0;
    while (first < n_items && rows[first] < table.n_rows)
        first++;
    REQUIRE(first < n_items ? status.code == FE_BAD_ID && status.index == first && status.id == rows[first]
                            : status.code == FE_OK);
    for (int64_t i = 0; i < n_items && status.code == FE_OK; i++)
        require_same_rows(out.data + i * stride, row_of(&table, rows[i]), table.n_cols, FE_F32);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input in = {data, size, .n_blocks = 0};
    choose_kernels(&in);
    int64_t cuts[2], n_tokens, n_sequences = pick(&in, 1, 5);
    const fe_ngram_hash hash = hash_of(&in, cuts);
    const fe_ids ids = ids_of(&in, &n_tokens, hash.n_tokens);
    int64_t *starts = (int64_t *)memory(&in, (size_t)(n_sequences + 1) * 8, 0);
    for (int64_t s = 1; s <= n_sequences; s++)
        starts[s] = s == n_sequences ? n_tokens : pick(&in, starts[s - 1], n_tokens);
    const int64_t n_mixes = hash.n - 1;
    int64_t *history = pick(&in, 0, 1) ? (int64_t *)memory(&in, (size_t)(n_sequences * n_mixes) * 8, 0) : NULL;
    for (int64_t i = 0; history != NULL && i < n_sequences * n_mixes; i++)
        history[i] = pick(&in, 0, hash.n_tokens - 1);
    int64_t first_bad;
    const int64_t *tokens = all_resolved(&in, &ids, n_tokens, hash.n_tokens, FE_RAISE, &first_bad);
    uint64_t *mixes = (uint64_t *)memory(&in, (size_t)(n_tokens * n_mixes) * 8, 0);
    const fe_ngram_tokens all = {&ids, starts, n_sequences};
    const fe_status status = fe_ngram_mix(&hash, &all, history, mixes, NULL);
    REQUIRE(first_bad < n_tokens ? status.code == FE_BAD_ID && status.index == first_bad : status.code == FE_OK);
    for (int64_t s = 0; s < n_sequences && status.code == FE_OK; s++)
        for (int64_t t = starts[s]; t < starts[s + 1]; t++) {
            const int64_t *before = history == NULL ? NULL : history + s * n_mixes;
            bool is_over = false;
            uint64_t mix = 0;
            for (int64_t k = 0; k < hash.n; k++) {
                mix ^= (uint64_t)look_back(&hash, tokens + starts[s], t - starts[s], before, k, &is_over) * hash.multipliers[k];
                REQUIRE(k == 0 || mixes[t * n_mixes + k - 1] == mix);
            }
        }
    if (status.code == FE_OK)
        require_rows(&in, mixes, n_tokens, n_mixes);
    free_all(&in);
    return 0;
}
