/* The panel product with VL-wide vectors: MR rows of c by NV vectors stay in registers over the whole sum.
 *
 * Each element of c is one chain of fused multiply-adds over k, exactly as in the reference, so the register tile
 * changes speed only. Per k: NV loads of the panel and MR broadcasts feed MR * NV multiply-adds, about 97 % of what the
 * machine's multiply-adders can do, as long as all of it stays in registers. Included with HRK_VL (floats in a vector), for each
 * panel width a tile (MR, NV), HRK_FMA, and HRK_KEEP(b), which makes the compiler load a panel vector once rather than in each of its
 * multiply-adds. With HRK_PAIRS(a, b, c) it is the product of pairs of bf16: two multiply-adds a lane, the upper half of the pair first. */
#include "kernels/body/variant.h"

typedef float vec __attribute__((vector_size(HRK_VL * 4), aligned(4), may_alias));

#ifdef HRK_PAIRS
typedef uint32_t operand;
typedef hrk_left16 left_operand;
#define STEP                 HRK_PAIRS
#define PRODUCT(width)       HRK_GEMM16(gemm16_##width)
#else
typedef float operand;
typedef hrk_left left_operand;
#define STEP                 HRK_FMA
#define PRODUCT(width)       HRK_GEMM_PANEL(gemm_panel_##width)
#endif
typedef operand operands __attribute__((vector_size(HRK_VL * 4), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline))

/* `rows` <= 12 and `nv` <= 4 are constants at every call: the loops unroll and acc lives in registers. */
INLINE void micro(const int rows, const int nv, int64_t width, int64_t K, left_operand A, const operand *panel, float *c,
                  int64_t ldc, float scale, int accumulate)
{
    vec acc[12][4];
    for (int m = 0; m < rows; m++)
        for (int v = 0; v < nv; v++)
            acc[m][v] = (vec){0};
    for (int64_t k0 = 0; k0 < K; k0 += A.kb) {
        const int64_t kn = K - k0 < A.kb ? K - k0 : A.kb;
        const operand *a = A.a;
        A.a += A.block;
        for (int64_t k = 0; k < kn; k++) {
            operands b[4];
            for (int v = 0; v < nv; v++) {
                b[v] = *(const operands *)(const void *)(panel + v * HRK_VL);
                HRK_KEEP(b[v]);
            }
            for (int m = 0; m < rows; m++) {
                const operands x = a[m * A.row] - (operands){0};
                for (int v = 0; v < nv; v++)
                    acc[m][v] = STEP(x, b[v], acc[m][v]);
            }
            a += A.step;
            panel += width;
        }
    }
    __asm__("" : "+m"(scale)); /* or its vector would be made before the loop, and cost a register there */
    for (int m = 0; m < rows; m++) {
        for (int v = 0; v < nv; v++) {
            vec *out = (vec *)(void *)(c + m * ldc + v * HRK_VL);
            const vec s = scale - (vec){0};
            if (accumulate)
                *out = HRK_FMA(s, acc[m][v], *out);
            else
                *out = s * acc[m][v];
        }
    }
}

/* All rows for the columns [0, nv * VL) of the panel: full tiles, fours (eight rows are two of them), then single rows. */
#define STRIP(name, MR, NV)                                                                                            \
    static void name(int64_t width, int64_t M, int64_t K, left_operand A, const operand *panel, float *c, int64_t ldc,       \
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

PRODUCT(bp)
{
    for (int64_t j = 0; j < HRK_BP; j += HRK_BP_NV * HRK_VL)
        strip_bp(HRK_BP, M, K, A, panel + j, c + j, ldc, scale, accumulate);
}

PRODUCT(dp)
{
    for (int64_t j = 0; j < HRK_DP; j += HRK_DP_NV * HRK_VL)
        strip_dp(HRK_DP, M, K, A, panel + j, c + j, ldc, scale, accumulate);
}
