/* kernels/body/sparse.h with 64 bytes in a vector. */
#define HRK_VARIANT avx512
#include <immintrin.h>

#include "dtype/keep.h"
#include "kernels/body/keep_bound.h"
#include "kernels/body/variant.h"

#define HRK_VL 16
typedef __m512 native;
#define HRK_FMA(a, b, c) ((vec)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))

enum { BYTES = 64 };

/* A table of 64 bytes is four tables of 16, chosen by bits 4 and 5 of the index. */
static inline int32_t look_up(const uint8_t *codes, int base, const uint8_t *table, int8_t *q)
{
    const __m512i c = _mm512_loadu_si512(codes);
    const __m512i i = _mm512_subs_epu8(_mm512_and_si512(c, _mm512_set1_epi8(0x7f)), _mm512_set1_epi8((char)base));
    __m512i part[4];
    for (int k = 0; k < 4; k++)
        part[k] = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_load_si128((const __m128i *)(const void *)(table + 16 * k))), i);
    const __mmask64 bit4 = _mm512_test_epi8_mask(i, _mm512_set1_epi8(16)), bit5 = _mm512_test_epi8_mask(i, _mm512_set1_epi8(32));
    const __m512i low = _mm512_mask_mov_epi8(part[0], bit4, part[1]), high = _mm512_mask_mov_epi8(part[2], bit4, part[3]);
    const __m512i v = _mm512_mask_mov_epi8(low, bit5, high);
    const __m512i small = _mm512_and_si512(v, _mm512_set1_epi8(0x7f));
    _mm512_storeu_si512(q, _mm512_mask_sub_epi8(small, _mm512_movepi8_mask(c), _mm512_setzero_si512(), small));
    return (int32_t)__builtin_popcountll(_mm512_movepi8_mask(v) & _mm512_test_epi8_mask(c, _mm512_set1_epi8(0x7f)));
}

/* Sums over whole vectors; returns where they end. */
static inline int64_t sum_bytes(int64_t n, const int8_t *q, hrk_quantized *r)
{
    const __m512i ones = _mm512_set1_epi16(1);
    __m512i sum = _mm512_setzero_si512(), square = sum;
    int64_t i = 0;
    for (; i + BYTES <= n; i += BYTES) {
        const __m512i c = _mm512_loadu_si512(q + i), size = _mm512_abs_epi8(c);
        sum = _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_maddubs_epi16(_mm512_set1_epi8(1), c), ones));
        const __m512i low = _mm512_cvtepu8_epi16(_mm512_castsi512_si256(size)), high = _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64(size, 1));
        square = _mm512_add_epi32(square, _mm512_add_epi32(_mm512_madd_epi16(low, low), _mm512_madd_epi16(high, high)));
    }
    r->sum += _mm512_reduce_add_epi32(sum);
    r->square += _mm512_reduce_add_epi32(square);
    return i;
}

static inline void e4m3_values32(const uint8_t *codes, native *v)
{
    const __m512i c = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)codes));
    const __m512i h = _mm512_and_si512(_mm512_slli_epi16(c, 7), _mm512_set1_epi16((short)0xBFFF)); /* half precision, 2^-8 of the value */
    v[0] = _mm512_cvtph_ps(_mm512_castsi512_si256(h));
    v[1] = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(h, 1));
}

static inline void bf16_values32(const uint8_t *codes, native *v)
{
    for (int i = 0; i < 2; i++) {
        const __m512i c = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)(codes + 32 * i)));
        v[i] = _mm512_castsi512_ps(_mm512_slli_epi32(c, 16));
    }
}

static inline void i8_values32(const uint8_t *codes, native *v)
{
    for (int i = 0; i < 2; i++)
        v[i] = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(codes + 16 * i))));
}

static inline float add_chains(const native *sum)
{
    const __m256 h = _mm256_add_ps(_mm512_castps512_ps256(*sum), _mm512_extractf32x8_ps(*sum, 1));
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_shuffle_ps(q, q, 1)));
}

static inline uint32_t not_less(__m512 a, __m512 b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_NLT_UQ);
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
