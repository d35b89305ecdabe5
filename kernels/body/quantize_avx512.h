/* kernels/body/quantize.h with 64 bytes in a vector, for each level that is worth a variant. */
#include <immintrin.h>

#define HRK_DECODE hrk_decode_avx512
#include "kernels/body/variant.h"

enum { BYTES = 64 };

/* Without VBMI a table of 64 bytes is four tables of 16, chosen by bits 4 and 5 of the index. */
static inline int32_t look_up(const uint8_t *codes, int base, const uint8_t *table, const bool count, int8_t *q)
{
    const __m512i c = _mm512_loadu_si512(codes);
    const __m512i i = _mm512_subs_epu8(_mm512_and_si512(c, _mm512_set1_epi8(0x7f)), _mm512_set1_epi8((char)base));
#ifdef __AVX512VBMI__
    const __m512i v = _mm512_permutexvar_epi8(i, _mm512_load_si512(table));
#else
    __m512i part[4];
    for (int k = 0; k < 4; k++)
        part[k] = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_load_si128((const __m128i *)(const void *)(table + 16 * k))), i);
    const __mmask64 bit4 = _mm512_test_epi8_mask(i, _mm512_set1_epi8(16)), bit5 = _mm512_test_epi8_mask(i, _mm512_set1_epi8(32));
    const __m512i low = _mm512_mask_mov_epi8(part[0], bit4, part[1]), high = _mm512_mask_mov_epi8(part[2], bit4, part[3]);
    const __m512i v = _mm512_mask_mov_epi8(low, bit5, high);
#endif
    const __m512i small = _mm512_and_si512(v, _mm512_set1_epi8(0x7f));
    _mm512_storeu_si512(q, _mm512_mask_sub_epi8(small, _mm512_movepi8_mask(c), _mm512_setzero_si512(), small));
    return !count ? 0 : (int32_t)__builtin_popcountll(_mm512_movepi8_mask(v) & _mm512_test_epi8_mask(c, _mm512_set1_epi8(0x7f)));
}

/* Sums over whole vectors; returns where they end. */
static inline int64_t sum_bytes(int64_t n, const int8_t *q, const bool squares, hrk_quantized *r)
{
    __m512i sum = _mm512_setzero_si512(), square = sum;
    int64_t i = 0;
    for (; i + BYTES <= n; i += BYTES) {
        const __m512i c = _mm512_loadu_si512(q + i);
#ifdef __AVX512VNNI__
        sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1), c);
#else
        sum = _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_maddubs_epi16(_mm512_set1_epi8(1), c), _mm512_set1_epi16(1)));
#endif
        if (!squares)
            continue;
        const __m512i size = _mm512_abs_epi8(c), low = _mm512_cvtepu8_epi16(_mm512_castsi512_si256(size)), high = _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64(size, 1));
        square = _mm512_add_epi32(square, _mm512_add_epi32(_mm512_madd_epi16(low, low), _mm512_madd_epi16(high, high)));
    }
    r->sum += _mm512_reduce_add_epi32(sum);
    if (squares)
        r->square += _mm512_reduce_add_epi32(square);
    return i;
}
#include "kernels/body/quantize.h"
