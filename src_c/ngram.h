/* Rows of n-grams, as ids that are computed. */
#ifndef FE_NGRAM_H
#define FE_NGRAM_H

#include "fastembed.h"

/* The rows of items first .. first + n_items - 1. */
void fe_ngram_load(const fe_ngram_rows *ngrams, int64_t first, int64_t n_items, int64_t *rows);

#endif
