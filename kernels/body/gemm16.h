/* The panel product on pairs of bf16, as gemm_panel.h, and the conversions that make the pairs. Included with HRK_VL, the tiles (MR, NV),
 * and DOT2(a, b, c): two multiply-adds a lane, the upper half of the pair first. */
#include "dtype/pairs.h"
#include "kernels/body/variant.h"

typedef float vec __attribute__((vector_size(HRK_VL * 4), aligned(4), may_alias));
typedef uint32_t pairs __attribute__((vector_size(HRK_VL * 4), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline))

INLINE void micro(const int rows, const int nv, int64_t width, int64_t K, hrk_left16 A, const uint32_t *panel, float *c, int64_t ldc,
                  float scale, int accumulate)
{
    vec acc[12][4];
    for (int m = 0; m < rows; m++)
        for (int v = 0; v < nv; v++)
            acc[m][v] = (vec){0};
    for (int64_t k0 = 0; k0 < K; k0 += A.kb) {
        const int64_t kn = K - k0 < A.kb ? K - k0 : A.kb;
        const uint32_t *a = A.a;
        A.a += A.block;
        for (int64_t k = 0; k < kn; k++) {
            pairs b[4];
            for (int v = 0; v < nv; v++)
                b[v] = *(const pairs *)(const void *)(panel + v * HRK_VL);
            for (int m = 0; m < rows; m++) {
                const pairs x = a[m * A.row] - (pairs){0};
                for (int v = 0; v < nv; v++)
                    acc[m][v] = DOT2(x, b[v], acc[m][v]);
            }
            a += A.step;
            panel += width;
        }
    }
    __asm__("" : "+m"(scale)); /* or its vector would be made before the loop, and cost a register there */
    for (int m = 0; m < rows; m++)
        for (int v = 0; v < nv; v++) {
            vec *out = (vec *)(void *)(c + m * ldc + v * HRK_VL);
            const vec s = scale - (vec){0};
            if (accumulate)
                *out = HRK_FMA(s, acc[m][v], *out);
            else
                *out = s * acc[m][v];
        }
}

#define STRIP(name, MR, NV)                                                                                            \
    static void name(int64_t width, int64_t M, int64_t K, hrk_left16 A, const uint32_t *panel, float *c, int64_t ldc,  \
                     float scale, int accumulate)                                                                      \
    {                                                                                                                  \
        for (; M >= MR && M != 8; M -= MR, A.a += MR * A.row, c += MR * ldc)                                           \
            micro(MR, NV, width, K, A, panel, c, ldc, scale, accumulate);                                              \
        for (; M >= 4; M -= 4, A.a += 4 * A.row, c += 4 * ldc)                                                         \
            micro(4, NV, width, K, A, panel, c, ldc, scale, accumulate);                                               \
        for (; M > 0; M--, A.a += A.row, c += ldc)                                                                     \
            micro(1, NV, width, K, A, panel, c, ldc, scale, accumulate);                                               \
    }
STRIP(strip_bp, HRK_BP_MR, HRK_BP_NV)
STRIP(strip_dp, HRK_DP_MR, HRK_DP_NV)

HRK_GEMM16(gemm16_bp)
{
    for (int64_t j = 0; j < HRK_BP; j += HRK_BP_NV * HRK_VL)
        strip_bp(HRK_BP, M, K, A, panel + j, c + j, ldc, scale, accumulate);
}

HRK_GEMM16(gemm16_dp)
{
    for (int64_t j = 0; j < HRK_DP; j += HRK_DP_NV * HRK_VL)
        strip_dp(HRK_DP, M, K, A, panel + j, c + j, ldc, scale, accumulate);
}
