/* kernels/body/fan.h with 32 bytes in a vector. */
#define HRK_VARIANT avx2
#include <immintrin.h>

#include "kernels/body/variant.h"

#define HRK_VL 8
#define FAN_COLUMN 1
#define HRK_REGISTER(v) "+x"(v)
typedef __m256 native;
#define HRK_FMA(a, b, c) ((vec)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))

static inline __m128 add_to_four(const native *sum)
{
    const __m256 h = _mm256_add_ps(sum[0], sum[1]);
    return _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
}
#include "kernels/body/fan.h"
#include "kernels/body/fan_lists.h"
#include "kernels/body/columns.h"

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

/* Bytes of one half of four columns, unpacked; |w| times x with w's sign, as in gemm_i8_avx2.c. */
INLINE void add_columns(__m256i *sum, const __m256i *c, const int8_t *w)
{
    int32_t fours;
    memcpy(&fours, w, 4);
    const __m256i wm = _mm256_set1_epi32(fours), size = _mm256_abs_epi8(wm);
    const __m256i lo01 = _mm256_unpacklo_epi8(c[0], c[1]), hi01 = _mm256_unpackhi_epi8(c[0], c[1]);
    const __m256i lo23 = _mm256_unpacklo_epi8(c[2], c[3]), hi23 = _mm256_unpackhi_epi8(c[2], c[3]);
    const __m256i x[4] = {_mm256_unpacklo_epi16(lo01, lo23), _mm256_unpackhi_epi16(lo01, lo23), _mm256_unpacklo_epi16(hi01, hi23),
                          _mm256_unpackhi_epi16(hi01, hi23)};
    for (int v = 0; v < 4; v++) {
        const __m256i pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(x[v], wm));
        sum[v] = _mm256_add_epi32(sum[v], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
}

/* Label m, places 32 half .. 32 half + 31 of the columns: sum v has instances 16 v + 8 half .. 16 v + 8 half + 7. */
INLINE void half_label(int64_t half, int64_t m, int64_t K, const uint32_t *inputs, const int8_t *w, const hrk_fan_i8_args *a)
{
    __m256i sum[4];
    for (int v = 0; v < 4; v++)
        sum[v] = _mm256_setzero_si256();
    for (int64_t k = 0; k < K; k += 4) {
        __m256i c[4];
        for (int64_t i = 0; i < 4; i++) { /* beyond K the weight is zero */
            const uint8_t *x = a->xc + (int64_t)inputs[k + i < K ? k + i : k] * a->pitch + 32 * half;
            c[i] = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)(const void *)x), _mm256_set1_epi8(-128));
        }
        add_columns(sum, c, w + k);
    }
    for (int v = 0; v < 2 * a->panels; v++) {
        const int64_t b = 16 * v + 8 * half;
        const __m256 scale = _mm256_mul_ps(_mm256_set1_ps(a->w_scale[m]), _mm256_loadu_ps(a->x_scale + b));
        _mm256_storeu_ps(a->c + v / 2 * a->step + m * HRK_BP + b % HRK_BP, _mm256_mul_ps(_mm256_cvtepi32_ps(sum[v]), scale));
    }
}

HRK_BEGIN(void, fan_i8, int64_t M, int64_t K, const uint32_t *inputs, hrk_fan_i8_args a)
{
    const int64_t padded = (K + HRK_QP - 1) / HRK_QP * HRK_QP;
    for (int64_t m = 0; m < M; m++)
        for (int64_t half = 0; half < 2; half++)
            half_label(half, m, K, inputs + m * K, a.w + m * padded, &a);
}
