/* kernels/body/codes.h with vectors of 8. */
#define HRK_VARIANT avx2
#include <immintrin.h>

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
#define ANY_NAN(v) _mm256_movemask_ps(_mm256_cmp_ps((__m256)(v), (__m256)(v), _CMP_UNORD_Q))
#define FLOOR(x) ((vf)_mm256_floor_ps((__m256)(x)))
#define RINT(x) ((vf)_mm256_round_ps((__m256)(x), _MM_FROUND_CUR_DIRECTION))
#define TO_FLOAT(x) ((vf)_mm256_cvtepi32_ps((__m256i)(x)))
#define TO_INT(x) ((vu)_mm256_cvttps_epi32((__m256)(x)))
#define LOAD8(p) ((vu)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(p))))
#define LOAD16(p) ((vu)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p))))
#define LOAD_I8(p) ((vf)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(p)))))
#define STORE8(p, v) _mm_storel_epi64((__m128i *)(void *)(p), narrow8((__m256i)(v)))
#define STORE16(p, v) _mm_storeu_si128((__m128i *)(void *)(p), narrow16((__m256i)(v)))

static inline __m128i narrow16(__m256i v)
{
    return _mm_packus_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
}
static inline __m128i narrow8(__m256i v)
{
    const __m128i w = narrow16(v);
    return _mm_packus_epi16(w, w);
}
#include "kernels/body/codes.h"
