/* kernels/body/codes.h with vectors of 16. */
#define HRK_VARIANT avx512
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define HRK_VL 16
#define FMA(a, b, c) ((vf)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
/* as the comparisons of hr_saturate: the second operand where it is NaN */
#define SMALLER(a, b) ((vf)_mm512_min_ps((__m512)(a), (__m512)(b)))
#define LARGER(a, b) ((vf)_mm512_max_ps((__m512)(a), (__m512)(b)))
#define LESS(a, b) _mm512_cmplt_epu32_mask((__m512i)(a), (__m512i)(b))
#define PICK(mask, a, b) ((vu)_mm512_mask_blend_epi32(mask, (__m512i)(b), (__m512i)(a)))
#define LEAST(a, b) ((vu)_mm512_min_epu32((__m512i)(a), (__m512i)(b)))
#define MOST_SIGNED(a, b) ((vu)_mm512_max_epi32((__m512i)(a), (__m512i)(b)))
#define ANY_NAN(a, b) _mm512_cmp_ps_mask((__m512)(a), (__m512)(b), _CMP_UNORD_Q)
#define FLOOR(x) ((vf)_mm512_roundscale_ps((__m512)(x), _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC))
#define RINT(x) ((vf)_mm512_roundscale_ps((__m512)(x), _MM_FROUND_CUR_DIRECTION))
#define TO_FLOAT(x) ((vf)_mm512_cvtepi32_ps((__m512i)(x)))
#define TO_INT(x) ((vu)_mm512_cvttps_epi32((__m512)(x)))
#define LOAD8(p) ((vu)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p))))
#define LOAD16(p) ((vu)_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)(p))))
#define LOAD_I8(p) ((vf)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p)))))
/* 2^-8 of the value: its bits, moved, are those of half precision */
#define LOAD_E4M3(p)                                                                                                   \
    ((vf)_mm512_cvtph_ps(_mm256_and_si256(                                                                             \
        _mm256_slli_epi16(_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(p))), 7), _mm256_set1_epi16((short)0xBFFF))))

/* Four vectors of codes, side by side; a code of `minus` alone becomes 0. */
static inline void store8(void *p, const void *codes, uint32_t minus)
{
    __m512i c[4];
    memcpy(c, codes, sizeof c);
    const __m512i all = _mm512_packus_epi16(_mm512_packus_epi32(c[0], c[1]), _mm512_packus_epi32(c[2], c[3])); /* in each 128 bits */
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __mmask64 other = _mm512_cmpneq_epi8_mask(all, _mm512_set1_epi8((char)minus));
    _mm512_storeu_si512(p, _mm512_permutexvar_epi32(order, _mm512_maskz_mov_epi8(other, all)));
}
static inline void store16(void *p, const void *codes, uint32_t minus)
{
    __m512i c[4];
    memcpy(c, codes, sizeof c);
    for (int h = 0; h < 2; h++) {
        const __m512i all = _mm512_packus_epi32(c[2 * h], c[2 * h + 1]);
        const __mmask32 other = _mm512_cmpneq_epi16_mask(all, _mm512_set1_epi16((short)minus));
        const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
        _mm512_storeu_si512((char *)p + 64 * h, _mm512_permutexvar_epi64(order, _mm512_maskz_mov_epi16(other, all)));
    }
}
#include "kernels/body/codes.h"
