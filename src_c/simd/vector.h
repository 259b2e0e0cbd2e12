/* Vectors of VEC_BYTES for elements of type T, and the row primitives made of them. Included once per dtype by an instruction set.
 *
 * The vector extension of gcc and clang keeps one body for every instruction set; each lane computes what a scalar would.
 * A primitive works on whole lines where it can, and asks for one line of a row to come for every line that it works on: rows of
 * a table lie anywhere, so that no hardware prefetcher sees them coming (docs/performance.md has the figures).
 */

#define LANES ((int64_t)(VEC_BYTES / sizeof(T)))
#define QUAD_LANES ((int64_t)(16 / sizeof(T)))
#define LINE_LANES ((int64_t)(FE_LINE / sizeof(T)))

/* Elements and vectors at any alignment: tables may lie in a mapped file or a packed record. */
typedef T NAME(any) __attribute__((aligned(1), may_alias));
typedef T NAME(vec) __attribute__((vector_size(VEC_BYTES), aligned(1), may_alias));
typedef T NAME(quad) __attribute__((vector_size(16), aligned(1), may_alias)); /* for the loose ends of a row */
typedef T NAME(oct) __attribute__((vector_size(32), aligned(1), may_alias));  /* for narrow rows: two quads where there is no such vector */

FE_INLINE NAME(vec) NAME(load)(const char *row, int64_t d)
{
    return *(const NAME(vec) *)(row + d * (int64_t)sizeof(T));
}

FE_INLINE void NAME(store)(char *row, int64_t d, NAME(vec) v)
{
    *(NAME(vec) *)(row + d * (int64_t)sizeof(T)) = v;
}

FE_INLINE T NAME(get)(const char *row, int64_t d)
{
    return *(const NAME(any) *)(row + d * (int64_t)sizeof(T));
}

FE_INLINE void NAME(put)(char *row, int64_t d, T x)
{
    *(NAME(any) *)(row + d * (int64_t)sizeof(T)) = x;
}

/* out = a + b, 16 bytes of each */
FE_INLINE void NAME(add_quad)(char *out, const char *a, const char *b, int64_t byte)
{
    *(NAME(quad) *)(out + byte) = *(const NAME(quad) *)(a + byte) + *(const NAME(quad) *)(b + byte);
}

/* the same, 32 bytes */
FE_INLINE void NAME(add_oct)(char *out, const char *a, const char *b, int64_t byte)
{
    *(NAME(oct) *)(out + byte) = *(const NAME(oct) *)(a + byte) + *(const NAME(oct) *)(b + byte);
}

/* out = a + b from element d to element end, which are not a whole line */
FE_INLINE int64_t NAME(add_loose)(char *out, const char *a, const char *b, int64_t d, int64_t end)
{
    const int64_t size = sizeof(T);
    for (; d + QUAD_LANES <= end; d += QUAD_LANES)
        NAME(add_quad)(out, a, b, d * size);
    for (; d < end; d++)
        NAME(put)(out, d, NAME(get)(a, d) + NAME(get)(b, d));
    return d;
}

/* out = a + b; out may be a. The rows next_a and next_b, unless NULL (a constant), are read soon, and next_out is written soon.
 * With `stream` (a constant) whole lines of out go past the cache. */
FE_INLINE void NAME(add)(char *out, const char *a, const char *b, int64_t n_cols, const char *next_a, const char *next_b,
                         const char *next_out, bool stream)
{
    int64_t d = 0;
    if (stream) {
        const int64_t n_before = fe_bytes_to_line(out) / (int64_t)sizeof(T);
        d = NAME(add_loose)(out, a, b, 0, n_before < n_cols ? n_before : n_cols);
    }
    for (; d + LINE_LANES <= n_cols; d += LINE_LANES) {
        if (next_out != NULL)
            fe_prefetch_to_write(next_out + d * (int64_t)sizeof(T));
        if (next_a != NULL)
            fe_prefetch(next_a + d * (int64_t)sizeof(T));
        if (next_b != NULL)
            fe_prefetch(next_b + d * (int64_t)sizeof(T));
        for (int64_t k = d; k < d + LINE_LANES; k += LANES) {
            const NAME(vec) sum = NAME(load)(a, k) + NAME(load)(b, k);
            if (stream)
                FE_STREAM(out + k * (int64_t)sizeof(T), sum);
            else
                NAME(store)(out, k, sum);
        }
    }
    if (d < n_cols && next_a != NULL)
        fe_prefetch(next_a + d * (int64_t)sizeof(T));
    if (d < n_cols && next_b != NULL)
        fe_prefetch(next_b + d * (int64_t)sizeof(T));
    NAME(add_loose)(out, a, b, d, n_cols);
}

/* a += v, b += v; the rows next_a and next_v are read soon */
FE_INLINE void NAME(add_to_both)(char *a, char *b, const char *v, int64_t n_cols, const char *next_a, const char *next_v)
{
    int64_t d = 0;
    for (; d + LINE_LANES <= n_cols; d += LINE_LANES) {
        fe_prefetch(next_a + d * (int64_t)sizeof(T));
        fe_prefetch(next_v + d * (int64_t)sizeof(T));
        for (int64_t k = d; k < d + LINE_LANES; k += LANES) {
            const NAME(vec) v_k = NAME(load)(v, k);
            NAME(store)(a, k, NAME(load)(a, k) + v_k);
            NAME(store)(b, k, NAME(load)(b, k) + v_k);
        }
    }
    if (d < n_cols) {
        fe_prefetch(next_a + d * (int64_t)sizeof(T));
        fe_prefetch(next_v + d * (int64_t)sizeof(T));
    }
    for (; d < n_cols; d++) {
        const T v_d = NAME(get)(v, d);
        NAME(put)(a, d, NAME(get)(a, d) + v_d);
        NAME(put)(b, d, NAME(get)(b, d) + v_d);
    }
}

/* out = a + 0.0 */
FE_INLINE void NAME(add_zero)(char *out, const char *a, int64_t n_cols)
{
    for (int64_t d = 0; d < n_cols; d++)
        NAME(put)(out, d, NAME(get)(a, d) + (T)0);
}

#undef LANES
#undef QUAD_LANES
#undef LINE_LANES
