/* kernels/body/sparse.h with 32 bytes in a vector. */
#define HRK_VARIANT avx2
#include <immintrin.h>

#include "dtype/keep.h"
#include "kernels/body/keep_bound.h"
#include "kernels/body/variant.h"

#define HRK_VL 8
typedef __m256 native;
#define HRK_FMA(a, b, c) ((vec)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))

enum { BYTES = 32 };

/* A table of 64 bytes is four tables of 16, chosen by bits 4 and 5 of the index. */
static inline int32_t look_up(const uint8_t *codes, int base, const uint8_t *table, const bool count, int8_t *q)
{
    const __m256i c = _mm256_loadu_si256((const __m256i *)(const void *)codes);
    const __m256i i = _mm256_subs_epu8(_mm256_and_si256(c, _mm256_set1_epi8(0x7f)), _mm256_set1_epi8((char)base));
    __m256i part[4];
    for (int k = 0; k < 4; k++)
        part[k] = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)(const void *)(table + 16 * k))), i);
    const __m256i bit4 = _mm256_slli_epi16(i, 3), bit5 = _mm256_slli_epi16(i, 2); /* to the top of each byte */
    const __m256i low = _mm256_blendv_epi8(part[0], part[1], bit4), high = _mm256_blendv_epi8(part[2], part[3], bit4);
    const __m256i v = _mm256_blendv_epi8(low, high, bit5);
    const __m256i small = _mm256_and_si256(v, _mm256_set1_epi8(0x7f)), sign = _mm256_or_si256(c, _mm256_set1_epi8(1));
    _mm256_storeu_si256((__m256i *)(void *)q, _mm256_sign_epi8(small, sign));
    const __m256i zero = _mm256_cmpeq_epi8(_mm256_add_epi8(c, c), _mm256_setzero_si256());
    return !count ? 0 : __builtin_popcount((unsigned)_mm256_movemask_epi8(_mm256_andnot_si256(zero, v)));
}

/* Sums over whole vectors; returns where they end. */
static inline int64_t sum_bytes(int64_t n, const int8_t *q, const bool squares, hrk_quantized *r)
{
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i sum = _mm256_setzero_si256(), square = sum;
    int64_t i = 0;
    for (; i + BYTES <= n; i += BYTES) {
        const __m256i c = _mm256_loadu_si256((const __m256i *)(const void *)(q + i));
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_set1_epi8(1), c), ones));
        if (!squares)
            continue;
        const __m256i size = _mm256_abs_epi8(c), low = _mm256_cvtepu8_epi16(_mm256_castsi256_si128(size)), high = _mm256_cvtepu8_epi16(_mm256_extracti128_si256(size, 1));
        square = _mm256_add_epi32(square, _mm256_add_epi32(_mm256_madd_epi16(low, low), _mm256_madd_epi16(high, high)));
    }
    int32_t s[8], t[8];
    memcpy(s, &sum, sizeof s);
    memcpy(t, &square, sizeof t);
    for (int j = 0; j < 8; j++) {
        r->sum += s[j];
        r->square += t[j];
    }
    return i;
}

static inline void e4m3_values32(const uint8_t *codes, native *v)
{
    for (int i = 0; i < 2; i++) {
        const __m256i c = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(codes + 16 * i)));
        const __m256i h = _mm256_and_si256(_mm256_slli_epi16(c, 7), _mm256_set1_epi16((short)0xBFFF)); /* half precision, 2^-8 of the value */
        v[2 * i] = _mm256_cvtph_ps(_mm256_castsi256_si128(h));
        v[2 * i + 1] = _mm256_cvtph_ps(_mm256_extracti128_si256(h, 1));
    }
}

static inline void bf16_values32(const uint8_t *codes, native *v)
{
    for (int i = 0; i < 4; i++) {
        const __m256i c = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)(codes + 16 * i)));
        v[i] = _mm256_castsi256_ps(_mm256_slli_epi32(c, 16));
    }
}

static inline void i8_values32(const uint8_t *codes, native *v)
{
    for (int i = 0; i < 4; i++)
        v[i] = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(codes + 8 * i))));
}

static inline float add_chains(const native *sum)
{
    const __m256 h = _mm256_add_ps(sum[0], sum[1]);
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_shuffle_ps(q, q, 1)));
}

static inline uint32_t not_less(__m256 a, __m256 b)
{
    return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_NLT_UQ));
}

static inline __m256i most_draw(const float *z, float zscale, float bias, float bound)
{
    const __m256 v = _mm256_fmadd_ps(_mm256_set1_ps(zscale), _mm256_loadu_ps(z), _mm256_set1_ps(bias));
    const __m256 bits = _mm256_min_ps(_mm256_fmadd_ps(v, _mm256_set1_ps(LOG2E_BITS), _mm256_set1_ps(bound)), _mm256_set1_ps(MOST_BITS));
    return _mm256_cvttps_epi32(_mm256_castsi256_ps(_mm256_cvtps_epi32(bits)));
}

static inline uint32_t may_keep(const float *z, const uint16_t *draws, float zscale, float bias, float bound)
{
    __m256i yes[2];
    for (int h = 0; h < 2; h++) {
        const float *at = z + 16 * h;
        const __m256i most = _mm256_packus_epi32(most_draw(at, zscale, bias, bound), most_draw(at + 8, zscale, bias, bound));
        const __m256i draw = _mm256_loadu_si256((const __m256i *)(const void *)(draws + 16 * h));
        yes[h] = _mm256_cmpeq_epi16(_mm256_min_epu16(draw, _mm256_permute4x64_epi64(most, 0xD8)), draw);
    }
    return (uint32_t)_mm256_movemask_epi8(_mm256_permute4x64_epi64(_mm256_packs_epi16(yes[0], yes[1]), 0xD8));
}
#define HRK_DECODE hrk_decode_avx2
#include "kernels/body/quantize.h"
#include "kernels/body/sparse.h"
