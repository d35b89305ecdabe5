/* kernels/body/codes.h with vectors of 16. */
#define HRK_VARIANT avx512
#include <immintrin.h>

#define HRK_VL 16
#define FMA(a, b, c) ((vf)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
/* as the comparisons of hr_saturate: the second operand where it is NaN */
#define SMALLER(a, b) ((vf)_mm512_min_ps((__m512)(a), (__m512)(b)))
#define LARGER(a, b) ((vf)_mm512_max_ps((__m512)(a), (__m512)(b)))
#define LESS(a, b) _mm512_cmplt_epu32_mask((__m512i)(a), (__m512i)(b))
#define PICK(mask, a, b) ((vu)_mm512_mask_blend_epi32(mask, (__m512i)(b), (__m512i)(a)))
#define LEAST(a, b) ((vu)_mm512_min_epu32((__m512i)(a), (__m512i)(b)))
#define MOST_SIGNED(a, b) ((vu)_mm512_max_epi32((__m512i)(a), (__m512i)(b)))
#define ANY_NAN(v) _mm512_cmp_ps_mask((__m512)(v), (__m512)(v), _CMP_UNORD_Q)
#define FLOOR(x) ((vf)_mm512_roundscale_ps((__m512)(x), _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC))
#define RINT(x) ((vf)_mm512_roundscale_ps((__m512)(x), _MM_FROUND_CUR_DIRECTION))
#define TO_FLOAT(x) ((vf)_mm512_cvtepi32_ps((__m512i)(x)))
#define TO_INT(x) ((vu)_mm512_cvttps_epi32((__m512)(x)))
#define LOAD8(p) ((vu)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p))))
#define LOAD16(p) ((vu)_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)(p))))
#define LOAD_I8(p) ((vf)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p)))))
#define STORE8(p, v) _mm_storeu_si128((__m128i *)(void *)(p), _mm512_cvtepi32_epi8((__m512i)(v)))
#define STORE16(p, v) _mm256_storeu_si256((__m256i *)(void *)(p), _mm512_cvtepi32_epi16((__m512i)(v)))
#include "kernels/body/codes.h"
