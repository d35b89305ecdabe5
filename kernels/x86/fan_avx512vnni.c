/* The columns of a label in fours, unpacked in registers, for vpdpbusd (gemm_i8_avx512vnni.c). */
#define HRK_VARIANT avx512vnni
#include <immintrin.h>

#include "kernels/body/variant.h"

static inline __m512i dot4(__m512i sum, __m512i x, __m512i w)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w));
    return sum;
}

/* Place (lane n, v, e) of a column is instance 16 v + 4 n + e: sum v has instances 16 v .. 16 v + 15. */
HRK_BEGIN(void, fan_i8, int64_t M, int64_t K, const uint32_t *inputs, hrk_fan_i8_args a)
{
    const int64_t padded = (K + HRK_QP - 1) / HRK_QP * HRK_QP;
    for (int64_t m = 0; m < M; m++, inputs += K) {
        const int8_t *w = a.w + m * padded;
        __m512i sum[4];
        for (int v = 0; v < 4; v++)
            sum[v] = _mm512_setzero_si512();
        for (int64_t k = 0; k < K; k += 4) {
            __m512i c[4];
            int32_t four;
            memcpy(&four, w + k, 4);
            for (int64_t i = 0; i < 4; i++) /* beyond K the weight is zero */
                c[i] = _mm512_loadu_si512(a.xc + (int64_t)inputs[k + i < K ? k + i : k] * a.pitch);
            const __m512i lo01 = _mm512_unpacklo_epi8(c[0], c[1]), hi01 = _mm512_unpackhi_epi8(c[0], c[1]);
            const __m512i lo23 = _mm512_unpacklo_epi8(c[2], c[3]), hi23 = _mm512_unpackhi_epi8(c[2], c[3]);
            const __m512i wm = _mm512_set1_epi32(four);
            sum[0] = dot4(sum[0], _mm512_unpacklo_epi16(lo01, lo23), wm);
            sum[1] = dot4(sum[1], _mm512_unpackhi_epi16(lo01, lo23), wm);
            sum[2] = dot4(sum[2], _mm512_unpacklo_epi16(hi01, hi23), wm);
            sum[3] = dot4(sum[3], _mm512_unpackhi_epi16(hi01, hi23), wm);
        }
        const __m512i offset = _mm512_set1_epi32((int)(128u * (uint32_t)a.w_sum[m]));
        const __m512 scale = _mm512_set1_ps(a.w_scale[m]);
        for (int v = 0; v < 2 * a.panels; v++) {
            const __m512 s = _mm512_cvtepi32_ps(_mm512_sub_epi32(sum[v], offset));
            _mm512_storeu_ps(a.c + v / 2 * a.step + m * HRK_BP + v % 2 * 16,
                             _mm512_mul_ps(s, _mm512_mul_ps(scale, _mm512_loadu_ps(a.x_scale + 16 * v))));
        }
    }
}
