/* kernels/body/fan.h with 32 bytes in a vector. */
#define HRK_VARIANT avx2
#include <immintrin.h>

#include "kernels/body/variant.h"

#define HRK_VL 8
#define FAN_COLUMN 1
typedef __m256 native;
#define HRK_FMA(a, b, c) ((vec)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))

static inline float add_chains(const native *sum)
{
    const __m256 h = _mm256_add_ps(sum[0], sum[1]);
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_shuffle_ps(q, q, 1)));
}
#include "kernels/body/fan.h"
#include "kernels/body/fan_lists.h"

/* Four columns of 64 instances to groups of four bytes: 16 bytes at place n of a column are instances 16 v + 4 n + e, v, e = 0..3. */
HRK_BEGIN(void, gather_i8, int64_t K, const uint32_t *inputs, const uint8_t *xc, int64_t pitch, uint8_t *out)
{
    const int64_t groups = (K + HRK_QP - 1) / HRK_QP * (HRK_QP / 4);
    uint8_t *second = out + groups * HRK_BP * 4;
    for (int64_t k = 0; k < 4 * groups; k += 4, out += 128, second += 128)
        for (int64_t n = 0; n < 4; n++) {
            __m128i c[4];
            for (int i = 0; i < 4; i++)
                c[i] = k + i < K ? _mm_loadu_si128((const __m128i *)(const void *)(xc + (int64_t)inputs[k + i] * pitch + 16 * n))
                                 : _mm_set1_epi8(-128);
            const __m128i lo01 = _mm_unpacklo_epi8(c[0], c[1]), hi01 = _mm_unpackhi_epi8(c[0], c[1]);
            const __m128i lo23 = _mm_unpacklo_epi8(c[2], c[3]), hi23 = _mm_unpackhi_epi8(c[2], c[3]);
            _mm_storeu_si128((__m128i *)(void *)(out + 16 * n), _mm_unpacklo_epi16(lo01, lo23));
            _mm_storeu_si128((__m128i *)(void *)(out + 64 + 16 * n), _mm_unpackhi_epi16(lo01, lo23));
            _mm_storeu_si128((__m128i *)(void *)(second + 16 * n), _mm_unpacklo_epi16(hi01, hi23));
            _mm_storeu_si128((__m128i *)(void *)(second + 64 + 16 * n), _mm_unpackhi_epi16(hi01, hi23));
        }
}

#include "kernels/body/fan_i8.h"
