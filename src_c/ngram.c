/* N-grams: each token with its look-backs becomes 64 bits for each n (fe_ngram_mix), of which each
 * head takes the remainder by its size as the number of a row (fe_ngram_load). */
#include "ngram.h"

#include <stddef.h>

#include "ids.h"
#include "lookup.h"
#include "pool.h"

/* ---- remainders ---- */

/* x % size by the reciprocal m = floor((2^64 - 1) / size): the quotient's estimate is
 * floor(x m / 2^64). As 0 < 2^64 / size - m <= 1 and x < 2^64, x / size - x m / 2^64 is at least 0
 * and less than 1, so that the estimate is the quotient or 1 less, and the remainder by it is less
 * than 2 size, which fits into 64 bits (Barrett, CRYPTO '86; Granlund and Montgomery, PLDI '94). */
static inline uint64_t remainder_by(const fe_ngram_head *head, uint64_t x)
{
    const uint64_t quotient = (uint64_t)((unsigned __int128)x * head->reciprocal >> 64);
    const uint64_t rest = x - quotient * head->size;
    return rest >= head->size ? rest - head->size : rest;
}

void fe_ngram_load(const fe_ngram_rows *ngrams, int64_t first, int64_t n_items, int64_t *rows)
{
    const int64_t n_heads = ngrams->n_heads, heads_per_mix = n_heads / ngrams->n_mixes;
    int64_t head = first % n_heads, n_left = heads_per_mix - head % heads_per_mix;
    const int64_t token = first / n_heads - ngrams->first_token;
    const uint64_t *mix = ngrams->mixes + token * ngrams->n_mixes + head / heads_per_mix;
    while (n_items > 0) {
        const int64_t n_run = n_left < n_items ? n_left : n_items;
        for (int64_t i = 0; i < n_run; i++) {
            const fe_ngram_head *of_item = ngrams->heads + head + i;
            rows[i] = (int64_t)(of_item->offset + remainder_by(of_item, *mix));
        }
        rows += n_run;
        n_items -= n_run;
        head = head + n_run == n_heads ? 0 : head + n_run;
        n_left = heads_per_mix;
        mix++;
    }
}

/* ---- mixes ---- */

enum { TOKENS_PER_PIECE = 4 * FE_BLOCK };

typedef struct {
    const fe_ngram_hash *hash;
    const fe_ngram_tokens *tokens;
    const int64_t *history;
} mix_work;

/* What hashes see of a token: its code, and whether look-backs end at it. */
typedef struct {
    int64_t code;
    bool is_end;
} seen_token;

static inline seen_token see(const fe_ngram_hash *hash, int64_t token)
{
    bool is_cut = false;
    for (int64_t i = 0; i < hash->n_cuts; i++)
        is_cut |= token == hash->cuts[i];
    return (seen_token){hash->token_map == NULL ? token : hash->token_map[token], is_cut};
}

/* The mixes of a token, which has the tokens before it in front of it. */
static inline void mix_token(const fe_ngram_hash *hash, const seen_token *token, uint64_t *mixes)
{
    bool is_over = hash->cuts_itself && token->is_end;
    uint64_t mix = (uint64_t)(is_over ? hash->fill : token->code) * hash->multipliers[0];
    for (int64_t k = 1; k < hash->n; k++) {
        is_over |= token[-k].is_end;
        mix ^= (uint64_t)(is_over ? hash->fill : token[-k].code) * hash->multipliers[k];
        mixes[k - 1] = mix;
    }
}

/* The mixes of tokens first .. first + n_tokens - 1, all of them of that sequence; at most
 * FE_BLOCK - FE_MAX_NGRAM. */
static fe_status mix_block(const mix_work *work, int64_t sequence, int64_t first, int64_t n_tokens, uint64_t *mixes)
{
    const fe_ngram_hash *hash = work->hash;
    const int64_t n_before = hash->n - 1, position = first - work->tokens->starts[sequence];
    const int64_t n_own = position < n_before ? position : n_before; /* before `first` in the sequence */
    int64_t tokens[FE_BLOCK];
    seen_token seen[FE_BLOCK];
    const fe_status status = fe_ids_read(work->tokens->tokens, first - n_own, n_own + n_tokens, hash->n_tokens, FE_RAISE, tokens);
    if (status.code != FE_OK)
        return status;
    for (int64_t i = 0; i < n_before - n_own; i++)
        seen[i] =
            work->history == NULL ? (seen_token){hash->fill, true} : see(hash, work->history[sequence * n_before + position + i]);
    for (int64_t i = 0; i < n_own + n_tokens; i++)
        seen[n_before - n_own + i] = see(hash, tokens[i]);
    for (int64_t i = 0; i < n_tokens; i++)
        mix_token(hash, seen + n_before + i, mixes + i * n_before);
    return status;
}

