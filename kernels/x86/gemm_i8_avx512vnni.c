/* vpdpbusd adds four products of unsigned (x + 128) and signed (w) bytes to each 32-bit lane, so a row's sum times 128 comes off at
 * the end. 12 labels by 2 vectors of 16 instances are in registers over the whole sum, as in gemm_panel. */
#define HRK_VARIANT avx512vnni
#include <immintrin.h>

#include "kernels/body/variant.h"

#define INLINE static inline __attribute__((always_inline))

/* gcc 12 sometimes spills accumulators of the intrinsic; asm with "+v" keeps them in place. */
INLINE __m512i dot4(__m512i sum, __m512i x, __m512i w)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w));
    return sum;
}

INLINE void micro(const int rows, int64_t groups, const int8_t *w, int64_t pitch, const int32_t *w_sum, const float *w_scale,
                  const uint8_t *x, const float *x_scale, float *c, const uint8_t *ahead, size_t step)
{
    __m512i acc[12][2];
    for (int m = 0; m < rows; m++)
        acc[m][0] = acc[m][1] = _mm512_setzero_si512();
    for (int64_t k = 0; k < groups; k++, ahead += step) {
        __builtin_prefetch(ahead, 0, 2);
        if (step > 64)
            __builtin_prefetch(ahead + 64, 0, 2);
        const __m512i x0 = _mm512_loadu_si512(x + k * 128), x1 = _mm512_loadu_si512(x + k * 128 + 64);
        for (int m = 0; m < rows; m++) {
            int32_t four;
            memcpy(&four, w + m * pitch + 4 * k, 4);
            const __m512i wm = _mm512_set1_epi32(four);
            acc[m][0] = dot4(acc[m][0], x0, wm);
            acc[m][1] = dot4(acc[m][1], x1, wm);
        }
    }
    for (int m = 0; m < rows; m++)
        for (int v = 0; v < 2; v++) {
            const __m512i s = _mm512_sub_epi32(acc[m][v], _mm512_set1_epi32((int)(128u * (uint32_t)w_sum[m])));
            const __m512 scale = _mm512_mul_ps(_mm512_set1_ps(w_scale[m]), _mm512_loadu_ps(x_scale + 16 * v));
            _mm512_storeu_ps(c + m * HRK_BP + 16 * v, _mm512_mul_ps(_mm512_cvtepi32_ps(s), scale));
        }
}

#define ROWS(n)                                                                                                        \
    for (; M >= n; M -= n, w += n * pitch, w_sum += n, w_scale += n, c += n * HRK_BP, ahead += (size_t)groups * step)  \
        micro(n, groups, w, pitch, w_sum, w_scale, x, x_scale, c, ahead, step);

HRK_GEMM_I8(gemm_i8)
{
    const int64_t calls = groups * (M / 12 + M % 12 / 4 + M % 4);
    const size_t step = calls > 0 ? ahead_bytes / (size_t)calls : 0;
    ROWS(12)
    ROWS(4)
    ROWS(1)
}
