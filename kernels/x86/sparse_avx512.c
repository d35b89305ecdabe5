/* kernels/body/sparse.h with 64 bytes in a vector. */
#define HRK_VARIANT avx512
#include <immintrin.h>

#include "dtype/keep.h"
#include "kernels/body/keep_bound.h"
#include "kernels/body/variant.h"

#define HRK_VL 16
typedef __m512 native;
#define HRK_FMA(a, b, c) ((vec)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))

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

static inline __m512i most_draw(const float *z, float zscale, float bias, float bound)
{
    const __m512 v = _mm512_fmadd_ps(_mm512_set1_ps(zscale), _mm512_loadu_ps(z), _mm512_set1_ps(bias));
    const __m512 bits = _mm512_min_ps(_mm512_fmadd_ps(v, _mm512_set1_ps(LOG2E_BITS), _mm512_set1_ps(bound)), _mm512_set1_ps(MOST_BITS));
    return _mm512_cvttps_epi32(_mm512_castsi512_ps(_mm512_cvtps_epi32(bits)));
}

static inline uint32_t may_keep(const float *z, const uint16_t *draws, float zscale, float bias, float bound)
{
    const __m512i most = _mm512_packus_epi32(most_draw(z, zscale, bias, bound), most_draw(z + 16, zscale, bias, bound));
    const __m512i in_order = _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), most);
    return _mm512_cmple_epu16_mask(_mm512_loadu_si512(draws), in_order);
}
#include "kernels/body/sparse.h"
