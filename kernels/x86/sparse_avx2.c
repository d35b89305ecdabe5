/* kernels/body/sparse.h with 32 bytes in a vector. */
#define HRK_VARIANT avx2
#include <immintrin.h>

#include "dtype/keep.h"
#include "kernels/body/variant.h"

#define HRK_VL 8
#define HRK_FMA(a, b, c) ((vec)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))

#define LOG2E_BITS 0x1.715476p+23f
#define ONE_BITS   (127.0f * 0x1p23f + 4096.0f)

enum { BYTES = 32 };

static unsigned largest_code(int64_t n, const uint8_t *codes)
{
    unsigned most = 0;
    for (int64_t i = 0; i < n; i++)
        most = (codes[i] & 0x7fu) > most ? codes[i] & 0x7fu : most;
    return most;
}

/* A table of 64 bytes is four tables of 16, chosen by bits 4 and 5 of the index. */
static inline void look_up(const uint8_t *codes, unsigned base, const int8_t *table, int8_t *q)
{
    const __m256i c = _mm256_loadu_si256((const __m256i *)(const void *)codes);
    const __m256i i = _mm256_subs_epu8(_mm256_and_si256(c, _mm256_set1_epi8(0x7f)), _mm256_set1_epi8((char)base));
    __m256i part[4];
    for (int k = 0; k < 4; k++)
        part[k] = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)(const void *)(table + 16 * k))), i);
    const __m256i bit4 = _mm256_slli_epi16(i, 3), bit5 = _mm256_slli_epi16(i, 2); /* to the top of each byte */
    const __m256i low = _mm256_blendv_epi8(part[0], part[1], bit4), high = _mm256_blendv_epi8(part[2], part[3], bit4);
    const __m256i v = _mm256_blendv_epi8(low, high, bit5);
    _mm256_storeu_si256((__m256i *)(void *)q, _mm256_sign_epi8(v, _mm256_or_si256(c, _mm256_set1_epi8(1))));
}

static inline int32_t sum_bytes(const int8_t *q)
{
    const __m256i c = _mm256_loadu_si256((const __m256i *)(const void *)q);
    const __m256i s = _mm256_sad_epu8(_mm256_xor_si256(c, _mm256_set1_epi8(-128)), _mm256_setzero_si256());
    const __m128i h = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
    return _mm_cvtsi128_si32(h) + _mm_extract_epi32(h, 2) - 128 * BYTES;
}

static inline uint32_t may_keep(const float *z, const uint16_t *draws, float zscale, float bias, float unit)
{
    uint32_t mask = 0;
    for (int j = 0; j < HRK_BP; j += 8) {
        __m256 v = _mm256_fmadd_ps(_mm256_set1_ps(zscale), _mm256_loadu_ps(z + j), _mm256_set1_ps(bias));
        v = _mm256_max_ps(_mm256_min_ps(v, _mm256_set1_ps(80)), _mm256_set1_ps(-80));
        const __m256i bound = _mm256_cvtps_epi32(_mm256_fmadd_ps(v, _mm256_set1_ps(LOG2E_BITS), _mm256_set1_ps(ONE_BITS)));
        const __m256i draw = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)(draws + j)));
        const __m256i least = _mm256_castps_si256(_mm256_mul_ps(_mm256_cvtepi32_ps(draw), _mm256_set1_ps(unit)));
        mask |= (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(least, bound))) << j;
    }
    return ~mask;
}
#include "kernels/body/sparse.h"
