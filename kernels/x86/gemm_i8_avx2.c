/* Without VNNI: |w| as unsigned times x with w's sign, both at most 127, so that the pair sums of vpmaddubsw (at most 32,258) never
 * saturate. 2 labels by 4 vectors of 8 instances in registers. */
#define HRK_VARIANT avx2
#include <immintrin.h>

#include "kernels/body/variant.h"

#define INLINE static inline __attribute__((always_inline))

INLINE void micro(const int rows, int64_t groups, const int8_t *w, int64_t pitch, const float *w_scale, const uint8_t *x,
                  const float *x_scale, float *c, const uint8_t *ahead, size_t step)
{
    __m256i acc[2][4];
    for (int m = 0; m < rows; m++)
        for (int v = 0; v < 4; v++)
            acc[m][v] = _mm256_setzero_si256();
    for (int64_t k = 0; k < groups; k++) {
        __builtin_prefetch(ahead + (size_t)k * step, 0, 2);
        __m256i xs[4];
        for (int v = 0; v < 4; v++)
            xs[v] = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)(const void *)(x + k * 128 + 32 * v)), _mm256_set1_epi8(-128));
        for (int m = 0; m < rows; m++) {
            int32_t four;
            memcpy(&four, w + m * pitch + 4 * k, 4);
            const __m256i wm = _mm256_set1_epi32(four), size = _mm256_abs_epi8(wm);
            for (int v = 0; v < 4; v++) {
                const __m256i pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(xs[v], wm));
                acc[m][v] = _mm256_add_epi32(acc[m][v], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
            }
        }
    }
    for (int m = 0; m < rows; m++)
        for (int v = 0; v < 4; v++) {
            const __m256 scale = _mm256_mul_ps(_mm256_set1_ps(w_scale[m]), _mm256_loadu_ps(x_scale + 8 * v));
            _mm256_storeu_ps(c + m * HRK_BP + 8 * v, _mm256_mul_ps(_mm256_cvtepi32_ps(acc[m][v]), scale));
        }
}

#include "kernels/body/gemm_i8.h"
