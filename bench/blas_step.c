/* Three products for each chunk of labels: Z = X W^T, a sigmoid in vectors, the positives, dX += G W, W -= lr G^T X (beta = 1, so
 * no array for dW). Compiled with -O3: at -O2 gcc leaves the sigmoid scalar, which costs this step 7 to 20 %. */
#include "blas_step.h"

#include "dtype/dtype.h"

#include <cblas.h>

/* To about 1e-6; a polynomial of degree 5, as in ours. */
#if defined(__x86_64__)
__attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#endif
static void sigmoid_all(int64_t n, float bias, float *restrict z)
{
    for (int64_t i = 0; i < n; i++) {
        float v = z[i] + bias;
        v = v < -80 ? -80 : v > 80 ? 80 : v;
        const float t = v * 1.44269504f + 12582912.0f, k = t - 12582912.0f, r = v - k * 0.693147181f;
        const float p = 1 + r * (1 + r * (0.5f + r * (0.166666667f + r * (0.0416666667f + r * 0.00833333333f))));
        const float e = hr_bits_f32(hr_f32_bits(p) + ((hr_f32_bits(t) - hr_f32_bits(12582912.0f)) << 23));
        z[i] = e / (1 + e);
    }
}

void blas_step(int64_t B, int64_t D, int64_t L, const float *x, float *w, float *z, float *dx, const uint64_t *positives,
               int64_t num_positives, float bias, float lr)
{
    const int b = (int)B, d = (int)D;
    memset(dx, 0, (size_t)(B * D) * sizeof *dx);
    for (int64_t l = 0, p = 0; l < L; l += BLAS_CHUNK) {
        const int n = (int)(L - l < BLAS_CHUNK ? L - l : BLAS_CHUNK);
        float *wl = w + l * D;
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, b, n, d, 1, x, d, wl, d, 0, z, n);
        sigmoid_all((int64_t)b * n, bias, z);
        for (; p < num_positives && (int64_t)(positives[p] >> 32) < l + n; p++)
            z[(int64_t)(uint32_t)positives[p] * n + (int64_t)(positives[p] >> 32) - l] -= 1;
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, b, d, n, 1, z, n, wl, d, 1, dx, d);
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, n, d, b, -lr, z, n, x, d, 1, wl, d);
    }
}