/* The sequence that has that token. */
static int64_t sequence_of(const fe_ngram_tokens *tokens, int64_t token)
{
    int64_t low = 0, high = tokens->n_sequences; /* starts[low] <= token < starts[high] */
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        if (tokens->starts[middle] <= token)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* The mixes of some tokens, of any sequences. */
static fe_status mix_range(const mix_work *work, fe_range range, uint64_t *mixes)
{
    const int64_t *starts = work->tokens->starts;
    int64_t sequence = sequence_of(work->tokens, range.first);
    for (int64_t first = range.first, n_tokens; first < range.end; first += n_tokens) {
        while (starts[sequence + 1] <= first)
            sequence++;
        const int64_t end = starts[sequence + 1] < range.end ? starts[sequence + 1] : range.end;
        n_tokens = end - first < FE_BLOCK - FE_MAX_NGRAM ? end - first : FE_BLOCK - FE_MAX_NGRAM;
        const fe_status status = mix_block(work, sequence, first, n_tokens, mixes + (first - range.first) * (work->hash->n - 1));
        if (status.code != FE_OK)
            return status;
    }
    return (fe_status){.code = FE_OK};
}

typedef struct {
    mix_work of_tokens;
    uint64_t *mixes;
} mix_all_work;

static fe_status mix_piece(const void *of_job, int64_t piece)
{
    const mix_all_work *work = of_job;
    const fe_ngram_tokens *tokens = work->of_tokens.tokens;
    const fe_range range = fe_piece_items(tokens->starts[tokens->n_sequences], TOKENS_PER_PIECE, piece);
    return mix_range(&work->of_tokens, range, work->mixes + range.first * (work->of_tokens.hash->n - 1));
}

fe_status fe_ngram_mix(const fe_ngram_hash *hash, const fe_ngram_tokens *tokens, const int64_t *history, uint64_t *mixes,
                       fe_stop stop)
{
    const mix_all_work work = {{hash, tokens, history}, mixes};
    return fe_pool_run(mix_piece, &work, fe_n_pieces(tokens->starts[tokens->n_sequences], TOKENS_PER_PIECE), stop);
}

/* ---- rows, as soon as they are known ---- */

enum { MIXES = 2048 }; /* of a block of tokens, at least one: 16 KiB */

typedef struct {
    const fe_ngram_layer *layers;
    const fe_ngram_tokens *tokens;
    int64_t tokens_per_piece, pieces_per_layer;
} gather_work;

/* The rows of a few tokens, whose mixes fit. */
static fe_status gather_block(const fe_ngram_layer *layer, const fe_ngram_tokens *tokens, fe_range range)
{
    uint64_t mixes[MIXES];
    const mix_work work = {&layer->hash, tokens, layer->history};
    const fe_status status = mix_range(&work, range, mixes);
    if (status.code != FE_OK)
        return status;
    const fe_ngram_rows rows = {mixes, layer->heads, layer->n_heads, layer->hash.n - 1, range.first};
    const fe_ids ids = {.array.n_items = layer->out.n_items, .type = FE_NGRAM, .ngrams = &rows};
    return fe_look_up_items(&layer->table, &ids, &layer->out, range.first * layer->n_heads, range.end * layer->n_heads);
}

static fe_status gather_piece(const void *of_job, int64_t piece)
{
    const gather_work *work = of_job;
    const int64_t number = piece / work->pieces_per_layer, n_tokens = work->tokens->starts[work->tokens->n_sequences];
    const fe_ngram_layer *layer = &work->layers[number];
    const fe_range range = fe_piece_items(n_tokens, work->tokens_per_piece, piece % work->pieces_per_layer);
    const int64_t n_block = MIXES / (layer->hash.n - 1);
    fe_status status = {.code = FE_OK};
    for (int64_t first = range.first; first < range.end && status.code == FE_OK; first += n_block)
        status = gather_block(layer, work->tokens, (fe_range){first, first + n_block < range.end ? first + n_block : range.end});
    status.operand = (int32_t)number;
    return status;
}

fe_status fe_ngram_gather(const fe_ngram_layer *layers, int32_t n_layers, const fe_ngram_tokens *tokens, fe_stop stop)
{
    const int64_t n_tokens = tokens->starts[tokens->n_sequences];
    int64_t token_size = 1; /* bytes of the results of a token in one layer, the most of all */
    for (int32_t k = 0; k < n_layers; k++) {
        fe_status status = fe_resolve_ids(tokens->tokens, layers[k].hash.n_tokens, FE_RAISE, NULL, stop);
        status.operand = k;
        if (status.code != FE_OK)
            return status;
        const int64_t size = layers[k].n_heads * fe_row_size(&layers[k].table, &layers[k].out);
        token_size = size > token_size ? size : token_size;
    }
    gather_work work = {layers, tokens, fe_items_per_piece(n_tokens, token_size), 0};
    work.pieces_per_layer = fe_n_pieces(n_tokens, work.tokens_per_piece);
    return fe_pool_run(gather_piece, &work, work.pieces_per_layer * n_layers, stop);
}
