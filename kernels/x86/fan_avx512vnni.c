/* The columns of a label in fours, unpacked in registers, for vpdpbusd (gemm_i8_avx512vnni.c); four labels side by side. */
#define HRK_VARIANT avx512vnni
#include <immintrin.h>

#include "kernels/body/variant.h"

#define INLINE static inline __attribute__((always_inline))

INLINE __m512i dot4(__m512i sum, __m512i x, __m512i w)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w));
    return sum;
}

/* Four columns at place (lane n, v, e), unpacked: sum v gets those of instances 16 v .. 16 v + 15. */
INLINE void add_columns(__m512i *sum, const __m512i *c, const int8_t *w)
{
    int32_t four;
    memcpy(&four, w, 4);
    const __m512i wm = _mm512_set1_epi32(four);
    const __m512i lo01 = _mm512_unpacklo_epi8(c[0], c[1]), hi01 = _mm512_unpackhi_epi8(c[0], c[1]);
    const __m512i lo23 = _mm512_unpacklo_epi8(c[2], c[3]), hi23 = _mm512_unpackhi_epi8(c[2], c[3]);
    sum[0] = dot4(sum[0], _mm512_unpacklo_epi16(lo01, lo23), wm);
    sum[1] = dot4(sum[1], _mm512_unpackhi_epi16(lo01, lo23), wm);
    sum[2] = dot4(sum[2], _mm512_unpacklo_epi16(hi01, hi23), wm);
    sum[3] = dot4(sum[3], _mm512_unpackhi_epi16(hi01, hi23), wm);
}

INLINE void finish_label(const __m512i *sum, int64_t m, const hrk_fan_i8_args *a)
{
    const __m512i offset = _mm512_set1_epi32((int)(128u * (uint32_t)a->w_sum[m]));
    const __m512 scale = _mm512_set1_ps(a->w_scale[m]);
    for (int v = 0; v < 2 * a->panels; v++) {
        const __m512 s = _mm512_cvtepi32_ps(_mm512_sub_epi32(sum[v], offset));
        _mm512_storeu_ps(a->c + v / 2 * a->step + m * HRK_BP + v % 2 * 16,
                         _mm512_mul_ps(s, _mm512_mul_ps(scale, _mm512_loadu_ps(a->x_scale + 16 * v))));
    }
}

INLINE void labels(const int rows, int64_t m, int64_t K, const uint32_t *inputs, const hrk_fan_i8_args *a)
{
    const int64_t padded = (K + HRK_QP - 1) / HRK_QP * HRK_QP;
    const int8_t *w = a->w + m * padded;
    __m512i sum[4][4];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < 4; v++)
            sum[r][v] = _mm512_setzero_si512();
    int64_t k = 0;
    for (; k + 4 <= K; k += 4)
        for (int r = 0; r < rows; r++) {
            __m512i c[4];
            for (int i = 0; i < 4; i++)
                c[i] = _mm512_loadu_si512(a->xc + (int64_t)inputs[r * K + k + i] * a->pitch);
            add_columns(sum[r], c, w + r * padded + k);
        }
    for (int r = 0; r < rows && k < K; r++) { /* beyond K the weight is zero */
        __m512i c[4];
        for (int i = 0; i < 4; i++)
            c[i] = _mm512_loadu_si512(a->xc + (int64_t)inputs[r * K + (k + i < K ? k + i : k)] * a->pitch);
        add_columns(sum[r], c, w + r * padded + k);
    }
    for (int r = 0; r < rows; r++)
        finish_label(sum[r], m + r, a);
}

HRK_BEGIN(void, fan_i8, int64_t M, int64_t K, const uint32_t *inputs, hrk_fan_i8_args a)
{
    enum { ROWS = 4 };
    int64_t m = 0;
    for (; m + ROWS <= M; m += ROWS)
        labels(ROWS, m, K, inputs + m * K, &a);
    for (; m < M; m++)
        labels(1, m, K, inputs + m * K, &a);
}
