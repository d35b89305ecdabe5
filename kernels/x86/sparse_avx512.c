/* kernels/body/sparse.h with 64 bytes in a vector. */
#define HRK_VARIANT avx512
#include <immintrin.h>
#include <stdint.h>

#define HRK_VL 16
#define HRK_FMA(a, b, c) ((vec)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))

enum { BYTES = 64 };

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
    const __m512i c = _mm512_loadu_si512(codes);
    const __m512i i = _mm512_subs_epu8(_mm512_and_si512(c, _mm512_set1_epi8(0x7f)), _mm512_set1_epi8((char)base));
    __m512i part[4];
    for (int k = 0; k < 4; k++)
        part[k] = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_load_si128((const __m128i *)(const void *)(table + 16 * k))), i);
    const __mmask64 bit4 = _mm512_test_epi8_mask(i, _mm512_set1_epi8(16)), bit5 = _mm512_test_epi8_mask(i, _mm512_set1_epi8(32));
    const __m512i low = _mm512_mask_mov_epi8(part[0], bit4, part[1]), high = _mm512_mask_mov_epi8(part[2], bit4, part[3]);
    const __m512i v = _mm512_mask_mov_epi8(low, bit5, high);
    _mm512_storeu_si512(q, _mm512_mask_sub_epi8(v, _mm512_movepi8_mask(c), _mm512_setzero_si512(), v));
}
#include "kernels/body/sparse.h"
