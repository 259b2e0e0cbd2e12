/* Vectors of 32 bytes. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define FE_ISA avx2
#define FE_TARGET __attribute__((target("avx2,fma,f16c,prfchw")))
#define VEC_BYTES 32
#define FE_STREAM(to, vector) _mm256_stream_si256((__m256i *)(to), (__m256i)(vector))
#define FE_STREAM_END() _mm_sfence()
#define FE_WIDEN_U16(h) _mm256_cvtepu16_epi32((__m128i)(h))
#define FE_NARROW_U32(x) _mm256_castsi256_si128(_mm256_permute4x64_epi64(_mm256_packus_epi32((__m256i)(x), (__m256i)(x)), 8))
#define FE_UPPER_HALVES(a, b)                                                                                                    \
    _mm256_permute4x64_epi64(_mm256_packus_epi32(_mm256_srli_epi32((__m256i)(a), 16), _mm256_srli_epi32((__m256i)(b), 16)), 0xd8)
#define FE_WIDEN_F16(h) _mm256_cvtph_ps((__m128i)(h))
#define FE_NARROW_F16(x) _mm256_cvtps_ph((__m256)(x), _MM_FROUND_TO_NEAREST_INT)
#define FE_WIDEN_BYTES(from) _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(from)))
#define FE_WIDEN_NIBBLES(from) widen_nibbles(from)
#define FE_F16_TO_FLOAT(half) _cvtsh_ss(half)
#define FE_WIDEN_TO_HALVES(bytes) _mm256_cvtepi8_epi16((__m128i)(bytes))
#define FE_FMA(x, y, z) ((float_vec)_mm256_fmadd_ps((__m256)(x), (__m256)(y), (__m256)(z)))
#define FE_CODE_PRODUCTS(codes, query)                                                                                           \
    _mm256_madd_epi16(_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(codes))),                                           \
                      _mm256_loadu_si256((const __m256i *)(query)))

FE_TARGET __attribute__((always_inline)) static inline __m256i widen_nibbles(const char *from)
{
    int32_t word;
    memcpy(&word, from, sizeof word);
    const __m256i shifts = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
    return _mm256_and_si256(_mm256_srlv_epi32(_mm256_set1_epi32(word), shifts), _mm256_set1_epi32(15));
}

#include "../kernels/body.inc"
#endif
