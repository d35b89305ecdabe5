/* kernels/body/fan.h with 64 bytes in a vector. */
#define HRK_VARIANT avx512
#include <immintrin.h>

#include "kernels/body/variant.h"

#define HRK_VL 16
#define FAN_COLUMN 4
#define HRK_REGISTER(v) "+v"(v)
typedef __m512 native;
#define HRK_FMA(a, b, c) ((vec)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))

static inline __m128 add_to_four(const native *sum)
{
    const __m256 h = _mm256_add_ps(_mm512_castps512_ps256(*sum), _mm512_extractf32x8_ps(*sum, 1));
    return _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
}
#include "kernels/body/fan.h"

/* Four columns of 64 instances to groups of four bytes: place (lane n, v, e) of a column is instance 16 v + 4 n + e. */
HRK_BEGIN(void, gather_i8, int64_t K, const uint32_t *inputs, const uint8_t *xc, int64_t pitch, uint8_t *out)
{
    const int64_t groups = (K + HRK_QP - 1) / HRK_QP * (HRK_QP / 4);
    uint8_t *second = out + groups * HRK_BP * 4;
    for (int64_t k = 0; k < 4 * groups; k += 4, out += 128, second += 128) {
        __m512i c[4];
        for (int i = 0; i < 4; i++)
            c[i] = k + i < K ? _mm512_loadu_si512(xc + (int64_t)inputs[k + i] * pitch) : _mm512_set1_epi8(-128);
        const __m512i lo01 = _mm512_unpacklo_epi8(c[0], c[1]), hi01 = _mm512_unpackhi_epi8(c[0], c[1]);
        const __m512i lo23 = _mm512_unpacklo_epi8(c[2], c[3]), hi23 = _mm512_unpackhi_epi8(c[2], c[3]);
        _mm512_storeu_si512(out, _mm512_unpacklo_epi16(lo01, lo23));
        _mm512_storeu_si512(out + 64, _mm512_unpackhi_epi16(lo01, lo23));
        _mm512_storeu_si512(second, _mm512_unpacklo_epi16(hi01, hi23));
        _mm512_storeu_si512(second + 64, _mm512_unpackhi_epi16(hi01, hi23));
    }
}
