/* The panel products as their formulas read. */
#include "dtype/pairs.h"
#include "kernels/body/variant.h"

#define GEMM(width, multiply_add)                                                                                      \
    for (int64_t m = 0; m < M; m++) {                                                                                  \
        for (int64_t j = 0; j < width; j++) {                                                                          \
            float s = 0;                                                                                               \
            for (int64_t k = 0; k < K; k++)                                                                            \
                s = multiply_add(A.a[m * A.row + k / A.kb * A.block + k % A.kb * A.step], panel[k * width + j], s);    \
            c[m * ldc + j] = accumulate ? fmaf(scale, s, c[m * ldc + j]) : scale * s;                                  \
        }                                                                                                              \
    }

HRK_GEMM_PANEL(gemm_panel_bp)
{
    GEMM(HRK_BP, fmaf)
}

HRK_GEMM_PANEL(gemm_panel_dp)
{
    GEMM(HRK_DP, fmaf)
}

HRK_GEMM16(gemm16_bp)
{
    GEMM(HRK_BP, hr_pair_dot)
}

HRK_GEMM16(gemm16_dp)
{
    GEMM(HRK_DP, hr_pair_dot)
}
