/* kernels/body/sparse.h with 64 bytes in a vector. */
#define HRK_VARIANT avx512
#include <immintrin.h>

#include "dtype/keep.h"
#include "kernels/body/variant.h"

#define HRK_VL 16
#define HRK_FMA(a, b, c) ((vec)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))

#define LOG2E_BITS 0x1.715476p+23f
#define ONE_BITS   (127.0f * 0x1p23f + 4096.0f)

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

static inline int32_t sum_bytes(const int8_t *q)
{
    const __m512i c = _mm512_xor_si512(_mm512_loadu_si512(q), _mm512_set1_epi8(-128));
    return (int32_t)_mm512_reduce_add_epi64(_mm512_sad_epu8(c, _mm512_setzero_si512())) - 128 * BYTES;
}

static inline uint32_t may_keep(const float *z, const uint16_t *draws, float zscale, float bias, float unit)
{
    uint32_t mask = 0;
    for (int j = 0; j < HRK_BP; j += 16) {
        __m512 v = _mm512_fmadd_ps(_mm512_set1_ps(zscale), _mm512_loadu_ps(z + j), _mm512_set1_ps(bias));
        v = _mm512_max_ps(_mm512_min_ps(v, _mm512_set1_ps(80)), _mm512_set1_ps(-80));
        const __m512i bound = _mm512_cvtps_epi32(_mm512_fmadd_ps(v, _mm512_set1_ps(LOG2E_BITS), _mm512_set1_ps(ONE_BITS)));
        const __m512i draw = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)(draws + j)));
        const __m512i least = _mm512_castps_si512(_mm512_mul_ps(_mm512_cvtepi32_ps(draw), _mm512_set1_ps(unit)));
        mask |= (uint32_t)_mm512_cmple_epi32_mask(least, bound) << j;
    }
    return mask;
}
#include "kernels/body/sparse.h"
