/* The panel product as its formula reads. */
#include "kernels/body/variant.h"

static void gemm(int64_t width, int64_t M, int64_t K, hrk_left A, const float *panel, float *c, int64_t ldc, float scale,
                 int accumulate)
{
    for (int64_t m = 0; m < M; m++) {
        for (int64_t j = 0; j < width; j++) {
            float s = 0;
            for (int64_t k = 0; k < K; k++)
                s = fmaf(A.a[m * A.row + k / A.kb * A.block + k % A.kb * A.step], panel[k * width + j], s);
            c[m * ldc + j] = accumulate ? fmaf(scale, s, c[m * ldc + j]) : scale * s;
        }
    }
}

HRK_GEMM_PANEL(gemm_panel_bp)
{
    gemm(HRK_BP, M, K, A, panel, c, ldc, scale, accumulate);
}

HRK_GEMM_PANEL(gemm_panel_dp)
{
    gemm(HRK_DP, M, K, A, panel, c, ldc, scale, accumulate);
}
