/* Row primitives in plain C for elements of type T: what any compiler vectorises for its baseline. */

/* out = a + b; out may be a */
static inline void NAME(add)(T *out, const T *a, const T *b, int64_t n_cols)
{
    for (int64_t d = 0; d < n_cols; d++)
        out[d] = a[d] + b[d];
}

/* out = a + 0.0 */
static inline void NAME(add_zero)(T *out, const T *a, int64_t n_cols)
{
    for (int64_t d = 0; d < n_cols; d++)
        out[d] = a[d] + (T)0;
}
