/* The C contract of n-grams: tokens and their look-backs become 64 bits, which select rows. */
#ifndef FE_NGRAM_H
#define FE_NGRAM_H

#include "fastembed.h"

#define FE_MAX_NGRAM 64

/* A token's code is its entry in token_map, or itself if that is NULL. */
typedef struct {
    int64_t n;                   /* of the longest n-gram: 2 to FE_MAX_NGRAM */
    const uint64_t *multipliers; /* n of them */
    const int64_t *token_map;
    int64_t n_tokens, fill;
    const int64_t *cuts; /* tokens, n_cuts of them */
    int64_t n_cuts;
    bool cuts_itself;
} fe_ngram_hash;

/* Sequences of tokens that lie end to end: starts do not decrease, from 0 to the number of
 * tokens. */
typedef struct {
    const fe_ids *tokens;
    const int64_t *starts; /* n_sequences + 1 */
    int64_t n_sequences;
} fe_ngram_tokens;

/* for sequence s, for token t = starts[s] .. starts[s + 1] - 1:
 *     x_0 = the code of token t; x_k = that of the token k before it in the sequence or its history
 *     x_k .. x_{n-1} = fill if that token is missing or one of the cuts; with cuts_itself, x_0 too
 *     mixes[t (n - 1) + k - 1] = x_0 multipliers[0] ^ ... ^ x_k multipliers[k], for k = 1 .. n - 1
 * history: the n - 1 tokens before each sequence, 0 <= token < n_tokens (not checked); or NULL.
 * Tokens are checked as they are read. */
fe_status fe_ngram_mix(const fe_ngram_hash *hash, const fe_ngram_tokens *tokens, const int64_t *history, uint64_t *mixes,
                       fe_stop stop);

/* One head of an n-gram table: its rows begin at `offset`, and there are `size` of them, from 1 to
 * 2^63 - 1. reciprocal = (2^64 - 1) / size, rounded down. */
typedef struct {
    uint64_t size, reciprocal, offset;
} fe_ngram_head;

/* The rows of the n-grams of tokens, n_heads for each token: with n_mixes mixes a token
 * (fe_ngram_mix), H = n_heads / n_mixes heads take the same one. Item i is head h = i % n_heads of
 * token t = i / n_heads; its row is
 *     heads[h].offset + mixes[(t - first_token) * n_mixes + h / H] % heads[h].size */
struct fe_ngram_rows {
    const uint64_t *mixes;
    const fe_ngram_head *heads;
    int64_t n_heads, n_mixes, first_token;
};

/* A table of which tokens get rows. The items of `out` are n_heads rows for each token. */
typedef struct {
    fe_ngram_hash hash;
    const fe_ngram_head *heads;
    int64_t n_heads;
    fe_table table;
    fe_array out;
    const int64_t *history;
} fe_ngram_layer;

/* for each layer, for token t: out[t n_heads + h] = the row of head h (fe_ngram_rows) of its mixes
 * (fe_ngram_mix), as fe_gather writes it. All tokens are checked first, those of a history not at
 * all; operand of the status is the number of the layer. */
fe_status fe_ngram_gather(const fe_ngram_layer *layers, int32_t n_layers, const fe_ngram_tokens *tokens, fe_stop stop);

/* For ids.c: the rows of items first .. first + n_items - 1. */
void fe_ngram_load(const fe_ngram_rows *ngrams, int64_t first, int64_t n_items, int64_t *rows);

#endif
