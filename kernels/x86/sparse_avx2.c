/* kernels/body/sparse.h with 32 bytes in a vector. */
#define HRK_VARIANT avx2
#include <immintrin.h>
#include <stdint.h>

#define HRK_VL 8
#define HRK_FMA(a, b, c) ((vec)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))

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
#include "kernels/body/sparse.h"
