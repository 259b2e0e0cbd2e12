/* N-grams: each token with its look-backs becomes 64 bits for each n (fe_ngram_mix), of which each
 * head takes the remainder by its size as the number of a row (fe_ngram_load). */
#include "ngram.h"

#include <stddef.h>

#include "ids.h"
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
    const uint64_t *mix = ngrams->mixes + first / n_heads * ngrams->n_mixes + head / heads_per_mix;
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
    const fe_ids *tokens;
    const int64_t *starts;
    int64_t n_sequences;
    const int64_t *history;
    uint64_t *mixes;
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
static fe_status mix_block(const mix_work *work, int64_t sequence, int64_t first, int64_t n_tokens)
{
    const fe_ngram_hash *hash = work->hash;
    const int64_t n_before = hash->n - 1, position = first - work->starts[sequence];
    const int64_t n_own = position < n_before ? position : n_before; /* before `first` in the sequence */
    int64_t tokens[FE_BLOCK];
    seen_token seen[FE_BLOCK];
    const fe_status status = fe_ids_read(work->tokens, first - n_own, n_own + n_tokens, hash->n_tokens, FE_RAISE, tokens);
    if (status.code != FE_OK)
        return status;
    for (int64_t i = 0; i < n_before - n_own; i++)
        seen[i] =
            work->history == NULL ? (seen_token){hash->fill, true} : see(hash, work->history[sequence * n_before + position + i]);
    for (int64_t i = 0; i < n_own + n_tokens; i++)
        seen[n_before - n_own + i] = see(hash, tokens[i]);
    for (int64_t i = 0; i < n_tokens; i++)
        mix_token(hash, seen + n_before + i, work->mixes + (first + i) * n_before);
    return status;
}

/* The sequence that has that token. */
static int64_t sequence_of(const mix_work *work, int64_t token)
{
    int64_t low = 0, high = work->n_sequences; /* starts[low] <= token < starts[high] */
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        if (work->starts[middle] <= token)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static fe_status mix_piece(const void *of_job, int64_t piece)
{
    const mix_work *work = of_job;
    const fe_range range = fe_piece_items(work->starts[work->n_sequences], TOKENS_PER_PIECE, piece);
    int64_t sequence = sequence_of(work, range.first);
    for (int64_t first = range.first, n_tokens; first < range.end; first += n_tokens) {
        while (work->starts[sequence + 1] <= first)
            sequence++;
        const int64_t end = work->starts[sequence + 1] < range.end ? work->starts[sequence + 1] : range.end;
        n_tokens = end - first < FE_BLOCK - FE_MAX_NGRAM ? end - first : FE_BLOCK - FE_MAX_NGRAM;
        const fe_status status = mix_block(work, sequence, first, n_tokens);
        if (status.code != FE_OK)
            return status;
    }
    return (fe_status){.code = FE_OK};
}

fe_status fe_ngram_mix(const fe_ngram_hash *hash, const fe_ids *tokens, const int64_t *starts, int64_t n_sequences,
                       const int64_t *history, uint64_t *mixes, fe_stop stop)
{
    const mix_work work = {hash, tokens, starts, n_sequences, history, mixes};
    return fe_pool_run(mix_piece, &work, fe_n_pieces(starts[n_sequences], TOKENS_PER_PIECE), stop);
}
