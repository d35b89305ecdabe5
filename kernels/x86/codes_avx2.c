/* kernels/body/codes.h with vectors of 8. */
#define HRK_VARIANT avx2
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define HRK_VL 8
#define FMA(a, b, c) ((vf)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
/* as the comparisons of hr_saturate: the second operand where it is NaN */
#define SMALLER(a, b) ((vf)_mm256_min_ps((__m256)(a), (__m256)(b)))
#define LARGER(a, b) ((vf)_mm256_max_ps((__m256)(a), (__m256)(b)))
/* both below 2^31 at every call, so the signed comparison will do */
#define LESS(a, b) _mm256_cmpgt_epi32((__m256i)(b), (__m256i)(a))
#define PICK(mask, a, b) ((vu)_mm256_blendv_epi8((__m256i)(b), (__m256i)(a), mask))
#define LEAST(a, b) ((vu)_mm256_min_epu32((__m256i)(a), (__m256i)(b)))
#define MOST_SIGNED(a, b) ((vu)_mm256_max_epi32((__m256i)(a), (__m256i)(b)))
#define ANY_NAN(a, b) _mm256_movemask_ps(_mm256_cmp_ps((__m256)(a), (__m256)(b), _CMP_UNORD_Q))
#define FLOOR(x) ((vf)_mm256_floor_ps((__m256)(x)))
#define RINT(x) ((vf)_mm256_round_ps((__m256)(x), _MM_FROUND_CUR_DIRECTION))
#define TO_FLOAT(x) ((vf)_mm256_cvtepi32_ps((__m256i)(x)))
#define TO_INT(x) ((vu)_mm256_cvttps_epi32((__m256)(x)))
#define LOAD8(p) ((vu)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(p))))
#define LOAD16(p) ((vu)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p))))
#define LOAD_I8(p) ((vf)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(p)))))
/* 2^-8 of the value: its bits, moved, are those of half precision */
#define LOAD_E4M3(p)                                                                                                   \
    ((vf)_mm256_cvtph_ps(_mm_and_si128(_mm_slli_epi16(_mm_cvtepi8_epi16(_mm_loadl_epi64((const __m128i *)(const void *)(p))), 7),           \
                                       _mm_set1_epi16((short)0xBFFF))))

/* Four vectors of codes, side by side; a code of `minus` alone becomes 0. */
static inline void store8(void *p, const void *codes, uint32_t minus)
{
    __m256i c[4];
    memcpy(c, codes, sizeof c);
    const __m256i all = _mm256_packus_epi16(_mm256_packus_epi32(c[0], c[1]), _mm256_packus_epi32(c[2], c[3])); /* in each 128 bits */
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7), lone = _mm256_cmpeq_epi8(all, _mm256_set1_epi8((char)minus));
    _mm256_storeu_si256((__m256i *)p, _mm256_permutevar8x32_epi32(_mm256_andnot_si256(lone, all), order));
}
static inline void store16(void *p, const void *codes, uint32_t minus)
{
    __m256i c[4];
    memcpy(c, codes, sizeof c);
    for (int h = 0; h < 2; h++) {
        const __m256i all = _mm256_packus_epi32(c[2 * h], c[2 * h + 1]), lone = _mm256_cmpeq_epi16(all, _mm256_set1_epi16((short)minus));
        _mm256_storeu_si256((__m256i *)p + h, _mm256_permute4x64_epi64(_mm256_andnot_si256(lone, all), 0xD8));
    }
}
#include "kernels/body/codes.h"
