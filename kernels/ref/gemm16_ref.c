/* The product on pairs of bf16 as its formula reads. */
#include "dtype/pairs.h"
#include "kernels/body/variant.h"

static void gemm(int64_t width, int64_t M, int64_t K, hrk_left16 A, const uint32_t *panel, float *c, int64_t ldc, float scale,
                 int accumulate)
{
    for (int64_t m = 0; m < M; m++) {
        for (int64_t j = 0; j < width; j++) {
            float s = 0;
            for (int64_t k = 0; k < K; k++)
                s = hr_pair_dot(A.a[m * A.row + k / A.kb * A.block + k % A.kb * A.step], panel[k * width + j], s);
            c[m * ldc + j] = accumulate ? fmaf(scale, s, c[m * ldc + j]) : scale * s;
        }
    }
}

HRK_GEMM16(gemm16_bp)
{
    gemm(HRK_BP, M, K, A, panel, c, ldc, scale, accumulate);
}

HRK_GEMM16(gemm16_dp)
{
    gemm(HRK_DP, M, K, A, panel, c, ldc, scale, accumulate);
}
